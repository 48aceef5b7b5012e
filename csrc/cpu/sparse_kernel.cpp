// Filter, refine and sparse transition, compiled once per instruction set.
//
// A panel of queries meets a run of keys in rounded arithmetic: 8-bit integers where the instruction set multiplies
// them, else float32. What may reach either pixel's threshold, rounding error included, becomes a candidate; candidates
// get exact cosines while both embeddings are near in the cache.
#include "kernels.h"
#include "simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr int lanes = panel_of<float>;
using V = Vec<float>;

#if defined(__AVX512VNNI__)
using Word = int32_t;  // four channels in 8 bits
constexpr int depth_of_word = 4;
typedef int32_t Sum __attribute__((vector_size(vector_bytes)));

// Queries are stored plus 128, because the instruction multiplies unsigned by signed bytes.
RWPM_INLINE Sum multiply_add(Sum sum, Sum query, Word key) {
  return reinterpret_cast<Sum>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(query), _mm512_set1_epi32(key)));
}
#else
using Word = float;
constexpr int depth_of_word = 1;
using Sum = V;

RWPM_INLINE Sum multiply_add(Sum sum, Sum query, Word key) { return sum + query * key; }
#endif

RWPM_INLINE float dot_product(const float* a, const float* b, int64_t stride) {
  V sum[4] = {};
  constexpr int w = lanes_of<float>;
  int64_t d = 0;
  for (; d + 4 * w <= stride; d += 4 * w)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sum[k] += load(a + d + k * w) * load(b + d + k * w);
  for (; d < stride; d += w) sum[0] += load(a + d) * load(b + d);
  const V total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float result = 0;
#pragma GCC unroll 16
  for (int n = 0; n < w; ++n) result += total[n];
  return result;
}

// Upper bound of 2^x for x >= 0, rounded up to an integer: the float whose bits are linear in x is the chord above 2^x.
RWPM_INLINE uint32_t power_bound(float x) {
  const uint32_t bits = uint32_t((x < 30 ? x : 30) * 8388608.f) + (127u << 23);
  float bound;
  __builtin_memcpy(&bound, &bits, sizeof(bound));
  return uint32_t(bound) + 1;
}

int64_t filter(const Filter& f, int64_t panel, int64_t begin, int64_t end, int32_t* candidates, Pair* pairs,
               uint32_t* dropped) {
  const int64_t words = (f.channels + depth_of_word - 1) / depth_of_word;
  const Word* const b = static_cast<const Word*>(f.panels) + panel * words * lanes;
  const int64_t first = panel * lanes;
  V query_scale[columns], query_slack[columns], query_see[columns];
  for (int n = 0; n < columns; ++n) {
    query_scale[n] = load(f.unit_scale + first + n * lanes_of<float>);
    query_slack[n] = load(f.slack + first + n * lanes_of<float>);
    query_see[n] = load(f.see + first + n * lanes_of<float>);
  }

  int64_t found = 0;
  for (int64_t block = begin; block < end; block += rows) {
    const Word* a = static_cast<const Word*>(f.keys) + block / lanes * words * lanes + block % lanes;
    const Word* row = b;
    Sum sum[rows][columns] = {};
    for (int64_t k = 0; k < words; ++k, a += lanes, row += lanes) {
      __builtin_prefetch(a + 8 * lanes);
      Sum query[columns];
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) query[n] = *reinterpret_cast<const Sum*>(row + n * lanes_of<float>);
#pragma GCC unroll 16
      for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < columns; ++n) sum[m][n] = multiply_add(sum[m][n], query[n], a[m]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m) {
      const int64_t key = block + m;
      uint64_t hits = 0;
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) {
        const V rounded = (__builtin_convertvector(sum[m][n], V) - f.offset[key]) * query_scale[n];
        const V wanted = query_see[n] < f.see[key] ? query_see[n] : V{} + f.see[key];
        const V most = rounded * f.unit_scale[key] + (query_slack[n] + f.slack[key]);
        hits |= uint64_t(bits_of(reinterpret_cast<Simd<float>::Bits>(most >= wanted))) << (n * lanes_of<float>);
      }
      // Each pair once: a key meets the queries before it.
      if (key < first + lanes) hits &= key > first ? (uint64_t(1) << (key - first)) - 1 : 0;
      for (; hits; hits &= hits - 1) candidates[found++] = int32_t((key - begin) * lanes + __builtin_ctzll(hits));
    }
  }

  int64_t kept = 0;
  for (int64_t c = 0; c < found; ++c) {
    if (c + 4 < found) {
      const float* const next = f.units + (begin + candidates[c + 4] / lanes) * f.stride;
      for (int64_t d = 0; d < f.stride; d += 16) __builtin_prefetch(next + d);
    }
    const int64_t query = first + candidates[c] % lanes, key = begin + candidates[c] / lanes;
    const float cosine = dot_product(f.units + query * f.stride, f.units + key * f.stride, f.stride);
    const auto keeps = [&](int64_t pixel) {
      if (cosine >= f.keep[pixel]) return true;
      if (cosine >= f.see[pixel]) dropped[pixel] += power_bound((cosine - f.see[pixel]) * f.scale);
      return false;
    };
    const bool query_keeps = keeps(query), key_keeps = keeps(key);
    if (query_keeps || key_keeps) pairs[kept++] = {int32_t(query), int32_t(key), cosine};
  }
  return kept;
}

template <int N>
void step_panel(const SparseStep& s, int64_t begin, int64_t end, int64_t panel) {
  constexpr int width = N * lanes_of<float>;
  const float* const from = s.from + panel;
  for (int64_t i = begin; i < end; ++i) {
    V sum[2][N] = {};  // two chains, for a row has few vectors and a multiply-add takes its time
    int64_t e = s.row_start[i];
    const int64_t last = s.row_start[i + 1];
    for (; e + 1 < last; e += 2) {
      __builtin_prefetch(from + int64_t(s.column[e + 8]) * width);
      __builtin_prefetch(from + int64_t(s.column[e + 9]) * width);
      const float* const one = from + int64_t(s.column[e]) * width;
      const float* const two = from + int64_t(s.column[e + 1]) * width;
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        sum[0][n] += load(one + n * lanes_of<float>) * s.weight[e];
        sum[1][n] += load(two + n * lanes_of<float>) * s.weight[e + 1];
      }
    }
    if (e < last) {
      const float* const one = from + int64_t(s.column[e]) * width;
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[0][n] += load(one + n * lanes_of<float>) * s.weight[e];
    }
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const int64_t at = panel + i * width + n * lanes_of<float>;
      store(s.to + at, (sum[0][n] + sum[1][n]) * s.alpha + load(s.start + at) * (1 - s.alpha));
    }
  }
}

// Panel by panel, so that the values which a panel's rows gather from stay in the cache.
void step(const SparseStep& s, int64_t begin, int64_t end) {
  constexpr void (*steps[])(const SparseStep&, int64_t, int64_t, int64_t) = {nullptr, step_panel<1>, step_panel<2>,
                                                                             step_panel<columns>};
  for (int64_t channel = 0; channel < s.width; channel += lanes)
    steps[least(lanes, s.width - channel) / lanes_of<float>](s, begin, end, channel * s.rows);
}

float dot(const float* a, const float* b, int64_t stride) { return dot_product(a, b, stride); }

}  // namespace

extern const SparseKernels sparse;
const SparseKernels sparse = {lanes, lanes_of<float>, depth_of_word, filter, step, dot};

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
