// Kernels of the sparse walk (filter, weights, transition), compiled once per instruction set.
//
// Screening goes by units, a few keys and a vector of queries: pairs that matter lie close together, and a unit costs
// no more than the dot products of a tenth of its pairs, each fetched from memory. Every stage lists the units that
// remain for the next, which multiplies several at a time: bounds by leading channels; approximate cosines in a
// quantized format; and cosines as they are, of the units with a pair that a row keeps.
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
    for (int key = 0; key < keys; key += rows) exact_cosines<columns>(f.embeddings, panel, begin + key, 0, cosine[key]);
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

void max_cosine_bound(const FilterArgs& f, int64_t panel, int64_t step, float* cosines) {
  [[maybe_unused]] const TileGuard guard;
  V max[columns];
  for (V& x : max) x = broadcast(-1);
  for (int64_t begin = 0; begin < f.pixels; begin += step * stripe) {
    alignas(alignment) float cosine[stripe][lanes];
    approximate_cosines(f.embeddings, panel, begin, f.pixels, cosine);
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

// Weights in units of that at the threshold, 0 from there on and below the lower one.
RWPM_INLINE V weights_between(V cosine, V lower, V threshold, float scale) {
  const V weight = exp2_nonpositive<float>((cosine - threshold) * scale);
  return (cosine >= lower) & (cosine < threshold) ? weight : V{};
}

// What the filter does with the cosines of a panel of queries and a group of keys, a vector of queries at a time: adds
// up the weights of the pairs that a row drops, and lists those that either of their rows keeps.
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

  void collect(int n, int64_t first_key, const V (&cosine)[group_rows]) {
    V x[group_rows];
    const int keys = int(min(group_rows, f.pixels - first_key));
    uint32_t of_query[group_rows] = {}, of_key[group_rows] = {};
    for (int m = 0; m < keys; ++m) {
      const int64_t key = first_key + m;
      x[m] = unpaired(n, key, cosine[m]);
      const V key_keep = broadcast(f.keep_threshold[key]), key_screen = broadcast(f.screen_threshold[key]);
      of_query[m] = lanes_at_least(x[m], keep_threshold[n]);
      of_key[m] = lanes_at_least(x[m], key_keep);
      // What screening drops is bounded without it.
      if (lanes_at_least(x[m], screen_threshold[n]) & ~of_query[m])
        query_dropped[n] += weights_between(x[m], screen_threshold[n], keep_threshold[n], f.scale);
      if (lanes_at_least(x[m], key_screen) & ~of_key[m]) {
        const float dropped = horizontal_sum(weights_between(x[m], key_screen, key_keep, f.scale));
        candidates.dropped_weight[key] += round_up(dropped * drop_unit);
      }
    }
    list(n, first_key, of_query, of_key, x);
  }

  // Adds what the queries dropped, once for all keys.
  void finish() {
    float dropped[lanes];
    __builtin_memcpy(dropped, query_dropped, sizeof(dropped));
    for (int lane = 0; lane < min(lanes, f.pixels - first_query); ++lane)
      if (dropped[lane] > 0) candidates.dropped_weight[first_query + lane] += round_up(dropped[lane] * drop_unit);
  }

 private:
  // Each pair once, and no pixel with itself: without the queries from the key on.
  V unpaired(int n, int64_t key, V cosine) const {
    const int64_t paired = key - first_query - n * w;
    if (paired >= w) return cosine;
    for (int lane = paired > 0 ? int(paired) : 0; lane < w; ++lane) cosine[lane] = -infinity;
    return cosine;
  }

  // of_query, of_key: bits of the lanes whose row keeps the pair.
  void list(int n, int64_t first_key, const uint32_t (&of_query)[group_rows], const uint32_t (&of_key)[group_rows],
            const V (&x)[group_rows]) {
    uint32_t of_any_key = 0, of_any_query = 0;
    for (int m = 0; m < group_rows; ++m) {
      of_any_key |= of_key[m];
      of_any_query |= of_query[m];
    }
    if (!(of_any_key | of_any_query)) return;
    float cosine[group_rows][w];
    __builtin_memcpy(cosine, x, sizeof(cosine));
    const auto column = uint16_t(first_key - key_begin);
    const auto query = uint16_t(first_query - query_begin + n * w);
    for (int m = 0; m < group_rows; ++m) {
      for (uint32_t mask = of_query[m]; mask;) {
        const int lane = __builtin_ctz(mask) / int(group_rows) * int(group_rows);
        CandidateEntry& entry = candidates.of_queries[candidates.query_count++];
        entry.group = uint16_t((query + lane) / group_rows);
        entry.column = uint16_t(column + m);
        for (int k = 0; k < group_rows; ++k)
          entry.cosine[k] = of_query[m] >> (lane + k) & 1 ? cosine[m][lane + k] : -infinity;
        mask &= ~(((uint32_t(1) << group_rows) - 1) << lane);
      }
    }
    for (; of_any_key; of_any_key &= of_any_key - 1) {
      const int lane = __builtin_ctz(of_any_key);
      CandidateEntry& entry = candidates.of_keys[candidates.key_count++];
      entry.group = uint16_t(column / group_rows);
      entry.column = uint16_t(query + lane);
      for (int k = 0; k < group_rows; ++k) entry.cosine[k] = of_key[k] >> lane & 1 ? cosine[k][lane] : -infinity;
    }
  }
};

// The units that are left of a panel of queries and some keys: by their queries, the first keys, counted from `begin`.
template <int vectors>
struct UnitLists {
  static constexpr int max_keys = 384, lists = columns / vectors;
  int64_t begin;
  uint16_t offset[lists][max_keys / unit];
  int count[lists] = {};

  explicit UnitLists(int64_t begin) : begin(begin) {}

  // n: the unit's first vector of queries. Without a branch, which nobody could predict.
  RWPM_INLINE void add_if(bool remains, int n, int64_t key) {
    const int list = n / vectors;
    offset[list][count[list]] = uint16_t(key - begin);
    count[list] += remains;
  }

  // Calls visit(number of units, a constant; first vector of queries; first keys) for up to max_units at a time.
  template <int max_units, typename Visit>
  RWPM_INLINE void for_each_batch(const Visit& visit) const {
    for (int list = 0; list < lists; ++list)
      for (int k = 0; k < count[list]; k += max_units) {
        int64_t keys[max_units];
        const int units = int(min(max_units, count[list] - k));
        for (int j = 0; j < units; ++j) keys[j] = begin + offset[list][k + j];
        visit_batch<max_units>(units, list * vectors, keys, visit);
      }
  }

 private:
  template <int units, typename Visit>
  RWPM_INLINE static void visit_batch(int count, int n, const int64_t* keys, const Visit& visit) {
    if (count == units) return visit(Constant<units>{}, n, keys);
    if constexpr (units > 1) visit_batch<units - 1>(count, n, keys, visit);
  }
};

// What the pairs of a panel of queries are screened by: upper bounds of their cosines, which are approximations and the
// errors of both pixels, against the lower one of two thresholds.
struct Screen {
  const float *key_threshold, *key_error;
  V query_threshold[columns], query_error[columns];

  Screen(const float* threshold, const QuantizedVectors& vectors, int64_t first_query)
      : key_threshold(threshold), key_error(vectors.quant_error) {
    for (int n = 0; n < columns; ++n) {
      query_threshold[n] = load(threshold + first_query + n * w);
      query_error[n] = load(vectors.quant_error + first_query + n * w);
    }
  }

  RWPM_INLINE V bound(int n, int64_t key, const float* approximate) const {
    return load(approximate) + (query_error[n] + key_error[key]);
  }

  // Whether any pair of a vector of queries and a unit's keys reaches it. approximate: [unit][row].
  template <int row>
  RWPM_INLINE bool passes(int n, int64_t key, const float* approximate) const {
    V excess = broadcast(-infinity);
#pragma GCC unroll 16
    for (int m = 0; m < unit; ++m)
      excess = fmax(excess, bound(n, key + m, approximate + m * row) -
                                fmin(query_threshold[n], broadcast(key_threshold[key + m])));
    return lanes_at_least(excess, V{}) != 0;
  }
};

// The stages of the filter for a panel of queries. Units: of the format.
template <typename Units>
struct PanelFilter {
  const FilterArgs& f;
  const int64_t panel;
  const Screen matters, is_kept;  // for either pixel of a pair
  const bool queries_active;
  Collector& collector;
  Candidates& candidates;

  PanelFilter(const FilterArgs& f, int64_t panel, Collector& collector, Candidates& candidates)
      : f(f),
        panel(panel),
        matters(f.screen_threshold, f.embeddings, panel * lanes),
        is_kept(f.keep_threshold, f.embeddings, panel * lanes),
        queries_active(is_active(panel * lanes, lanes)),
        collector(collector),
        candidates(candidates) {}

  // Keys [begin, end), no more than the lists have room for.
  void run(int64_t begin, int64_t end) {
    UnitLists<1> kept(begin);
    if (f.leading.channels > 0)
      screen_bounded(begin, end, kept);
    else
      screen_all(begin, end, kept);
    if constexpr (quantizes)
      kept.for_each_batch<Units::max_refined>([&](auto units, int n, const int64_t* keys) {
        alignas(alignment) float cosine[units * unit][w];
        refine<units>(n, keys, cosine);
        for (int k = 0; k < units; ++k) collect(n, keys[k], [&](int m) { return load(cosine[k * unit + m]); });
      });
  }

 private:
  // Whether any of some pixels takes part.
  bool is_active(int64_t pixel, int count) const {
    for (int k = 0; k < count; ++k)
      if (f.screen_threshold[pixel + k] < infinity) return true;
    return false;
  }

  void screen_all(int64_t begin, int64_t end, UnitLists<1>& kept) {
    for (int64_t key = begin; key < end; key += stripe) {
      if (!queries_active && !is_active(key, int(min(stripe, end - key)))) continue;
      alignas(alignment) float cosine[stripe][lanes];
      approximate_cosines(f.embeddings, panel, key, end, cosine);
      for (int part = 0; part < min(stripe, end - key); part += unit)
        for (int n = 0; n < columns; ++n) screen<lanes>(n, key + part, cosine[part] + n * w, kept);
    }
  }

  // Only the units that the leading channels do not reject.
  void screen_bounded([[maybe_unused]] int64_t begin, [[maybe_unused]] int64_t end,
                      [[maybe_unused]] UnitLists<1>& kept) {
    if constexpr (min_leading_pixels > 0) {
      const Screen may_matter(f.screen_threshold, f.leading, panel * lanes);
      UnitLists<Units::vectors> unbounded(begin);
      for (int64_t key = begin; key < end; key += stripe) {
        if (!queries_active && !is_active(key, stripe)) continue;
        alignas(alignment) float cosine[stripe][lanes];
        approximate_cosines(f.leading, panel, key, end, cosine);
#pragma GCC unroll 4
        for (int part = 0; part < stripe; part += unit)
#pragma GCC unroll 4
          for (int n = 0; n < columns; n += Units::vectors) {
            bool remains = false;
            for (int k = n; k < n + Units::vectors; ++k)
              remains |= may_matter.passes<lanes>(k, key + part, cosine[part] + k * w);
            unbounded.add_if(remains, n, key + part);
          }
      }
      unbounded.template for_each_batch<Units::max_count>([&](auto units, int n, const int64_t* keys) {
        constexpr int row = Units::vectors * w;
        alignas(alignment) float cosine[units * unit][row];
        Units::template approximate<units>(f.embeddings, panel, n, keys, cosine);
        for (int k = 0; k < units; ++k)
          for (int v = 0; v < Units::vectors; ++v) screen<row>(n + v, keys[k], cosine[k * unit] + v * w, kept);
        candidates.pairs_unbounded += units * unit * row;
      });
    }
  }

  // Rejects a vector of queries and a unit of keys by their approximate cosines, collects them where no pair is kept,
  // or lists them for refinement.
  template <int row>
  RWPM_INLINE void screen(int n, int64_t key, const float* approximate, [[maybe_unused]] UnitLists<1>& kept) {
    if (!matters.passes<row>(n, key, approximate)) return;
    if constexpr (!quantizes) return collect(n, key, [&](int m) { return load(approximate + m * row); });
    if (is_kept.passes<row>(n, key, approximate)) return kept.add_if(true, n, key);
    // The weights of dropped pairs are bounded well enough by those of their cosines' bounds.
    collect(n, key, [&](int m) { return matters.bound(n, key + m, approximate + m * row); });
  }

  template <int units>
  RWPM_INLINE void refine(int n, const int64_t* keys, float (*cosine)[w]) const {
    if constexpr (parts_error > 0)
      if (f.refine_in_parts) return Units::template refine_in_parts<units>(f.embeddings, panel, n, keys, cosine);
    constexpr int of_unit = unit / group_rows;
    int64_t groups[units * of_unit];
    for (int k = 0; k < units * of_unit; ++k) groups[k] = keys[k / of_unit] + k % of_unit * group_rows;
    exact_group_cosines<units * of_unit>(f.embeddings, panel, n, groups, cosine);
  }

  template <typename Cosine>
  RWPM_INLINE void collect(int n, int64_t key, const Cosine& cosine) {
    for (int part = 0; part < unit; part += group_rows) {
      V x[group_rows];
      for (int m = 0; m < group_rows; ++m) x[m] = cosine(part + m);
      collector.collect(n, key + part, x);
    }
  }
};

void filter(const FilterArgs& f, int64_t panel, int64_t query_begin, int64_t key_begin, int64_t key_end,
            Candidates& candidates) {
  [[maybe_unused]] const TileGuard guard;
  const int64_t first_query = panel * lanes;
  const int64_t first_key = key_begin > first_query ? key_begin : first_query;  // earlier keys precede the queries
  candidates.pairs_tested += min(lanes, f.pixels - first_query) * (min(key_end, f.pixels) - first_key);
  Collector collector(f, first_query, query_begin, key_begin, candidates);
  PanelFilter<ScreenUnits> panel_filter(f, panel, collector, candidates);
  constexpr int max_keys = UnitLists<1>::max_keys;
  for (int64_t key = first_key; key < key_end; key += max_keys) panel_filter.run(key, min(key + max_keys, key_end));
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
    const float* const next = from + int64_t(s.column[min(e + 16, last)]) * width;
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
                              parts_error,
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
