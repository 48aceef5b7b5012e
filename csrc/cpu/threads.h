// A parallel_for on std::thread, for programs without a thread pool.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "walk.h"

namespace rwpm {

// Splits [0, count) into one range per thread. Rethrows the first exception of a body after all threads have ended.
inline ParallelFor parallel_for_threads(int64_t threads) {
  return [threads](int64_t count, const RangeBody& body) {
    const int64_t parts = std::max<int64_t>(1, std::min(threads, count));
    std::exception_ptr failure;
    std::mutex guard;
    const auto part = [&](int64_t k) {
      try {
        if (count > 0) body(count * k / parts, count * (k + 1) / parts);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(guard);
        if (!failure) failure = std::current_exception();
      }
    };
    std::vector<std::thread> others;
    others.reserve(parts - 1);  // nothing may throw while threads run
    int64_t started = 1;
    try {
      for (; started < parts; ++started) others.emplace_back(part, started);
    } catch (const std::exception&) {
      // No more threads, or no memory for one: this thread runs the remaining ranges.
    }
    part(0);
    for (int64_t k = started; k < parts; ++k) part(k);
    for (std::thread& thread : others) thread.join();
    if (failure) std::rethrow_exception(failure);
  };
}

}  // namespace rwpm
