// Kernels of the sparse walk (filter, weights, transition), compiled once per instruction set.
//
// Screening multiplies a panel of queries and a stripe of keys in a quantized format. Where a pair of the stripe may
// matter, `rows` keys and the panel are multiplied in float32: pairs that matter lie close together, and such a block
// costs no more than the dot products of a tenth of its pairs, each fetched from memory.
#include "cpu/kernels.h"
#include "cpu/screen_format.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

void local_log_sum(const FilterArgs& f, int64_t panel, const int64_t* key_panels, int64_t count, float* log_sum) {
  V row_max[columns], sums[columns] = {};
  for (V& x : row_max) x = broadcast(-infinity);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t begin = key_panels[k] * lanes, keys = min(lanes, f.pixels - begin);
    alignas(alignment) float cosine[lanes][lanes];
    for (int key = 0; key < keys; key += rows)
      exact_cosines<columns>(f.embeddings, panel, begin + key, 0,
                             reinterpret_cast<float (&)[rows][lanes]>(cosine[key]));
    if (key_panels[k] == panel)
      for (int lane = 0; lane < lanes; ++lane) cosine[lane][lane] = -infinity;
    for (int n = 0; n < columns; ++n) {
      V new_max = row_max[n];
      for (int key = 0; key < keys; ++key) {
        const V x = load(cosine[key] + n * w);
        new_max = x > new_max ? x : new_max;
      }
      const V base = new_max > -infinity ? new_max : V{};  // -inf - -inf would be NaN
      sums[n] *= exp2_nonpositive<float>((row_max[n] - base) * f.scale);
      for (int key = 0; key < keys; ++key)
        sums[n] += exp2_nonpositive<float>((load(cosine[key] + n * w) - base) * f.scale);
      row_max[n] = new_max;
    }
  }
  for (int lane = 0; lane < lanes; ++lane) {
    const float s = sums[lane / w][lane % w];
    log_sum[lane] = s > 0 ? row_max[lane / w][lane % w] * f.scale + __builtin_log2f(s) : -infinity;
  }
}

void max_cosine_bound(const FilterArgs& f, int64_t panel, float* cosines) {
  [[maybe_unused]] const TileGuard guard;
  V max[columns];
  for (V& x : max) x = broadcast(-1);
  for (int64_t begin = 0; begin < f.pixels; begin += stripe) {
    alignas(alignment) float cosine[stripe][lanes];
    approximate_cosines(f.embeddings, panel, begin, cosine);
    for (int64_t key = begin; key < min(begin + stripe, f.pixels); ++key) {
      float* const row = cosine[key - begin];
      if (key / lanes == panel) row[key % lanes] = -1;
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) {
        const V x = load(row + n * w) - f.embeddings.quant_error[key];
        max[n] = x > max[n] ? x : max[n];
      }
    }
  }
  for (int n = 0; n < columns; ++n) max[n] -= load(f.embeddings.quant_error + panel * lanes + n * w);
  __builtin_memcpy(cosines, max, sizeof(max));
}

RWPM_INLINE uint32_t round_up(float x) { return uint32_t(x) + 1; }

// Bit i set where lane i of x is at least the bound.
RWPM_INLINE uint64_t lanes_at_least(V x, V bound) { return movemask(reinterpret_cast<Simd<float>::Bits>(x >= bound)); }

// float32 cosines of a block of `rows` keys in the vectors of `vector_mask`, -inf in the others.
RWPM_INLINE void refine(const QuantizedVectors& v, int64_t panel, int64_t key, int vector_mask,
                        const float (*approximate)[lanes], float (*cosine)[lanes]) {
  if constexpr (!quantizes) {
    __builtin_memcpy(cosine, approximate, rows * sizeof(*cosine));
  } else {
    if (vector_mask == (1 << columns) - 1) return exact_cosines<columns>(v, panel, key, 0, cosine);
    for (int n = 0; n < columns; ++n) {
      if (!(vector_mask >> n & 1)) {
        for (int m = 0; m < rows; ++m) store(cosine[m] + n * w, broadcast(-infinity));
      } else if (vector_mask >> (n + 1) & 1) {
        exact_cosines<2>(v, panel, key, n++, cosine);
      } else {
        exact_cosines<1>(v, panel, key, n, cosine);
      }
    }
  }
}

// Weights of the pairs that a row drops though its screening has not, in units of that at its keep_threshold; what
// screening drops is bounded without them.
RWPM_INLINE V dropped_weights(V cosine, V screen_threshold, V keep_threshold, float scale) {
  const auto dropped = (cosine >= screen_threshold) & (cosine < keep_threshold);
  const auto bits = reinterpret_cast<typename Simd<float>::Bits>(dropped);
  if (!movemask(bits)) return V{};
  const V weight = exp2_nonpositive<float>((cosine - keep_threshold) * scale);
  return dropped ? weight : V{};
}

// What the filter does with a panel of queries: lists the pairs of a block of `rows` keys that either of their rows
// keeps, by their float32 cosines, and adds up the weights of the pairs that a row drops.
struct Collector {
  const FilterArgs& f;
  const int64_t first_query, query_begin, key_begin;
  Candidates& candidates;
  V keep_threshold[columns], screen_threshold[columns], query_dropped[columns] = {};

  Collector(const FilterArgs& f, int64_t first_query, int64_t query_begin, int64_t key_begin, Candidates& candidates)
      : f(f), first_query(first_query), query_begin(query_begin), key_begin(key_begin), candidates(candidates) {
    for (int n = 0; n < columns; ++n) {
      keep_threshold[n] = load(f.keep_threshold + first_query + n * w);
      screen_threshold[n] = load(f.screen_threshold + first_query + n * w);
    }
  }

  // vector_mask: the vectors of queries whose cosines are there.
  void collect(int64_t first_key, int vector_mask, float (&cosine)[rows][lanes]) {
    uint64_t of_query[rows] = {}, of_key[rows] = {};
    for (int m = 0; m < min(rows, f.pixels - first_key); ++m) {
      const int64_t key = first_key + m;
      // Each pair once, and no pixel with itself.
      for (int64_t lane = key > first_query ? key - first_query : 0; lane < lanes; ++lane) cosine[m][lane] = -infinity;
      const V key_keep = broadcast(f.keep_threshold[key]), key_screen = broadcast(f.screen_threshold[key]);
      V key_dropped = {};
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) {
        if (!(vector_mask >> n & 1)) continue;
        const V x = load(cosine[m] + n * w);
        query_dropped[n] += dropped_weights(x, screen_threshold[n], keep_threshold[n], f.scale);
        key_dropped += dropped_weights(x, key_screen, key_keep, f.scale);
        of_query[m] |= lanes_at_least(x, keep_threshold[n]) << (n * w);
        of_key[m] |= lanes_at_least(x, key_keep) << (n * w);
      }
      const float dropped = horizontal_sum(key_dropped);
      if (dropped > 0) candidates.dropped_weight[key] += round_up(dropped * drop_unit);
    }
    list(first_key, of_query, of_key, cosine);
  }

  // Adds what the queries dropped, once for all keys.
  void finish() {
    float dropped[lanes];
    __builtin_memcpy(dropped, query_dropped, sizeof(dropped));
    for (int lane = 0; lane < min(lanes, f.pixels - first_query); ++lane)
      if (dropped[lane] > 0) candidates.dropped_weight[first_query + lane] += round_up(dropped[lane] * drop_unit);
  }

 private:
  // of_query, of_key: bits of the lanes whose row keeps the pair.
  void list(int64_t first_key, const uint64_t (&of_query)[rows], const uint64_t (&of_key)[rows],
            const float (&cosine)[rows][lanes]) {
    for (int m = 0; m < rows; ++m) {
      for (uint64_t mask = of_query[m]; mask;) {
        const int lane = __builtin_ctzll(mask) / int(group_rows) * int(group_rows);
        CandidateEntry& entry = candidates.of_queries[candidates.query_count++];
        entry.group = uint16_t((first_query - query_begin + lane) / group_rows);
        entry.column = uint16_t(first_key - key_begin + m);
        for (int k = 0; k < group_rows; ++k)
          entry.cosine[k] = of_query[m] >> (lane + k) & 1 ? cosine[m][lane + k] : -infinity;
        mask &= ~(((uint64_t(1) << group_rows) - 1) << lane);
      }
    }
    for (int m = 0; m < rows; m += group_rows) {
      uint64_t mask = 0;
      for (int k = 0; k < group_rows; ++k) mask |= of_key[m + k];
      for (; mask; mask &= mask - 1) {
        const int lane = __builtin_ctzll(mask);
        CandidateEntry& entry = candidates.of_keys[candidates.key_count++];
        entry.group = uint16_t((first_key - key_begin + m) / group_rows);
        entry.column = uint16_t(first_query - query_begin + lane);
        for (int k = 0; k < group_rows; ++k)
          entry.cosine[k] = of_key[m + k] >> lane & 1 ? cosine[m + k][lane] : -infinity;
      }
    }
  }
};

// What the pairs of a panel of queries with a stripe of keys are screened by.
struct Screen {
  const QuantizedVectors& vectors;
  const float* key_threshold;
  V query_error[columns], query_threshold[columns];

  Screen(const QuantizedVectors& vectors, const float* screen_threshold, int64_t first_query)
      : vectors(vectors), key_threshold(screen_threshold) {
    for (int n = 0; n < columns; ++n) {
      query_error[n] = load(vectors.quant_error + first_query + n * w);
      query_threshold[n] = load(screen_threshold + first_query + n * w) - query_error[n];
    }
  }

  // A bit for each vector of queries with a pair that may matter, of `count` keys from `key` on.
  template <int count>
  RWPM_INLINE int candidates(int64_t key, const float (*cosine)[lanes]) const {
    typename Simd<float>::Bits pair_mask[columns] = {};
#pragma GCC unroll 16
    for (int m = 0; m < count; ++m) {
      const float key_error = vectors.quant_error[key + m], threshold = key_threshold[key + m];
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n)
        pair_mask[n] |= reinterpret_cast<typename Simd<float>::Bits>(
            load(cosine[m] + n * w) + key_error >= fmin(query_threshold[n], threshold - query_error[n]));
    }
    int vector_mask = 0;
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) vector_mask |= int(movemask(pair_mask[n]) != 0) << n;
    return vector_mask;
  }
};

void filter(const FilterArgs& f, int64_t panel, int64_t query_begin, int64_t key_begin, int64_t key_end,
            Candidates& candidates) {
  [[maybe_unused]] const TileGuard guard;
  const int64_t first_query = panel * lanes;
  const bool bounded = f.leading.channels > 0;
  const Screen screen(f.embeddings, f.screen_threshold, first_query);
  const Screen bound(bounded ? f.leading : f.embeddings, f.screen_threshold, first_query);
  Collector collector(f, first_query, query_begin, key_begin, candidates);
  const int64_t first_stripe = first_query / stripe * stripe;  // all keys of earlier stripes precede the queries
  const int64_t first_key = key_begin > first_stripe ? key_begin : first_stripe;
  const int64_t queries = min(lanes, f.pixels - first_query);
  candidates.pairs_tested += queries * (min(key_end, f.pixels) - first_key);
  for (int64_t key = first_key; key < key_end; key += stripe) {
    alignas(alignment) float cosine[stripe][lanes];
    if (bounded) {
      approximate_cosines(f.leading, panel, key, cosine);
      if (!bound.candidates<stripe>(key, cosine)) continue;
      candidates.pairs_unbounded += queries * min(stripe, f.pixels - key);
    }
    approximate_cosines(f.embeddings, panel, key, cosine);
    for (int part = 0; part < stripe; part += rows) {
      const int vector_mask = screen.candidates<rows>(key + part, cosine + part);
      if (!vector_mask) continue;
      alignas(alignment) float exact[rows][lanes];
      refine(f.embeddings, panel, key + part, vector_mask, cosine + part, exact);
      collector.collect(key + part, quantizes ? vector_mask : (1 << columns) - 1, exact);
    }
  }
  collector.finish();
}

void project(const float* panel, int64_t channels, const float* directions, int64_t count, float* coordinates) {
  for (int64_t k = 0; k < count; k += rows) {
    V product[rows][columns] = {};
    multiply<float, columns>(channels, directions + k, count, panel, lanes, product);
    for (int m = 0; m < rows; ++m)
      for (int n = 0; n < columns; ++n) store(coordinates + (k + m) * lanes + n * w, product[m][n]);
  }
}

void add_projected(const float* panel, int64_t channels, const float* directions, int64_t count, float* sums) {
  constexpr int max_count = 48;
  alignas(alignment) float coordinates[max_count * lanes], by_lane[lanes][max_count] = {};
  project(panel, channels, directions, count, coordinates);
  for (int lane = 0; lane < lanes; ++lane)
    for (int64_t k = 0; k < count; ++k) by_lane[lane][k] = coordinates[k * lanes + lane];
  for (int64_t d = 0; d < channels; ++d) {
    float sum[max_count] = {};
    for (int lane = 0; lane < lanes; ++lane)
      for (int k = 0; k < max_count; ++k) sum[k] += panel[d * lanes + lane] * by_lane[lane][k];
    for (int64_t k = 0; k < count; ++k) sums[d * count + k] += sum[k];
  }
}

// Adds the values of entries [begin, end) of a group, weighted, to the sums of its rows [first_row, end_row).
template <int N, int first_row, int end_row>
RWPM_INLINE void add_values(const SparseStepArgs& s, const float* from, int64_t begin, int64_t end, int64_t last,
                            V (&sum)[group_rows][N]) {
  constexpr int width = N * w;
  for (int64_t e = begin; e < end; ++e) {
    const float* const next = from + int64_t(s.column[min(e + 8, last)]) * width;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) __builtin_prefetch(next + n * w);
    const float* const values = from + int64_t(s.column[e]) * width;
    const float* const weight = s.weight + e * group_rows;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const V value = load(values + n * w);
#pragma GCC unroll 4
      for (int k = first_row; k < end_row; ++k) sum[k][n] += value * weight[k];
    }
  }
}

template <int N>
void step_panel(const SparseStepArgs& s, int64_t begin, int64_t end, int64_t panel) {
  constexpr int width = N * w, half = group_rows / 2;
  const float* const from = s.from + panel;
  const int64_t last = s.group_start[end] - 1;
  for (int64_t g = begin; g < end; ++g) {
    V sum[group_rows][N] = {};
    add_values<N, 0, group_rows>(s, from, s.group_start[g], s.first_half[g], last, sum);
    add_values<N, 0, half>(s, from, s.first_half[g], s.second_half[g], last, sum);
    add_values<N, half, group_rows>(s, from, s.second_half[g], s.group_start[g + 1], last, sum);
#pragma GCC unroll 4
    for (int k = 0; k < group_rows; ++k) {
      const int64_t row = s.first_row + g * group_rows + k;
      const float alpha = s.alpha[row];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        const int64_t at = panel + row * width + n * w;
        store(s.to + at, sum[k][n] * alpha + load(s.start + at) * (1 - alpha));
      }
    }
  }
}

// By value panels, so that the values that rows gather stay in the cache.
void step(const SparseStepArgs& s, int64_t begin, int64_t end) {
  constexpr void (*steps[])(const SparseStepArgs&, int64_t, int64_t, int64_t) = {nullptr, step_panel<1>, step_panel<2>,
                                                                                 step_panel<columns>};
  for (int64_t channel = 0; channel < s.width; channel += lanes)
    steps[min(lanes, s.width - channel) / w](s, begin, end, channel * s.rows);
}

// A vector that repeats one number per row of a group.
RWPM_INLINE V repeat_group(const float (&of_row)[group_rows]) {
  float x[w];
  for (int k = 0; k < w; ++k) x[k] = of_row[k % group_rows];
  V v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}

void weigh_group(float* weights, int64_t entries, float scale, float* log_sum) {
  typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(float))));
  const int64_t count = entries * group_rows, whole = count / w * w;
  V max = broadcast(-infinity), tail = max;
  __builtin_memcpy(&tail, weights + whole, (count - whole) * sizeof(float));
  for (int64_t k = 0; k < whole; k += w) {
    const V x = *reinterpret_cast<const Unaligned*>(weights + k);
    max = x > max ? x : max;
  }
  max = tail > max ? tail : max;
  float row_max[group_rows] = {-infinity, -infinity, -infinity, -infinity};
  for (int k = 0; k < w; ++k)
    row_max[k % group_rows] = max[k] > row_max[k % group_rows] ? max[k] : row_max[k % group_rows];
  for (float& x : row_max) x = x > -infinity ? x : 0;  // -inf - -inf would be NaN

  const V base = repeat_group(row_max);
  V sums = {};
  for (int64_t k = 0; k < whole; k += w) {
    Unaligned* const at = reinterpret_cast<Unaligned*>(weights + k);
    const V weight = exp2_nonpositive<float>((*at - base) * scale);
    *at = weight;
    sums += weight;
  }
  tail = exp2_nonpositive<float>((tail - base) * scale);
  sums += tail;
  float sum[group_rows] = {}, inv_sum[group_rows];
  for (int k = 0; k < w; ++k) sum[k % group_rows] += sums[k];
  for (int k = 0; k < group_rows; ++k) {
    inv_sum[k] = sum[k] > 0 ? 1 / sum[k] : 0;
    log_sum[k] = row_max[k] * scale + __builtin_log2f(sum[k]);
  }

  const V inv_sums = repeat_group(inv_sum);
  for (int64_t k = 0; k < whole; k += w) *reinterpret_cast<Unaligned*>(weights + k) *= inv_sums;
  tail *= inv_sums;
  __builtin_memcpy(weights + whole, &tail, (count - whole) * sizeof(float));
}

}  // namespace

extern const SparseKernels sparse;
const SparseKernels sparse = {lanes,
                              w,
                              format,
                              quantized_multiply_adds,
                              quantized_bytes,
                              quantize,
                              local_log_sum,
                              max_cosine_bound,
                              min_leading_pixels,
                              project,
                              add_projected,
                              filter,
                              step,
                              weigh_group};

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
