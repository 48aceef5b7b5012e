// Filter, refine and sparse transition, compiled once per instruction set.
//
// A panel of queries meets a run of keys in rounded arithmetic: 16-bit integers where the instruction set multiplies
// and adds them, else float32. 8-bit integers would be twice as fast to multiply, but their rounding lets through
// several times the pairs at temperatures of 0.01, and each costs an exact cosine; 16 bits are near enough to drop a
// pair by.
#include "kernels.h"
#include "simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr int lanes = panel_of<float>;
using V = Vec<float>;

#if defined(__AVX512VNNI__)
using Word = int32_t;  // two channels
constexpr int channels_of_word = 2;
typedef int32_t Sum __attribute__((vector_size(vector_bytes)));

RWPM_INLINE Sum multiply_add(Sum sum, Sum query, Word key) {
  return reinterpret_cast<Sum>(
      _mm512_dpwssd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(query), _mm512_set1_epi32(key)));
}

RWPM_INLINE Sum smaller(Sum a, Sum b) {
  return reinterpret_cast<Sum>(_mm512_min_epi32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
#else
using Word = float;
constexpr int channels_of_word = 1;
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
  return total((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// Upper bound of 2^x for x >= 0, rounded up to an integer: the float whose bits are linear in x is the chord above 2^x.
RWPM_INLINE uint32_t power_bound(float x) {
  const uint32_t bits = uint32_t((x < 30 ? x : 30) * 8388608.f) + (127u << 23);
  float bound;
  __builtin_memcpy(&bound, &bits, sizeof(bound));
  return uint32_t(bound) + 1;
}

// Products of `rows` keys from `key` on with a panel of queries.
RWPM_INLINE void products(const Filter& f, int64_t panel, int64_t key, Sum (&sum)[rows][columns]) {
  const int64_t words = (f.channels + channels_of_word - 1) / channels_of_word;
  const Word* const rounded = static_cast<const Word*>(f.panels);
  const Word* a = rounded + key / lanes * words * lanes + key % lanes;
  const Word* b = rounded + panel * words * lanes;
  for (int64_t k = 0; k < words; ++k, a += lanes, b += lanes) {
    __builtin_prefetch(a + 8 * lanes);
    Sum query[columns];
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) query[n] = *reinterpret_cast<const Sum*>(b + n * lanes_of<float>);
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) sum[m][n] = multiply_add(sum[m][n], query[n], a[m]);
  }
}

void largest(const Filter& f, int64_t pixels, int64_t panel, float* cosines) {
  const int64_t first = panel * lanes;
  Word most[lanes];
  for (int lane = 0; lane < lanes; ++lane) most[lane] = Word(-2e9);
  for (int64_t block = 0; block < pixels; block += rows) {
    Sum sum[rows][columns] = {};
    products(f, panel, block, sum);
    Word product[rows][lanes];
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m) __builtin_memcpy(product[m], sum[m], sizeof(product[m]));
    for (int64_t key = block; key < least(block + rows, pixels); ++key)
      for (int lane = 0; lane < lanes; ++lane) {
        const Word p = key == first + lane ? Word(-2e9) : product[key - block][lane];
        most[lane] = p > most[lane] ? p : most[lane];
      }
  }
  for (int lane = 0; lane < lanes; ++lane) cosines[lane] = float(most[lane]) * f.cosine_of_product;
}

// What a pixel drops by not keeping a pair whose cosine is at most this.
RWPM_INLINE void drop(const Filter& f, int64_t pixel, float cosine, uint32_t* dropped) {
  if (cosine >= f.see[pixel]) dropped[pixel] += power_bound((cosine - f.see[pixel]) * f.scale);
}

int64_t filter(const Filter& f, int64_t panel, int64_t begin, int64_t end, Pair* pairs, uint32_t* dropped) {
  const Word* const least_product = static_cast<const Word*>(f.least_product);
  const int64_t first = panel * lanes;
  Sum query_least[columns];
  for (int n = 0; n < columns; ++n)
    query_least[n] = *reinterpret_cast<const Sum*>(least_product + first + n * lanes_of<float>);

  int64_t found = 0;
  for (int64_t block = begin; block < end; block += rows) {
    Sum sum[rows][columns] = {};
    products(f, panel, block, sum);
    alignas(alignment) Word product[rows][lanes];
    uint64_t hits[rows];
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m) {
      const int64_t key = block + m;
      const Sum key_least = Sum{} + least_product[key];
      hits[m] = 0;
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) {
        *reinterpret_cast<Sum*>(product[m] + n * lanes_of<float>) = sum[m][n];
        const auto hit = sum[m][n] >= smaller(query_least[n], key_least);
        hits[m] |= uint64_t(bits_of(reinterpret_cast<Simd<float>::Bits>(hit))) << (n * lanes_of<float>);
      }
      // Each pair once: a key meets the queries before it.
      if (key < first + lanes) hits[m] &= key > first ? (uint64_t(1) << (key - first)) - 1 : 0;
    }
    for (int m = 0; m < rows; ++m) {
      const int64_t key = block + m;
      for (uint64_t rest = hits[m]; rest; rest &= rest - 1) {
        const int lane = __builtin_ctzll(rest);
        const float most = float(product[m][lane]) * f.cosine_of_product + f.margin;
        if (most >= f.keep[first + lane] || most >= f.keep[key]) {
          pairs[found++] = {int32_t(first + lane), int32_t(key), 0};
        } else {
          drop(f, first + lane, most, dropped);
          drop(f, key, most, dropped);
        }
      }
    }
  }

  int64_t kept = 0;
  for (int64_t c = 0; c < found; ++c) {
    if (c + 4 < found) {
      const float* const next = f.units + pairs[c + 4].key * f.stride;
      for (int64_t d = 0; d < f.stride; d += 16) __builtin_prefetch(next + d);
    }
    Pair pair = pairs[c];
    pair.cosine = dot_product(f.units + pair.query * f.stride, f.units + pair.key * f.stride, f.stride);
    const bool query_keeps = pair.cosine >= f.keep[pair.query], key_keeps = pair.cosine >= f.keep[pair.key];
    if (!query_keeps) drop(f, pair.query, pair.cosine, dropped);
    if (!key_keeps) drop(f, pair.key, pair.cosine, dropped);
    if (query_keeps || key_keeps) pairs[kept++] = pair;
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

float weigh(float* row, int64_t count, float largest, float scale) {
  typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(float))));
  constexpr int w = lanes_of<float>;
  V sum = {};
  int64_t k = 0;
  for (; k + w <= count; k += w) {
    Unaligned* const at = reinterpret_cast<Unaligned*>(row + k);
    const V weight = exp2_nonpositive<float>((*at - largest) * scale);
    *at = weight;
    sum += weight;
  }
  V rest = V{} + largest, weight;
  __builtin_memcpy(&rest, row + k, (count - k) * sizeof(float));
  weight = exp2_nonpositive<float>((rest - largest) * scale);
  __builtin_memcpy(row + k, &weight, (count - k) * sizeof(float));
  float result = total(sum);
  for (; k < count; ++k) result += row[k];
  return result;
}

float dot(const float* a, const float* b, int64_t stride) { return dot_product(a, b, stride); }

}  // namespace

extern const SparseKernels sparse;
const SparseKernels sparse = {lanes, lanes_of<float>, channels_of_word, filter, largest, step, weigh, dot};

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
