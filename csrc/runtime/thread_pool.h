// Threads that stay, and a parallel_for on them that allocates nothing.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "walk.h"

namespace rwpm {

// One call of run() at a time.
class ThreadPool {
 public:
  // threads: those that work, the caller of run() among them. Throws std::system_error if they cannot be started.
  explicit ThreadPool(int64_t threads) {
    workers_.reserve(threads - 1);
    try {
      for (int64_t k = 1; k < threads; ++k) workers_.emplace_back([this, k] { work(k); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~ThreadPool() { stop(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Splits [0, count) into one range per thread. Rethrows the first exception of a body after all ranges have ended.
  void run(int64_t count, const RangeBody& body) {
    if (count <= 0) return;
    {
      const std::lock_guard<std::mutex> lock(guard_);
      body_ = &body;
      count_ = count;
      parts_ = std::min(count, int64_t(workers_.size()) + 1);
      running_ = parts_ - 1;
      ++call_;
    }
    if (parts_ > 1) start_.notify_all();
    run_part(0);
    std::unique_lock<std::mutex> lock(guard_);
    done_.wait(lock, [this] { return running_ == 0; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  void run_part(int64_t k) {
    try {
      (*body_)(count_* k / parts_, count_ * (k + 1) / parts_);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void work(int64_t k) {
    std::unique_lock<std::mutex> lock(guard_);
    for (uint64_t seen = 0;;) {
      start_.wait(lock, [&] { return call_ != seen; });
      seen = call_;
      if (stopped_) return;
      if (k >= parts_) continue;
      lock.unlock();
      run_part(k);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(guard_);
      stopped_ = true;
      ++call_;
    }
    start_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  std::mutex guard_;
  std::condition_variable start_, done_;
  // What all parts of a call read; it changes only when none of them runs.
  const RangeBody* body_ = nullptr;
  int64_t count_ = 0, parts_ = 0;
  int64_t running_ = 0;  // parts of workers that are not done
  uint64_t call_ = 0;    // number of the call
  bool stopped_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> workers_;
};

}  // namespace rwpm
