// Dynamic scheduling on top of a ParallelFor.
#pragma once

#include <atomic>
#include <cstdint>

#include "walk.h"

namespace rwpm::cpu {

// For tasks that differ in cost: threads take one after the other, so the result of a task must not depend on the
// thread. `worker` runs in every thread with a function that returns the next task's number, `count` or more when none
// is left.
template <typename Worker>
void parallel_for_dynamic(int64_t count, const ParallelFor& parallel_for, const Worker& worker) {
  std::atomic<int64_t> next = 0;
  parallel_for(count, [&](int64_t, int64_t) { worker([&] { return next++; }); });
}

}  // namespace rwpm::cpu
