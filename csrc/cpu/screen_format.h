// The format in which screening multiplies unit vectors, a panel of queries and a stripe of keys at a time: bfloat16
// with AMX tiles, 8-bit integers with VNNI, else float32 as it is. Part of sparse_kernel.cpp, which is compiled once
// per instruction set.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr int lanes = panel_of<float>;
constexpr int w = lanes_of<float>;
using V = Vec<float>;
static_assert(rows % group_rows == 0 && lanes % group_rows == 0, "blocks hold whole groups");

constexpr float infinity = __builtin_inff();

// Bound of the float32 rounding error of a cosine: measured, with a margin.
constexpr float cosine_rounding = 4e-6f;

RWPM_INLINE float absolute(float x) { return x < 0 ? -x : x; }

RWPM_INLINE V broadcast(float x) { return V{} + x; }

// An error's norm must not be underestimated by rounding.
RWPM_INLINE float sqrt_upper_bound(float x) { return __builtin_sqrtf(x) * 1.000001f; }

// The quantization error of a pixel, from the norm of its embedding's residual. By Cauchy-Schwarz a cosine of two
// pixels with residuals r and s is off by no more than r + s + r s <= (r + r^2 / 2) + (s + s^2 / 2).
RWPM_INLINE float quant_error_of(float residual) { return residual + residual * residual / 2 + cosine_rounding / 2; }

// float32 cosines of `rows` keys from `key` on with vectors [n, n + N) of a panel of queries.
template <int N>
RWPM_INLINE void exact_cosines(const QuantizedVectors& v, int64_t panel, int64_t key, int n, float (*cosine)[lanes]) {
  V product[rows][N] = {};
  const float* const a = v.panels + key / lanes * v.channels * lanes + key % lanes;
  multiply<float, N>(v.channels, a, lanes, v.panels + panel * v.channels * lanes + n * w, lanes, product);
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) store(cosine[m] + (n + k) * w, product[m][k]);
}

#if defined(__AMX_BF16__)

// A panel is stored twice: as the left operand of AMX tiles, [lanes][channels], and as the right one,
// [channels / 2][lanes][2]. Channels are padded to whole tiles.
constexpr const char* format = "bfloat16";
constexpr bool quantizes = true;
constexpr int min_leading_pixels = 0;
constexpr int stripe = 16, tile_channels = 32, tile_queries = 16;
static_assert(lanes == 3 * tile_queries && lanes % stripe == 0);

RWPM_INLINE int64_t padded_channels(int64_t channels) {
  return (channels + tile_channels - 1) / tile_channels * tile_channels;
}

int64_t quantized_bytes(int64_t channels) { return 2 * padded_channels(channels) * lanes * int64_t(sizeof(uint16_t)); }

void quantize(const float* panel, int64_t channels, char* quantized, float* quant_scale, float* quant_error) {
  const int64_t depth = padded_channels(channels);
  uint16_t* const left = reinterpret_cast<uint16_t*>(quantized);
  uint16_t* const right = left + depth * lanes;
  float squares[lanes] = {};
  for (int64_t d = 0; d < depth; ++d) {
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = d < channels ? panel[d * lanes + lane] : 0;
      uint32_t bits;
      __builtin_memcpy(&bits, &x, sizeof(bits));
      bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;  // to the nearest, ties to even
      float nearest;
      __builtin_memcpy(&nearest, &bits, sizeof(bits));
      left[lane * depth + d] = right[(d / 2 * lanes + lane) * 2 + d % 2] = uint16_t(bits >> 16);
      squares[lane] += (x - nearest) * (x - nearest);
    }
  }
  for (int lane = 0; lane < lanes; ++lane) {
    quant_scale[lane] = 1;
    quant_error[lane] = quant_error_of(sqrt_upper_bound(squares[lane]));
  }
}

// A constant in memory: the compiler assumes that the instruction reads only the first bytes, and would not write the
// others of a local variable.
alignas(64) constexpr struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t row_count[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} tile_configuration;

struct TileGuard {
  TileGuard() { _tile_loadconfig(&tile_configuration); }
  ~TileGuard() { _tile_release(); }
};

// Cosines of a stripe of keys with a panel of queries, off by the quantization error.
RWPM_INLINE void approximate_cosines(const QuantizedVectors& v, int64_t panel, int64_t key,
                                     float (&cosine)[stripe][lanes]) {
  const int64_t depth = padded_channels(v.channels), bytes = quantized_bytes(v.channels);
  const char* a = v.quantized + key / lanes * bytes + key % lanes * depth * 2;
  const char* b = v.quantized + panel * bytes + depth * lanes * 2;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  for (int64_t d = 0; d < depth; d += tile_channels, a += tile_channels * 2, b += tile_channels * lanes * 2) {
    _tile_loadd(3, a, depth * 2);
    _tile_loadd(4, b, lanes * 4);
    _tile_loadd(5, b + tile_queries * 4, lanes * 4);
    _tile_loadd(6, b + tile_queries * 8, lanes * 4);
    _tile_dpbf16ps(0, 3, 4);
    _tile_dpbf16ps(1, 3, 5);
    _tile_dpbf16ps(2, 3, 6);
  }
  _tile_stored(0, cosine[0], lanes * 4);
  _tile_stored(1, cosine[0] + tile_queries, lanes * 4);
  _tile_stored(2, cosine[0] + 2 * tile_queries, lanes * 4);
}

// Six sums more than hide the latency. The operands are zero: others draw more power, which may lower the clock rate.
double quantized_multiply_adds(int64_t rounds) {
  const TileGuard guard;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  return double(rounds) * 6 * stripe * tile_queries * tile_channels;
}

#elif defined(__AVX512VNNI__)

// A panel of 8-bit integers is stored twice, four channels to a word, [words][lanes]: as queries, with 128 added
// because the instruction takes one unsigned operand, and as keys. Then follows [lanes] the correction of a key's
// products for the 128.
constexpr const char* format = "int8";
constexpr bool quantizes = true;
constexpr int min_leading_pixels = 8192;
constexpr int stripe = rows;
struct TileGuard {};

typedef int32_t Sum __attribute__((vector_size(vector_bytes)));

RWPM_INLINE int64_t word_count(int64_t channels) { return (channels + 3) / 4; }

int64_t quantized_bytes(int64_t channels) { return (2 * word_count(channels) + 1) * lanes * int64_t(sizeof(int32_t)); }

void quantize(const float* panel, int64_t channels, char* quantized, float* quant_scale, float* quant_error) {
  const int64_t words = word_count(channels);
  uint8_t* const queries = reinterpret_cast<uint8_t*>(quantized);
  int8_t* const keys = reinterpret_cast<int8_t*>(quantized) + words * lanes * 4;
  int32_t* const correction = reinterpret_cast<int32_t*>(quantized + 2 * words * lanes * 4);
  float max_abs[lanes] = {}, squares[lanes] = {};
  for (int64_t d = 0; d < channels; ++d)
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = absolute(panel[d * lanes + lane]);
      max_abs[lane] = x > max_abs[lane] ? x : max_abs[lane];
    }
  float inv_scale[lanes];
  for (int lane = 0; lane < lanes; ++lane) {
    inv_scale[lane] = max_abs[lane] > 0 ? 127 / max_abs[lane] : 0;
    quant_scale[lane] = max_abs[lane] / 127;
    correction[lane] = 0;
  }
  for (int64_t d = 0; d < words * 4; ++d)
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = d < channels ? panel[d * lanes + lane] : 0, scaled = x * inv_scale[lane];
      const int32_t nearest = int32_t(scaled + (scaled < 0 ? -0.5f : 0.5f));
      const float residual = x - float(nearest) * quant_scale[lane];
      squares[lane] += residual * residual;
      const int64_t at = (d / 4 * lanes + lane) * 4 + d % 4;
      queries[at] = uint8_t(nearest + 128);
      keys[at] = int8_t(nearest);
      correction[lane] -= 128 * nearest;
    }
  for (int lane = 0; lane < lanes; ++lane) quant_error[lane] = quant_error_of(sqrt_upper_bound(squares[lane]));
}

RWPM_INLINE void approximate_cosines(const QuantizedVectors& v, int64_t panel, int64_t key,
                                     float (&cosine)[stripe][lanes]) {
  const int64_t words = word_count(v.channels), bytes = quantized_bytes(v.channels);
  const int32_t* const of_key = reinterpret_cast<const int32_t*>(v.quantized + key / lanes * bytes) + key % lanes;
  const int32_t* const correction = of_key + 2 * words * lanes;
  const int32_t* a = of_key + words * lanes;
  const int32_t* b = reinterpret_cast<const int32_t*>(v.quantized + panel * bytes);
  Sum sum[rows][columns];
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) sum[m][n] = Sum{} + correction[m];
  for (int64_t k = 0; k < words; ++k, a += lanes, b += lanes) {
    __builtin_prefetch(a + 8 * lanes);
    __m512i query[columns];
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) query[n] = _mm512_load_si512(b + n * w);
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n)
        sum[m][n] = reinterpret_cast<Sum>(
            _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum[m][n]), query[n], _mm512_set1_epi32(a[m])));
  }
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n)
      store(cosine[m] + n * w, __builtin_convertvector(sum[m][n], V) * load(v.quant_scale + panel * lanes + n * w) *
                                   v.quant_scale[key + m]);
}

double quantized_multiply_adds(int64_t rounds) {
  const auto add = [](Sum& sum, const Sum& factor) {
    const __m512i x = reinterpret_cast<__m512i>(factor);
    sum = reinterpret_cast<Sum>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), x, x));
  };
  return run_independent_sums<Sum>(rounds, add) * w * 4;
}

#else

constexpr const char* format = "float32";
constexpr bool quantizes = false;
constexpr int min_leading_pixels = 2048;
constexpr int stripe = rows;
struct TileGuard {};

int64_t quantized_bytes(int64_t) { return 0; }

void quantize(const float*, int64_t, char*, float* quant_scale, float* quant_error) {
  for (int lane = 0; lane < lanes; ++lane) {
    quant_scale[lane] = 1;
    quant_error[lane] = cosine_rounding / 2;
  }
}

RWPM_INLINE void approximate_cosines(const QuantizedVectors& v, int64_t panel, int64_t key,
                                     float (&cosine)[stripe][lanes]) {
  exact_cosines<columns>(v, panel, key, 0, cosine);
}

double quantized_multiply_adds(int64_t rounds) { return multiply_adds<float>(rounds); }

#endif

}  // namespace
}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
