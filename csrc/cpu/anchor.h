// The anchored walk: every row has its own pixel as one more neighbor, at a fixed similarity s0.
//
//   r_i = e^(s0 / tau) / (Z_i + e^(s0 / tau)),  Z_i the sum of exp(cosine / tau) over the other pixels
//   m_i <- alpha ((1 - r_i) (S m)_i + r_i v_i) + (1 - alpha) v_i
//
// which is the walk with a probability to continue of its own in every row, alpha_i = alpha (1 - r_i).
#pragma once

#include "cpu/buffer.h"
#include "cpu/pack.h"
#include "walk.h"

namespace rwpm::cpu {

template <typename T>
bool is_anchored(const Problem<T>& p) {
  return p.anchor > -1 || p.anchor_share > 0;
}

// The weight r_i of each pixel's own value. log_sum: log2 of Z_i of each pixel. Counts the anchored pixels in p.stats.
template <typename T>
Vector<T> own_weights(const Problem<T>& p, const Vector<T>& log_sum);

// What a transition adds to alpha_i S m: the restart, (1 - alpha_i) v.
//
// The transpose of T anchored transitions does not have this form, since alpha_i differ: with B = S^T diag(alpha_i) it
// is B^T g + diag(1 - alpha_i) (g + B g + ... + B^(T-1) g), whose sum is kept here and added in the last transition.
template <typename T>
class Restart {
 public:
  // own_weight: [N] in the order of rows; empty without an anchor.
  Restart(const Problem<T>& p, const ValueLayout& layout, const Vector<T>& own_weight)
      : layout_(layout),
        last_step_(p.steps - 1),
        sums_(p.adjoint && !own_weight.empty()),
        share_(layout.rows, p.memory),
        sum_(sums_ ? layout.size() : 0, p.memory) {
    for (int64_t i = 0; i < layout.rows; ++i)
      share_[i] = T(1 - p.alpha * (1 - (i < int64_t(own_weight.size()) ? double(own_weight[i]) : 0.)));
  }

  // Sets rows [begin, end) of the value panel at `panel` of `to` to what transition `step` adds to.
  void begin_step(int64_t step, int64_t panel, int64_t begin, int64_t end, const T* start, const T* from, T* to) {
    const int64_t width = std::min(layout_.lanes, layout_.width - panel / layout_.rows);
    for (int64_t i = begin; i < end; ++i)
      for (int64_t k = panel + i * width; k < panel + (i + 1) * width; ++k) {
        if (!sums_) {
          to[k] = share_[i] * start[k];
        } else {
          sum_[k] = (step == 0 ? T(0) : sum_[k]) + share_[i] * from[k];
          to[k] = step == last_step_ ? sum_[k] : T(0);
        }
      }
  }

 private:
  ValueLayout layout_;
  int64_t last_step_;
  bool sums_;
  Buffer<T> share_, sum_;
};

}  // namespace rwpm::cpu
