// Filter, refine and sparse transition, compiled once per instruction set.
//
// A panel of queries meets a stripe of keys in rounded arithmetic: bfloat16 where there are matrix tiles, 8-bit
// integers where the instruction set multiplies and adds them, else float32 as it is. Where a pair of the stripe may
// matter, a block of `rows` keys and the panel is multiplied in float32: pairs that matter lie close together, and a
// whole block costs no more than the dot products of a tenth of its pairs, each fetched from memory.
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr int lanes = panel_of<float>;
constexpr int w = lanes_of<float>;
using V = Vec<float>;
static_assert(rows % group_rows == 0 && lanes % group_rows == 0, "blocks hold whole groups");

constexpr float infinity = __builtin_inff();

// Float rounding of a cosine; measured, with room.
constexpr float rounding = 4e-6f;

RWPM_INLINE float absolute(float x) { return x < 0 ? -x : x; }

// A vector whose every element is x.
RWPM_INLINE V all(float x) { return V{} + x; }

// The smallest float whose square is at least x, about: what rounding takes from a norm must not be underestimated.
RWPM_INLINE float root_above(float x) { return __builtin_sqrtf(x) * 1.000001f; }

// Of a pixel whose embedding is off by `residual` in norm: by Cauchy-Schwarz a cosine of two such pixels is off by no
// more than r + s + r s <= (r + r^2 / 2) + (s + s^2 / 2).
RWPM_INLINE float share_of_error(float residual) { return residual + residual * residual / 2 + rounding / 2; }

// Exact cosines of `rows` keys from `key` on with `N` vectors of a panel of queries, from vector n on.
template <int N>
RWPM_INLINE void exact(const Filter& f, int64_t panel, int64_t key, int n, float (*cosine)[lanes]) {
  V product[rows][N] = {};
  const float* const a = f.panels + key / lanes * f.channels * lanes + key % lanes;
  multiply<float, N>(f.channels, a, lanes, f.panels + panel * f.channels * lanes + n * w, lanes, product);
#pragma GCC unroll 16
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) store(cosine[m] + (n + k) * w, product[m][k]);
}

#if defined(__AMX_BF16__)

// A panel twice: as the left operand of matrix tiles, [lanes][channels], and as the right, [channels / 2][lanes][2].
// Channels are padded to whole tiles.
constexpr const char* format = "bfloat16";
constexpr bool rough_is_exact = false;
constexpr int stripe = 16, tile_channels = 32, tile_queries = 16;
static_assert(lanes == 3 * tile_queries && lanes % stripe == 0);

RWPM_INLINE int64_t padded(int64_t channels) { return (channels + tile_channels - 1) / tile_channels * tile_channels; }

int64_t rounded_bytes(int64_t channels) { return 2 * padded(channels) * lanes * int64_t(sizeof(uint16_t)); }

void round(const float* panel, int64_t channels, char* rounded, float* factor, float* off) {
  const int64_t depth = padded(channels);
  uint16_t* const left = reinterpret_cast<uint16_t*>(rounded);
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
    factor[lane] = 1;
    off[lane] = share_of_error(root_above(squares[lane]));
  }
}

// A constant in memory: the compiler takes the instruction for a reader of its first bytes alone, and would not write a
// local's others.
alignas(64) constexpr struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t row_count[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} tile_configuration;

struct Tiles {
  Tiles() { _tile_loadconfig(&tile_configuration); }
  ~Tiles() { _tile_release(); }
};

// Cosines of a stripe of keys with a panel of queries, off by what rounding does.
RWPM_INLINE void rough(const Filter& f, int64_t panel, int64_t key, float (&cosine)[stripe][lanes]) {
  const int64_t depth = padded(f.channels), bytes = rounded_bytes(f.channels);
  const char* a = f.rounded + key / lanes * bytes + key % lanes * depth * 2;
  const char* b = f.rounded + panel * bytes + depth * lanes * 2;
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

// Six sums are more than the latency needs. Of zeros: other numbers draw power, for which a processor may slow down.
double rough_multiply_adds(int64_t rounds) {
  const Tiles tiles;
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

// A panel of 8-bit integers twice, four channels to a word, [words][lanes]: as queries, with 128 added because the
// instruction wants one operand unsigned, and as keys; then [lanes] what the 128 add to a key's every product, negated.
constexpr const char* format = "int8";
constexpr bool rough_is_exact = false;
constexpr int stripe = rows;
struct Tiles {};

typedef int32_t Sum __attribute__((vector_size(vector_bytes)));

RWPM_INLINE int64_t words_of(int64_t channels) { return (channels + 3) / 4; }

int64_t rounded_bytes(int64_t channels) { return (2 * words_of(channels) + 1) * lanes * int64_t(sizeof(int32_t)); }

void round(const float* panel, int64_t channels, char* rounded, float* factor, float* off) {
  const int64_t words = words_of(channels);
  uint8_t* const queries = reinterpret_cast<uint8_t*>(rounded);
  int8_t* const keys = reinterpret_cast<int8_t*>(rounded) + words * lanes * 4;
  int32_t* const correction = reinterpret_cast<int32_t*>(rounded + 2 * words * lanes * 4);
  float largest[lanes] = {}, squares[lanes] = {};
  for (int64_t d = 0; d < channels; ++d)
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = absolute(panel[d * lanes + lane]);
      largest[lane] = x > largest[lane] ? x : largest[lane];
    }
  float unit[lanes];
  for (int lane = 0; lane < lanes; ++lane) {
    unit[lane] = largest[lane] > 0 ? 127 / largest[lane] : 0;
    factor[lane] = largest[lane] / 127;
    correction[lane] = 0;
  }
  for (int64_t d = 0; d < words * 4; ++d)
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = d < channels ? panel[d * lanes + lane] : 0, scaled = x * unit[lane];
      const int32_t nearest = int32_t(scaled + (scaled < 0 ? -0.5f : 0.5f));
      const float residual = x - float(nearest) * factor[lane];
      squares[lane] += residual * residual;
      const int64_t at = (d / 4 * lanes + lane) * 4 + d % 4;
      queries[at] = uint8_t(nearest + 128);
      keys[at] = int8_t(nearest);
      correction[lane] -= 128 * nearest;
    }
  for (int lane = 0; lane < lanes; ++lane) off[lane] = share_of_error(root_above(squares[lane]));
}

RWPM_INLINE void rough(const Filter& f, int64_t panel, int64_t key, float (&cosine)[stripe][lanes]) {
  const int64_t words = words_of(f.channels), bytes = rounded_bytes(f.channels);
  const int32_t* const of_key = reinterpret_cast<const int32_t*>(f.rounded + key / lanes * bytes) + key % lanes;
  const int32_t* const correction = of_key + 2 * words * lanes;
  const int32_t* a = of_key + words * lanes;
  const int32_t* b = reinterpret_cast<const int32_t*>(f.rounded + panel * bytes);
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
      store(cosine[m] + n * w,
            __builtin_convertvector(sum[m][n], V) * load(f.factor + panel * lanes + n * w) * f.factor[key + m]);
}

double rough_multiply_adds(int64_t rounds) {
  const auto add = [](Sum& sum, const Sum& factor) {
    const __m512i x = reinterpret_cast<__m512i>(factor);
    sum = reinterpret_cast<Sum>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), x, x));
  };
  return add_alone<Sum>(rounds, add) * w * 4;
}

#else

constexpr const char* format = "float32";
constexpr bool rough_is_exact = true;
constexpr int stripe = rows;
struct Tiles {};

int64_t rounded_bytes(int64_t) { return 0; }

void round(const float*, int64_t, char*, float* factor, float* off) {
  for (int lane = 0; lane < lanes; ++lane) {
    factor[lane] = 1;
    off[lane] = rounding / 2;
  }
}

RWPM_INLINE void rough(const Filter& f, int64_t panel, int64_t key, float (&cosine)[stripe][lanes]) {
  exact<columns>(f, panel, key, 0, cosine);
}

double rough_multiply_adds(int64_t rounds) { return multiply_adds<float>(rounds); }

#endif

void sum(const Filter& f, int64_t panel, const int64_t* key_panels, int64_t count, float* log_sum) {
  V largest[columns], sums[columns] = {};
  for (V& x : largest) x = all(-infinity);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t begin = key_panels[k] * lanes, keys = least(lanes, f.pixels - begin);
    alignas(alignment) float cosine[lanes][lanes];
    for (int key = 0; key < keys; key += rows)
      exact<columns>(f, panel, begin + key, 0, reinterpret_cast<float (&)[rows][lanes]>(cosine[key]));
    if (key_panels[k] == panel)
      for (int lane = 0; lane < lanes; ++lane) cosine[lane][lane] = -infinity;
    for (int n = 0; n < columns; ++n) {
      V most = largest[n];
      for (int key = 0; key < keys; ++key) {
        const V x = load(cosine[key] + n * w);
        most = x > most ? x : most;
      }
      const V base = most > -infinity ? most : V{};  // -inf less -inf would be no number
      sums[n] *= exp2_nonpositive<float>((largest[n] - base) * f.scale);
      for (int key = 0; key < keys; ++key)
        sums[n] += exp2_nonpositive<float>((load(cosine[key] + n * w) - base) * f.scale);
      largest[n] = most;
    }
  }
  for (int lane = 0; lane < lanes; ++lane) {
    const float s = sums[lane / w][lane % w];
    log_sum[lane] = s > 0 ? largest[lane / w][lane % w] * f.scale + __builtin_log2f(s) : -infinity;
  }
}

void largest(const Filter& f, int64_t panel, float* cosines) {
  [[maybe_unused]] const Tiles tiles;
  V most[columns];
  for (V& x : most) x = all(-1);
  for (int64_t block = 0; block < f.pixels; block += stripe) {
    alignas(alignment) float cosine[stripe][lanes];
    rough(f, panel, block, cosine);
    for (int64_t key = block; key < least(block + stripe, f.pixels); ++key) {
      float* const row = cosine[key - block];
      if (key / lanes == panel) row[key % lanes] = -1;
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) {
        const V x = load(row + n * w) - f.off[key];
        most[n] = x > most[n] ? x : most[n];
      }
    }
  }
  for (int n = 0; n < columns; ++n) most[n] -= load(f.off + panel * lanes + n * w);
  __builtin_memcpy(cosines, most, sizeof(most));
}

RWPM_INLINE uint32_t rounded_up(float x) { return uint32_t(x) + 1; }

// One bit per lane of a comparison of vectors.
RWPM_INLINE uint64_t lanes_at_least(const V (&x)[columns], const V (&bound)[columns]) {
  uint64_t bits = 0;
#pragma GCC unroll 4
  for (int n = 0; n < columns; ++n)
    bits |= uint64_t(bits_of(reinterpret_cast<Simd<float>::Bits>(x[n] >= bound[n]))) << (n * w);
  return bits;
}

// Exact cosines of a block in those of its vectors that matter, -inf in the others.
RWPM_INLINE void refine(const Filter& f, int64_t panel, int64_t key, int vectors, const float (*rough)[lanes],
                        float (*cosine)[lanes]) {
  if constexpr (rough_is_exact) {
    __builtin_memcpy(cosine, rough, rows * sizeof(*cosine));
  } else {
    if (vectors == (1 << columns) - 1) return exact<columns>(f, panel, key, 0, cosine);
    for (int n = 0; n < columns; ++n) {
      if (!(vectors >> n & 1)) {
        for (int m = 0; m < rows; ++m) store(cosine[m] + n * w, all(-infinity));
      } else if (vectors >> (n + 1) & 1) {
        exact<2>(f, panel, key, n++, cosine);
      } else {
        exact<1>(f, panel, key, n, cosine);
      }
    }
  }
}

// Takes what matters of a block's exact cosines.
void take(const Filter& f, int64_t panel, int64_t query_begin, int64_t begin, int64_t block,
          float (&cosine)[rows][lanes], Found& found) {
  const int64_t first = panel * lanes;
  V keep[columns], query_drops[columns] = {};
  for (int n = 0; n < columns; ++n) keep[n] = load(f.keep + first + n * w);
  uint64_t of_query[rows] = {}, of_key[rows] = {};
  for (int m = 0; m < least(rows, f.pixels - block); ++m) {
    const int64_t key = block + m;
    // Each pair once, and no pixel with itself.
    for (int64_t lane = key > first ? key - first : 0; lane < lanes; ++lane) cosine[m][lane] = -infinity;
    const float key_keep = f.keep[key];
    V x[columns], key_keeps[columns], key_drops = {};
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) {
      x[n] = load(cosine[m] + n * w);
      key_keeps[n] = all(key_keep);
      const V by_query = exp2_nonpositive<float>((x[n] - keep[n]) * f.scale);
      const V by_key = exp2_nonpositive<float>((x[n] - key_keep) * f.scale);
      query_drops[n] += x[n] >= keep[n] ? V{} : by_query;
      key_drops += x[n] >= key_keep ? V{} : by_key;
    }
    of_query[m] = lanes_at_least(x, keep);
    of_key[m] = lanes_at_least(x, key_keeps);
    found.dropped[key] += rounded_up(total(key_drops) * drop_unit);
  }
  float drops[lanes];
  __builtin_memcpy(drops, query_drops, sizeof(drops));
  for (int lane = 0; lane < least(lanes, f.pixels - first); ++lane)
    found.dropped[first + lane] += rounded_up(drops[lane] * drop_unit);

  for (int m = 0; m < rows; ++m) {
    for (uint64_t rest = of_query[m]; rest;) {
      const int lane = __builtin_ctzll(rest) / int(group_rows) * int(group_rows);
      Entry& entry = found.of_queries[found.query_count++];
      entry.group = uint16_t((first - query_begin + lane) / group_rows);
      entry.column = uint16_t(block - begin + m);
      for (int k = 0; k < group_rows; ++k)
        entry.cosine[k] = of_query[m] >> (lane + k) & 1 ? cosine[m][lane + k] : -infinity;
      rest &= ~(((uint64_t(1) << group_rows) - 1) << lane);
    }
  }
  for (int m = 0; m < rows; m += group_rows) {
    uint64_t any = 0;
    for (int k = 0; k < group_rows; ++k) any |= of_key[m + k];
    for (; any; any &= any - 1) {
      const int lane = __builtin_ctzll(any);
      Entry& entry = found.of_keys[found.key_count++];
      entry.group = uint16_t((block - begin + m) / group_rows);
      entry.column = uint16_t(first - query_begin + lane);
      for (int k = 0; k < group_rows; ++k)
        entry.cosine[k] = of_key[m + k] >> lane & 1 ? cosine[m + k][lane] : -infinity;
    }
  }
}

void filter(const Filter& f, int64_t panel, int64_t query_begin, int64_t begin, int64_t end, Found& found) {
  [[maybe_unused]] const Tiles tiles;
  const int64_t first = panel * lanes;
  V see[columns], off[columns];
  for (int n = 0; n < columns; ++n) {
    off[n] = load(f.off + first + n * w);
    see[n] = load(f.see + first + n * w) - off[n];
  }
  const int64_t before = first / stripe * stripe;  // keys of earlier stripes are all before these queries
  const int64_t from = begin > before ? begin : before;
  found.met += least(lanes, f.pixels - first) * (least(end, f.pixels) - from);
  for (int64_t key = from; key < end; key += stripe) {
    alignas(alignment) float cosine[stripe][lanes];
    rough(f, panel, key, cosine);
    for (int part = 0; part < stripe; part += rows) {
      typename Simd<float>::Bits matters[columns] = {};
#pragma GCC unroll 16
      for (int m = part; m < part + rows; ++m) {
        const float key_off = f.off[key + m], key_see = f.see[key + m];
#pragma GCC unroll 4
        for (int n = 0; n < columns; ++n)
          matters[n] |= reinterpret_cast<typename Simd<float>::Bits>(load(cosine[m] + n * w) + key_off >=
                                                                     smaller(see[n], key_see - off[n]));
      }
      int vectors = 0;  // those with a pair that may matter, a bit each
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) vectors |= int(bits_of(matters[n]) != 0) << n;
      if (!vectors) continue;
      alignas(alignment) float exactly[rows][lanes];
      refine(f, panel, key + part, vectors, cosine + part, exactly);
      take(f, panel, query_begin, begin, key + part, exactly, found);
    }
  }
}

template <int N>
void step_panel(const SparseStep& s, int64_t begin, int64_t end, int64_t panel) {
  constexpr int width = N * w;
  const float* const from = s.from + panel;
  const int64_t last = s.group_start[end] - 1;
  for (int64_t g = begin; g < end; ++g) {
    V sum[group_rows][N] = {};
    for (int64_t e = s.group_start[g]; e < s.group_start[g + 1]; ++e) {
      const float* const next = from + int64_t(s.column[least(e + 8, last)]) * width;
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) __builtin_prefetch(next + n * w);
      const float* const values = from + int64_t(s.column[e]) * width;
      const float* const weight = s.weight + e * group_rows;
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        const V value = load(values + n * w);
#pragma GCC unroll 4
        for (int k = 0; k < group_rows; ++k) sum[k][n] += value * weight[k];
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < group_rows; ++k)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        const int64_t at = panel + (s.first_row + g * group_rows + k) * width + n * w;
        store(s.to + at, sum[k][n] * s.alpha + load(s.start + at) * (1 - s.alpha));
      }
  }
}

// Panel by panel, so that the values which a panel's rows gather from stay in the cache.
void step(const SparseStep& s, int64_t begin, int64_t end) {
  constexpr void (*steps[])(const SparseStep&, int64_t, int64_t, int64_t) = {nullptr, step_panel<1>, step_panel<2>,
                                                                             step_panel<columns>};
  for (int64_t channel = 0; channel < s.width; channel += lanes)
    steps[least(lanes, s.width - channel) / w](s, begin, end, channel * s.rows);
}

// A vector that repeats the numbers of a group's rows.
RWPM_INLINE V repeated(const float (&of_row)[group_rows]) {
  float x[w];
  for (int k = 0; k < w; ++k) x[k] = of_row[k % group_rows];
  V v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}

void weigh(float* weights, int64_t entries, float scale, float* log_sum) {
  typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(float))));
  const int64_t count = entries * group_rows, whole = count / w * w;
  V most = all(-infinity), tail = most;
  __builtin_memcpy(&tail, weights + whole, (count - whole) * sizeof(float));
  for (int64_t k = 0; k < whole; k += w) {
    const V x = *reinterpret_cast<const Unaligned*>(weights + k);
    most = x > most ? x : most;
  }
  most = tail > most ? tail : most;
  float base[group_rows] = {-infinity, -infinity, -infinity, -infinity};
  for (int k = 0; k < w; ++k) base[k % group_rows] = most[k] > base[k % group_rows] ? most[k] : base[k % group_rows];
  for (float& b : base) b = b > -infinity ? b : 0;  // -inf less -inf would be no number

  const V largest = repeated(base);
  V sums = {};
  for (int64_t k = 0; k < whole; k += w) {
    Unaligned* const at = reinterpret_cast<Unaligned*>(weights + k);
    const V weight = exp2_nonpositive<float>((*at - largest) * scale);
    *at = weight;
    sums += weight;
  }
  tail = exp2_nonpositive<float>((tail - largest) * scale);
  sums += tail;
  float sum[group_rows] = {}, inverse[group_rows];
  for (int k = 0; k < w; ++k) sum[k % group_rows] += sums[k];
  for (int k = 0; k < group_rows; ++k) {
    inverse[k] = sum[k] > 0 ? 1 / sum[k] : 0;
    log_sum[k] = base[k] * scale + __builtin_log2f(sum[k]);
  }

  const V inverses = repeated(inverse);
  for (int64_t k = 0; k < whole; k += w) *reinterpret_cast<Unaligned*>(weights + k) *= inverses;
  tail *= inverses;
  __builtin_memcpy(weights + whole, &tail, (count - whole) * sizeof(float));
}

}  // namespace

extern const SparseKernels sparse;
const SparseKernels sparse = {lanes,  w,    format, rough_multiply_adds, rounded_bytes, round, sum, largest,
                              filter, step, weigh};

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
