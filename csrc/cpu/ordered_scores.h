// Score maps in order, for metrics that rank pixels.
#pragma once

#include <cstdint>

namespace rwpm::cpu {

// Sorts floats without NaN in ascending order, -0 before 0, in time that is linear in their number. sorted and spare:
// [count], apart from scores and from each other.
void sort_scores(const float* scores, int64_t count, float* sorted, float* spare);

// Adds to at_or_above[i] the number of scores >= thresholds[i], and to above[i] that of scores > thresholds[i]. Both
// scores and thresholds ascend.
void count_above(const float* scores, int64_t count, const float* thresholds, int64_t threshold_count,
                 int64_t* at_or_above, int64_t* above);

}  // namespace rwpm::cpu
