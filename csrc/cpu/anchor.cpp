#include "cpu/anchor.h"

#include <algorithm>
#include <cmath>

#include "cpu/pack.h"

namespace rwpm::cpu {

template <typename T>
Vector<T> own_weights(const Problem<T>& p, const Vector<T>& log_sum) {
  const auto count = int64_t(log_sum.size());
  double anchor = p.anchor * exponent_scale(p.temperature);  // log2 of e^(s0 / tau)
  if (p.anchor_share > 0) {
    // The smallest sum such that the share of the pixels has no larger one.
    Vector<T> sums(log_sum, p.memory);
    const auto nth = sums.begin() + std::clamp<int64_t>(std::ceil(p.anchor_share * double(count)) - 1, 0, count - 1);
    std::nth_element(sums.begin(), nth, sums.end());
    anchor = *nth;
  }
  Vector<T> weights(count, p.memory);
  int64_t anchored = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double weight = 1 / (1 + std::exp2(double(log_sum[i]) - anchor));
    anchored += weight >= 0.5;
    weights[i] = T(weight);
  }
  if (p.stats) p.stats->anchored = anchored;
  return weights;
}

template Vector<float> own_weights(const Problem<float>&, const Vector<float>&);
template Vector<double> own_weights(const Problem<double>&, const Vector<double>&);

}  // namespace rwpm::cpu
