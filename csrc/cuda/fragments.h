// What a thread holds of a tile: the register layout that mma.m16n8 and wgmma share, weights made in it, results stored
// from it. Element e of a lane is in row e / 2 % 2 * 8 + lane / 4, column e / 4 * 8 + lane % 4 * 2 + e % 2.
#pragma once

#include "cuda/ptx.h"
#include "cuda/step.h"

namespace rwpm::cuda {

struct alignas(8) FloatPair {
  float first, second;
};

// The two rows (queries) of a thread, eight apart.
struct RowPair {
  int first;             // pixel of the upper one
  bool valid;            // whether they are to be stored: both are pixels, in the same block
  float logit_scale[2];  // inv_norm times scale
  float row_max[2];
  float sum_scale[2];  // of accumulated sums: alpha / 2^weight_shift, and inv_row_sum unless adjoint
  float restart[2];    // 1 - alpha
};

RWPM_DEVICE RowPair load_rows(const ExactStep& step, int batch, int first) {
  RowPair rows = {first, first < step.padded, {0, 0}, {0, 0}, {0, 0}, {0, 0}};
  for (int i = 0; i < 2; ++i) {
    if (!rows.valid) continue;
    const int64_t row = step.row(batch, first + 8 * i);
    rows.logit_scale[i] = step.inv_norm[row] * step.scale;
    rows.row_max[i] = step.row_max[row];
    rows.sum_scale[i] = (step.adjoint ? 1.0f : step.inv_row_sum[row]) * step.alpha[row] / float(1 << weight_shift);
    rows.restart[i] = 1 - step.alpha[row];
  }
  return rows;
}

// Factors of a tile's keys in shared memory, [KEYS] each: inv_norm and, if adjoint, row_max and inv_row_sum.
constexpr int factor_count = 3;

// Turns scores (query . key) [.., KEYS] into weights times 2^weight_shift, in place; if ADJOINT also times the key's
// inv_row_sum. An invalid key is not masked: its value is 0, but its logit may exceed row_max, and inf * 0 would be
// NaN. The minimum keeps its weight at most 1, and comes before the subtraction, so that the compiler cannot fuse
// multiplication and subtraction: the result would not match the row sums, which are of rounded logits.
template <bool ADJOINT, int KEYS>
RWPM_DEVICE void make_weights(float (&scores)[KEYS / 2], const RowPair& rows, const float* factors, int lane) {
#pragma unroll
  for (int group = 0; group < KEYS / 8; ++group) {
    const FloatPair* const column = reinterpret_cast<const FloatPair*>(factors) + group * 4 + lane % 4;
    const FloatPair inv_norm = column[0];
    FloatPair row_max = {0, 0}, inv_row_sum = {1, 1};
    if (ADJOINT) {
      row_max = column[KEYS / 2];
      inv_row_sum = column[KEYS];
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float max_logit = ADJOINT ? (e % 2 ? row_max.second : row_max.first) : rows.row_max[e / 2];
      const float cosine = scores[group * 4 + e] * (e % 2 ? inv_norm.second : inv_norm.first);
      const float logit = fmin(cosine * rows.logit_scale[e / 2], max_logit);
      scores[group * 4 + e] = ex2_approx(logit - max_logit + float(weight_shift));
      if (ADJOINT) scores[group * 4 + e] *= e % 2 ? inv_row_sum.second : inv_row_sum.first;
    }
  }
}

// The same for a tile of keys from pixel `first` on. If `on_diagonal`, the thread's own rows may be among its keys:
// their weights are set to zero.
template <int KEYS>
RWPM_DEVICE void make_weights(float (&scores)[KEYS / 2], const ExactStep& step, const RowPair& rows,
                              const float* factors, int first, bool on_diagonal, int lane) {
  if (step.adjoint)
    make_weights<true, KEYS>(scores, rows, factors, lane);
  else
    make_weights<false, KEYS>(scores, rows, factors, lane);
  if (!on_diagonal) return;
  const int diagonal = rows.first - first - lane % 4 * 2;  // column of the upper row, from the thread's first column
#pragma unroll
  for (int i = 0; i < KEYS / 2; ++i)
    if (i / 4 * 8 + i % 2 == diagonal + i / 2 % 2 * 8) scores[i] = 0;
}

// Packs a warp's weights [16, KEYS] as left operands [16, 16] of the product with the values.
template <int KEYS>
RWPM_DEVICE void pack_weights(uint32_t (&packed)[KEYS / 16][4], const float (&scores)[KEYS / 2]) {
#pragma unroll
  for (int i = 0; i < KEYS / 4; ++i) packed[i / 4][i % 4] = cvt_rn_f16x2_f32(scores[2 * i], scores[2 * i + 1]);
}

// Stores channels [channel, channel + COUNT) of both rows as far as the target has them:
// sum_scale * sum + restart * start.
template <int COUNT>
RWPM_DEVICE void store_target(const float (&sum)[COUNT / 2], const ExactStep& step, int batch, const RowPair& rows,
                              int channel, int lane) {
  if (!rows.valid) return;
#pragma unroll
  for (int group = 0; group < COUNT / 8; ++group) {
    const int column = channel + group * 8 + lane % 4 * 2;
    if (column >= step.width) continue;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int64_t offset = step.row(batch, rows.first + 8 * row) * step.width + column;
      float first, second;
      cvt_f32_f16x2(*reinterpret_cast<const uint32_t*>(step.start + offset), first, second);
      first = fma(rows.sum_scale[row], sum[group * 4 + row * 2], rows.restart[row] * first);
      second = fma(rows.sum_scale[row], sum[group * 4 + row * 2 + 1], rows.restart[row] * second);
      *reinterpret_cast<uint32_t*>(step.target + offset) = cvt_rn_f16x2_f32(first, second);
    }
  }
}

}  // namespace rwpm::cuda
