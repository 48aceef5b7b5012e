// Screening in 8-bit integers with AVX-512 VNNI.
#pragma once

#include "cpu/screen_common.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

// A panel of 8-bit integers is stored twice, four channels to a word: as queries, [words][lanes], with 128 added
// because the instruction takes one unsigned operand; and as keys, [groups][words][group_rows], so that a group's words
// follow each other. Then comes [lanes] the correction of a key's products for the 128.
constexpr const char* format = "int8";
constexpr bool quantizes = true;
constexpr float parts_error = 0;
constexpr int min_leading_pixels = 8192;
constexpr int stripe = rows, unit = group_rows;
struct TileGuard {};

typedef int32_t Sum __attribute__((vector_size(vector_bytes)));

RWPM_INLINE int64_t word_count(int64_t channels) { return (channels + 3) / 4; }

int64_t quantized_bytes(int64_t channels) { return (2 * word_count(channels) + 1) * lanes * int64_t(sizeof(int32_t)); }

void quantize(const float* panel, int64_t channels, char* quantized, float* quant_scale, float* quant_error) {
  const int64_t words = word_count(channels);
  uint32_t *const queries = reinterpret_cast<uint32_t*>(quantized), *const keys = queries + words * lanes;
  int32_t* const correction = reinterpret_cast<int32_t*>(keys + words * lanes);
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
  for (int64_t word = 0; word < words; ++word) {
    uint32_t packed[lanes] = {};
    for (int64_t d = word * 4; d < min(word * 4 + 4, channels); ++d)
      for (int lane = 0; lane < lanes; ++lane) {
        const float x = panel[d * lanes + lane], scaled = x * inv_scale[lane];
        const int32_t nearest = int32_t(scaled + (scaled < 0 ? -0.5f : 0.5f));
        const float residual = x - float(nearest) * quant_scale[lane];
        squares[lane] += residual * residual;
        packed[lane] |= uint32_t(nearest & 0xff) << (d % 4 * 8);
        correction[lane] -= 128 * nearest;
      }
    for (int lane = 0; lane < lanes; ++lane) queries[word * lanes + lane] = packed[lane] ^ 0x80808080;
    for (int lane = 0; lane < lanes; lane += group_rows)
      __builtin_memcpy(keys + lane * words + word * group_rows, packed + lane, group_rows * sizeof(*packed));
  }
  for (int lane = 0; lane < lanes; ++lane) quant_error[lane] = quant_error_of(sqrt_upper_bound(squares[lane]));
}

// Cosines of groups of keys that begin at keys[k] with vectors [n, n + vectors) of a panel of queries, off by the
// quantization error: [groups * group_rows][vectors * w].
template <int groups, int vectors>
RWPM_INLINE void multiply_groups(const QuantizedVectors& v, int64_t panel, int n, const int64_t* keys, float* cosine) {
  const int64_t words = word_count(v.channels), bytes = quantized_bytes(v.channels);
  const auto words_of = [&](int64_t index) { return reinterpret_cast<const int32_t*>(v.quantized + index * bytes); };
  const int32_t* a[groups];
  Sum sum[groups * group_rows][vectors];
  for (int g = 0; g < groups; ++g) {
    const int64_t lane = keys[g] % lanes;
    const int32_t* const of_panel = words_of(keys[g] / lanes) + words * lanes;
    a[g] = of_panel + lane * words;
    for (int m = 0; m < group_rows; ++m)
#pragma GCC unroll 4
      for (int k = 0; k < vectors; ++k) sum[g * group_rows + m][k] = Sum{} + of_panel[words * lanes + lane + m];
  }
  const int32_t* b = words_of(panel) + n * w;
  for (int64_t at = 0; at < words * group_rows; at += group_rows, b += lanes) {
    __m512i query[vectors];
#pragma GCC unroll 4
    for (int k = 0; k < vectors; ++k) query[k] = _mm512_load_si512(b + k * w);
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g)
#pragma GCC unroll 4
      for (int m = 0; m < group_rows; ++m)
#pragma GCC unroll 4
        for (int k = 0; k < vectors; ++k) {
          Sum& to = sum[g * group_rows + m][k];
          to = reinterpret_cast<Sum>(
              _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(to), query[k], _mm512_set1_epi32(a[g][at + m])));
        }
  }
#pragma GCC unroll 16
  for (int m = 0; m < groups * group_rows; ++m)
#pragma GCC unroll 4
    for (int k = 0; k < vectors; ++k)
      store(cosine + (m * vectors + k) * w, __builtin_convertvector(sum[m][k], V) *
                                                load(v.quant_scale + panel * lanes + (n + k) * w) *
                                                v.quant_scale[keys[m / group_rows] + m % group_rows]);
}

RWPM_INLINE void approximate_cosines(const QuantizedVectors& v, int64_t panel, int64_t key, int64_t,
                                     float (&cosine)[stripe][lanes]) {
  static_assert(stripe == 2 * group_rows);
  const int64_t keys[] = {key, key + group_rows};
  multiply_groups<2, columns>(v, panel, 0, keys, cosine[0]);
}

struct ScreenUnits {
  static constexpr int vectors = 1, max_count = 4, max_refined = 4;

  template <int units>
  RWPM_INLINE static void approximate(const QuantizedVectors& v, int64_t panel, int n, const int64_t* keys,
                                      float (*cosine)[w]) {
    multiply_groups<units, 1>(v, panel, n, keys, cosine[0]);
  }
};

double quantized_multiply_adds(int64_t rounds) {
  const auto add = [](Sum& sum, const Sum& factor) {
    const __m512i x = reinterpret_cast<__m512i>(factor);
    sum = reinterpret_cast<Sum>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), x, x));
  };
  return run_independent_sums<Sum>(rounds, add) * w * 4;
}

}  // namespace
}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
