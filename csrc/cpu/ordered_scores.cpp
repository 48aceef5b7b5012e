#include "cpu/ordered_scores.h"

#include <cstring>

namespace rwpm::cpu {
namespace {

// Digits of 8 bits: the ends of 256 buckets stay in the first cache, those of 2048 do not.
constexpr int digits = 4;
constexpr int64_t buckets = 256;

// Integers in the order of the floats: of negative ones all bits turn, of others the sign.
inline uint32_t to_ordered(uint32_t bits) { return bits ^ (uint32_t(int32_t(bits) >> 31) | 0x80000000u); }
inline uint32_t from_ordered(uint32_t key) { return key ^ (uint32_t(int32_t(~key) >> 31) | 0x80000000u); }

inline uint32_t load(const float* scores, int64_t i) {
  uint32_t bits;
  std::memcpy(&bits, scores + i, sizeof bits);
  return bits;
}

inline void store(float* scores, int64_t i, uint32_t bits) { std::memcpy(scores + i, &bits, sizeof bits); }

}  // namespace

void sort_scores(const float* scores, int64_t count, float* sorted, float* spare) {
  int64_t places[digits][buckets] = {};
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t key = to_ordered(load(scores, i));
    for (int digit = 0; digit < digits; ++digit) ++places[digit][key >> 8 * digit & 0xff];
  }
  for (auto& of_digit : places) {
    int64_t sum = 0;
    for (int64_t& place : of_digit) {
      const int64_t number = place;
      place = sum;
      sum += number;
    }
  }
  // Stable passes from the last digit to the first.
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t key = to_ordered(load(scores, i));
    store(spare, places[0][key & 0xff]++, key);
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t key = load(spare, i);
    store(sorted, places[1][key >> 8 & 0xff]++, key);
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t key = load(sorted, i);
    store(spare, places[2][key >> 16 & 0xff]++, key);
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t key = load(spare, i);
    store(sorted, places[3][key >> 24]++, from_ordered(key));
  }
}

void count_above(const float* scores, int64_t count, const float* thresholds, int64_t threshold_count,
                 int64_t* at_or_above, int64_t* above) {
  int64_t below = 0, at_most = 0;  // scores < and <= the threshold
  for (int64_t i = 0; i < threshold_count; ++i) {
    const float threshold = thresholds[i];
    while (below < count && scores[below] < threshold) ++below;
    if (at_most < below) at_most = below;
    while (at_most < count && scores[at_most] <= threshold) ++at_most;
    at_or_above[i] += count - below;
    above[i] += count - at_most;
  }
}

}  // namespace rwpm::cpu
