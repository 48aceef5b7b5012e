// A parallel_for on plain threads, for programs that bring none of their own.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "walk.h"

namespace rwpm {

// Splits [0, count) into one run per thread. The first exception of a body is thrown again here, after all have ended.
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
    others.reserve(parts - 1);  // nothing may throw past threads that run
    int64_t started = 1;
    try {
      for (; started < parts; ++started) others.emplace_back(part, started);
    } catch (const std::exception&) {
      // The system gives no more threads, or no memory for one: this thread does what is left.
    }
    part(0);
    for (int64_t k = started; k < parts; ++k) part(k);
    for (std::thread& thread : others) thread.join();
    if (failure) std::rethrow_exception(failure);
  };
}

}  // namespace rwpm
