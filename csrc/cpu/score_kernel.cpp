// Scores of a row of pixels from two rows of class logits; compiled once per instruction set.
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

using V = Vec<float>;
constexpr int lanes = lanes_of<float>;
constexpr float log2_e = 1.44269504f, ln_2 = 0.69314718f;

// Natural logarithm of numbers from 1 to 2^24: of the mantissa in [0.7, 1.4] as 2 atanh((m - 1) / (m + 1)), by a series
// whose first neglected term is below 1e-9.
RWPM_INLINE V log_from_one(V x) {
  using Bits = Simd<float>::Bits;
  constexpr uint32_t sqrt_half = 0x3f3504f3;
  const Bits bits = reinterpret_cast<Bits>(x) - sqrt_half;
  const Bits exponent = bits >> 23;  // x >= 1, so that it is 0 or more
  const V mantissa = reinterpret_cast<V>((bits & 0x007fffff) + sqrt_half);
  const V t = (mantissa - 1) / (mantissa + 1), square = t * t;
  const V series = ((square * (1 / 9.f) + 1 / 7.f) * square + 1 / 5.f) * square + 1 / 3.f;
  return __builtin_convertvector(exponent, V) * ln_2 + 2 * t * (1 + square * series);
}

template <Score score>
void score_row_as(const ScoreRowArgs& a) {
  for (int64_t x = 0; x < a.width; x += lanes) {
    V max, best = {}, invalid = {};
    for (int64_t k = 0; k < a.classes; ++k) {
      const V above = load(a.above + k * a.width + x), below = load(a.below + k * a.width + x);
      const V logit = above + a.weight * (below - above);
      store(a.scratch + k * lanes, logit);
      const V index = V{} + float(k);
      best = k == 0 ? V{} : (logit > max ? index : best);
      max = k == 0 ? logit : (logit > max ? logit : max);
      invalid += logit * 0;  // NaN where a logit is not finite: comparisons would pass over it
    }
    V result = -max;
    if constexpr (score != Score::max_logit) {
      V sum = {}, weighted = {};
      for (int64_t k = 0; k < a.classes; ++k) {
        const V below_max = load(a.scratch + k * lanes) - max;
        const V share = exp2_nonpositive<float>(below_max * log2_e);
        sum += share;
        if constexpr (score == Score::entropy) weighted += share * below_max;
      }
      if constexpr (score == Score::energy) result -= log_from_one(sum);
      if constexpr (score == Score::max_softmax) result = 1 - 1 / sum;
      if constexpr (score == Score::entropy) result = log_from_one(sum) - weighted / sum;
    }
    store(a.score + x, result + invalid);
    for (int n = 0; n < lanes; ++n) a.segmentation[x + n] = uint8_t(best[n]);
  }
}

void score_row(const ScoreRowArgs& a) {
  switch (a.kind) {
    case Score::energy:
      return score_row_as<Score::energy>(a);
    case Score::max_logit:
      return score_row_as<Score::max_logit>(a);
    case Score::max_softmax:
      return score_row_as<Score::max_softmax>(a);
    case Score::entropy:
      return score_row_as<Score::entropy>(a);
  }
}

}  // namespace

extern const ScoreKernels score;
const ScoreKernels score = {lanes, score_row};

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
