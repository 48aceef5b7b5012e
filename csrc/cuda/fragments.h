// What a thread holds of a tile of products: the layout that mma.m16n8 and wgmma share, weights made in it, results
// stored from it. Element e of a lane stands in row e / 2 % 2 * 8 + lane / 4, column e / 4 * 8 + lane % 4 * 2 + e % 2.
#pragma once

#include "cuda/ptx.h"
#include "cuda/step.h"

namespace rwpm::cuda {

struct alignas(8) Pair {
  float first, second;
};

// The two rows of a thread, eight apart.
struct Rows {
  int first;          // pixel of the upper one
  bool there;         // whether they are pixels at all; they share a block
  float to_logit[2];  // inverse times scale
  float largest[2];
  float share[2];  // what sums are multiplied by
};

RWPM_DEVICE Rows rows_of(const Step& step, int batch, int first) {
  Rows rows = {first, first < step.padded, {0, 0}, {0, 0}, {0, 0}};
  for (int i = 0; i < 2; ++i) {
    if (!rows.there) continue;
    const int64_t at = step.row(batch, first + 8 * i);
    rows.to_logit[i] = step.inverse[at] * step.scale;
    rows.largest[i] = step.largest[at];
    rows.share[i] = (step.adjoint ? 1.0f : step.inverse_sum[at]) * step.alpha / float(1 << lift);
  }
  return rows;
}

// Of the keys of a tile, [KEYS] each: inverse, largest, inverse_sum; the last two if adjoint.
constexpr int factor_count = 3;

// Products [.., KEYS] become weights times 2^lift. The minimum keeps finite what an invalid key, whose value is zero,
// makes of it; and it stands before the difference, which made of a product not yet rounded would not fit the sums:
// those are of rounded logits.
template <bool ADJOINT, int KEYS>
RWPM_DEVICE void weigh(float (&x)[KEYS / 2], const Rows& rows, const float* factors, int lane) {
#pragma unroll
  for (int group = 0; group < KEYS / 8; ++group) {
    const Pair* const column = reinterpret_cast<const Pair*>(factors) + group * 4 + lane % 4;
    const Pair inverse = column[0];
    Pair largest = {0, 0}, inverse_sum = {1, 1};
    if (ADJOINT) {
      largest = column[KEYS / 2];
      inverse_sum = column[KEYS];
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float base = ADJOINT ? (e % 2 ? largest.second : largest.first) : rows.largest[e / 2];
      const float cosine = x[group * 4 + e] * (e % 2 ? inverse.second : inverse.first);
      const float logit = smaller(cosine * rows.to_logit[e / 2], base);
      x[group * 4 + e] = exp2_approximate(logit - base + float(lift));
      if (ADJOINT) x[group * 4 + e] *= e % 2 ? inverse_sum.second : inverse_sum.first;
    }
  }
}

// Weights of keys from pixel `first` on; those of the rows themselves, which may be among them if `own`, are zero.
template <int KEYS>
RWPM_DEVICE void weigh(float (&x)[KEYS / 2], const Step& step, const Rows& rows, const float* factors, int first,
                       bool own, int lane) {
  if (step.adjoint)
    weigh<true, KEYS>(x, rows, factors, lane);
  else
    weigh<false, KEYS>(x, rows, factors, lane);
  if (!own) return;
  const int from_first = rows.first - first - lane % 4 * 2;  // column of the upper row, counted from the thread's first
#pragma unroll
  for (int i = 0; i < KEYS / 2; ++i)
    if (i / 4 * 8 + i % 2 == from_first + i / 2 % 2 * 8) x[i] = 0;
}

// Weights [16, KEYS] of a warp as left operands [16, 16] of the product with the values.
template <int KEYS>
RWPM_DEVICE void pack_weights(uint32_t (&packed)[KEYS / 16][4], const float (&x)[KEYS / 2]) {
#pragma unroll
  for (int i = 0; i < KEYS / 4; ++i) packed[i / 4][i % 4] = pack_halves(x[2 * i], x[2 * i + 1]);
}

// Stores channels [channel, channel + COUNT) of both rows, those that there are.
template <int COUNT>
RWPM_DEVICE void store_step(const float (&sum)[COUNT / 2], const Step& step, int batch, const Rows& rows, int channel,
                            int lane) {
  if (!rows.there) return;
#pragma unroll
  for (int group = 0; group < COUNT / 8; ++group) {
    const int column = channel + group * 8 + lane % 4 * 2;
    if (column >= step.width) continue;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int64_t at = step.row(batch, rows.first + 8 * row) * step.width + column;
      float first, second;
      unpack_halves(*reinterpret_cast<const uint32_t*>(step.start + at), first, second);
      first = multiply_add(rows.share[row], sum[group * 4 + row * 2], (1 - step.alpha) * first);
      second = multiply_add(rows.share[row], sum[group * 4 + row * 2 + 1], (1 - step.alpha) * second);
      *reinterpret_cast<uint32_t*>(step.target + at) = pack_halves(first, second);
    }
  }
}

}  // namespace rwpm::cuda
