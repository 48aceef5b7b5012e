// What the formats of screening share. Part of sparse_kernel.cpp, which is compiled once per instruction set.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr int lanes = panel_of<float>;
constexpr int w = lanes_of<float>;
using V = Vec<float>;
static_assert(rows % group_rows == 0 && w % group_rows == 0, "blocks hold whole groups");

constexpr float infinity = __builtin_inff();

// Bound of the float32 rounding error of a cosine: measured, with a margin.
constexpr float cosine_rounding = 4e-6f;

// A number that templates can take from an argument's type.
template <int value>
struct Constant {
  constexpr operator int() const { return value; }
};

RWPM_INLINE float absolute(float x) { return x < 0 ? -x : x; }

RWPM_INLINE V broadcast(float x) { return V{} + x; }

// An error's norm must not be underestimated by rounding.
RWPM_INLINE float sqrt_upper_bound(float x) { return __builtin_sqrtf(x) * 1.000001f; }

// The quantization error of a pixel, from the norm of its embedding's residual. By Cauchy-Schwarz a cosine of two
// pixels with residuals r and s is off by no more than r + s + r s <= (r + r^2 / 2) + (s + s^2 / 2).
RWPM_INLINE float quant_error_of(float residual) { return residual + residual * residual / 2 + cosine_rounding / 2; }

// float32 cosines of `rows` keys from `key` on with vectors [n, n + N) of a panel of queries: [rows][lanes].
template <int N>
RWPM_INLINE void exact_cosines(const QuantizedVectors& v, int64_t panel, int64_t key, int n, float* cosine) {
  V product[rows][N] = {};
  const float* const a = v.panels + key / lanes * v.channels * lanes + key % lanes;
  multiply<float, N>(v.channels, a, lanes, v.panels + panel * v.channels * lanes + n * w, lanes, product);
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) store(cosine + m * lanes + (n + k) * w, product[m][k]);
}

// float32 cosines of groups of keys, which begin at keys[k], with vector n of a panel of queries.
template <int groups>
RWPM_INLINE void exact_group_cosines(const QuantizedVectors& v, int64_t panel, int n, const int64_t* keys,
                                     float (*cosine)[w]) {
  constexpr int ahead = 8;  // channels, as in `multiply`
  const float* a[groups];
  for (int k = 0; k < groups; ++k) a[k] = v.panels + keys[k] / lanes * v.channels * lanes + keys[k] % lanes;
  const float* const b = v.panels + panel * v.channels * lanes + n * w;
  V sum[groups * group_rows] = {};
  for (int64_t at = 0; at < v.channels * lanes; at += lanes) {
    const V query = load(b + at);
#pragma GCC unroll 4
    for (int k = 0; k < groups; ++k) {
      __builtin_prefetch(a[k] + at + ahead * lanes);
#pragma GCC unroll 4
      for (int m = 0; m < group_rows; ++m) sum[k * group_rows + m] += query * a[k][at + m];
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < groups * group_rows; ++m) store(cosine[m], sum[m]);
}

}  // namespace
}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
