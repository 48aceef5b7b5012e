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
    for (V& cosines : x) cosines = broadcast(-infinity);
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
    alignas(alignment) float of_queries[group_rows][w], of_keys[group_rows][w];
    const V none = broadcast(-infinity);
    for (int m = 0; m < group_rows; ++m) {
      store(of_queries[m], x[m] >= keep_threshold[n] ? x[m] : none);
      const float key_keep = of_key[m] ? f.keep_threshold[first_key + m] : infinity;  // keys end with the pixels
      store(of_keys[m], x[m] >= broadcast(key_keep) ? x[m] : none);
    }
    const auto column = uint16_t(first_key - key_begin);
    const auto query = uint16_t(first_query - query_begin + n * w);
    // Every entry is written, and counted where a row keeps it: whether it does nobody could predict.
    CandidateEntry* to = candidates.of_queries + candidates.query_count;
    for (int m = 0; m < group_rows; ++m)
      for (int lane = 0; lane < w; lane += group_rows) {
        to->group = uint16_t((query + lane) / group_rows);
        to->column = uint16_t(column + m);
        __builtin_memcpy(to->cosine, &of_queries[m][lane], sizeof(to->cosine));
        to += (of_query[m] >> lane & ((1 << group_rows) - 1)) != 0;
      }
    candidates.query_count = to - candidates.of_queries;
    to = candidates.of_keys + candidates.key_count;
    for (int lane = 0; lane < w; ++lane) {
      to->group = uint16_t(column / group_rows);
      to->column = uint16_t(query + lane);
      for (int k = 0; k < group_rows; ++k) to->cosine[k] = of_keys[k][lane];
      to += of_any_key >> lane & 1;
    }
    candidates.key_count = to - candidates.of_keys;
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

// A vector that repeats `count` numbers.
template <int count>
RWPM_INLINE V repeat(const float* numbers) {
  float x[w];
  for (int k = 0; k < w; ++k) x[k] = numbers[k % count];
  V v;
  __builtin_memcpy(&v, x, sizeof(v));
  return v;
}

// Weights of entries with so many codes each. low_code: or nullptr. row_scale: [codes].
template <int codes>
RWPM_INLINE void decode(const uint16_t* code, const uint16_t* low_code, int64_t entries, const float* row_scale,
                        float* weight) {
  typedef uint16_t Codes __attribute__((vector_size(vector_bytes / 2), aligned(alignof(uint16_t))));
  typedef int32_t Integers __attribute__((vector_size(vector_bytes)));
  typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(float))));
  const V scale = repeat<codes>(row_scale);
  const auto numbers = [](const uint16_t* from) {
    return __builtin_convertvector(__builtin_convertvector(*reinterpret_cast<const Codes*>(from), Integers), V);
  };
  const auto decode_vector = [&](int64_t k) {
    V root = numbers(code + k);
    if (low_code) root += numbers(low_code + k) * (1.f / low_unit);
    root *= scale;
    *reinterpret_cast<Unaligned*>(weight + k) = root * root;
  };
  const int64_t count = entries * codes;
  if (count >= w) {
    for (int64_t k = 0; k + w < count; k += w) decode_vector(k);
    decode_vector(count - w);  // may overlap the one before
  } else {
    for (int64_t k = 0; k < count; ++k) {
      const float root = (float(code[k]) + (low_code ? float(low_code[k]) / low_unit : 0)) * row_scale[k % codes];
      weight[k] = root * root;
    }
  }
}

// Adds the values of entries [begin, end) of a group, weighted, to the sums of its rows [first_row, end_row), for which
// each entry has a code, in P value panels.
template <int N, int P, int first_row, int end_row>
RWPM_INLINE void add_values(const SparseStepArgs& s, const float* from, int64_t begin, int64_t end, int64_t last,
                            int64_t code, const float* row_scale, V (&sums)[P][group_rows][N]) {
  constexpr int width = N * w, codes = end_row - first_row;
  constexpr int64_t batch = 64;  // entries whose weights are decoded at a time: they stay in the L1 cache
  alignas(alignment) float weights[batch * codes];
  for (int64_t first = begin; first < end; first += batch, code += batch * codes) {
    const int64_t batch_end = min(first + batch, end);
    decode<codes>(s.code + code, s.low_code ? s.low_code + code : nullptr, batch_end - first, row_scale + first_row,
                  weights);
    for (int p = 0; p < P; ++p) {
      const float* const panel = from + p * width * s.rows;
      V sum[codes][N];
      __builtin_memcpy(sum, sums[p][first_row], sizeof(sum));
      for (int64_t e = first; e < batch_end; ++e) {
        const float* const next = panel + int64_t(s.column[min(e + 16, last)]) * width;
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) __builtin_prefetch(next + n * w);
        const float* const values = panel + int64_t(s.column[e]) * width;
        const float* const weight = weights + (e - first) * codes;
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          const V value = load(values + n * w);
#pragma GCC unroll 4
          for (int k = 0; k < codes; ++k) sum[k][n] += value * weight[k];
        }
      }
      __builtin_memcpy(sums[p][first_row], sum, sizeof(sum));
    }
  }
}

// A step of P value panels of N vectors, from `panel` on.
template <int N, int P>
void step_panels(const SparseStepArgs& s, int64_t begin, int64_t end, int64_t panel) {
  constexpr int width = N * w, half = group_rows / 2;
  const float* const from = s.from + panel;
  const int64_t last = s.group_start[end].entry - 1;
  for (int64_t g = begin; g < end; ++g) {
    const GroupStart& at = s.group_start[g];
    const int64_t group_end = s.group_start[g + 1].entry;
    const int64_t half_code = at.code + (at.first_half - at.entry) * group_rows;
    const float* const row_scale = s.row_scale + s.first_row + g * group_rows;
    V sums[P][group_rows][N] = {};
    add_values<N, P, 0, group_rows>(s, from, at.entry, at.first_half, last, at.code, row_scale, sums);
    add_values<N, P, 0, half>(s, from, at.first_half, at.second_half, last, half_code, row_scale, sums);
    add_values<N, P, half, group_rows>(s, from, at.second_half, group_end, last,
                                       half_code + (at.second_half - at.first_half) * half, row_scale, sums);
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int k = 0; k < group_rows; ++k) {
        const int64_t row = s.first_row + g * group_rows + k;
        const float alpha = s.alpha[row];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          const int64_t to = panel + (p * s.rows + row) * width + n * w;
          store(s.to + to, sums[p][k][n] * alpha + load(s.start + to) * (1 - alpha));
        }
      }
  }
}

// By value panels, so that the values that rows gather stay in the cache; several at a time where they are narrow, so
// that weights are decoded less often.
void step(const SparseStepArgs& s, int64_t begin, int64_t end) {
  constexpr int several = 48 / lanes;
  int64_t channel = 0;
  for (; s.width - channel >= several * lanes; channel += several * lanes)
    step_panels<columns, several>(s, begin, end, channel * s.rows);
  constexpr void (*steps[])(const SparseStepArgs&, int64_t, int64_t, int64_t) = {
      nullptr, step_panels<1, 1>, step_panels<2, 1>, step_panels<columns, 1>};
  for (; channel < s.width; channel += lanes) steps[min(lanes, s.width - channel) / w](s, begin, end, channel * s.rows);
}

// Overwrites a group's cosines by the square roots of their weights relative to the largest of the row: 0 for -inf.
// row_max: [group_rows] the rows' largest cosines, 0 for a row without a pair.
void square_roots(float* cosines, int64_t entries, float scale, float (&row_max)[group_rows]) {
  typedef float Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(float))));
  const int64_t count = entries * group_rows, whole = count / w * w;
  V max = broadcast(-infinity), tail = max;
  __builtin_memcpy(&tail, cosines + whole, (count - whole) * sizeof(float));
  for (int64_t k = 0; k < whole; k += w) {
    const V x = *reinterpret_cast<const Unaligned*>(cosines + k);
    max = x > max ? x : max;
  }
  max = tail > max ? tail : max;
  for (float& x : row_max) x = -infinity;
  for (int k = 0; k < w; ++k)
    row_max[k % group_rows] = max[k] > row_max[k % group_rows] ? max[k] : row_max[k % group_rows];
  for (float& x : row_max) x = x > -infinity ? x : 0;  // -inf - -inf would be NaN

  const V base = repeat<group_rows>(row_max);
  for (int64_t k = 0; k < whole; k += w) {
    Unaligned* const at = reinterpret_cast<Unaligned*>(cosines + k);
    *at = exp2_nonpositive<float>((*at - base) * (scale / 2));
  }
  tail = exp2_nonpositive<float>((tail - base) * (scale / 2));
  __builtin_memcpy(cosines + whole, &tail, (count - whole) * sizeof(float));
}

// Sums are in double precision, so that what rounding moves is not lost in the rounding of its sum.
void weigh_group(float* cosines, int64_t entries, float scale, float min_share, uint16_t* code, uint16_t* low_code,
                 WeighedRows& rows) {
  typedef float Floats __attribute__((vector_size(group_rows * sizeof(float)), aligned(alignof(float))));
  typedef int32_t Integers __attribute__((vector_size(group_rows * sizeof(int32_t))));
  typedef double Doubles __attribute__((vector_size(group_rows * sizeof(double))));
  typedef uint16_t Codes __attribute__((vector_size(group_rows * sizeof(uint16_t)), aligned(alignof(uint16_t))));
  float row_max[group_rows];
  square_roots(cosines, entries, scale, row_max);
  const auto root = [&](int64_t e) { return reinterpret_cast<const Floats*>(cosines + e * group_rows); };
  const auto codes_of = [](uint16_t* codes, int64_t e) { return reinterpret_cast<Codes*>(codes + e * group_rows); };
  const auto read_stored = [&](int64_t e, Doubles& x) {
    x = __builtin_convertvector(*codes_of(code, e), Doubles);
    if (low_code) x += __builtin_convertvector(*codes_of(low_code, e), Doubles) * (1. / low_unit);
  };
  Doubles sum = {};
  for (int64_t e = 0; e < entries; ++e) {
    const Doubles x = __builtin_convertvector(*root(e), Doubles);
    sum += x * x;
  }
  Floats min_root;
  for (int k = 0; k < group_rows; ++k) min_root[k] = sum[k] > 0 ? __builtin_sqrtf(float(min_share * sum[k])) : infinity;

  Doubles trimmed = {}, stored = {};
  for (int64_t e = 0; e < entries; ++e) {
    const Integers large = *root(e) >= min_root;
    Integers codes = {}, low_codes = {};
    if (large[0] | large[1] | large[2] | large[3]) {
      const Floats x = *root(e) * float(max_code);
      if (low_code) {
        codes = __builtin_convertvector(x, Integers);
        low_codes = __builtin_convertvector((x - __builtin_convertvector(codes, Floats)) * float(low_unit), Integers);
      } else {
        codes = __builtin_convertvector(x + 0.5f, Integers);
      }
    } else {
      const Doubles x = __builtin_convertvector(*root(e), Doubles);
      trimmed += x * x;
    }
    *codes_of(code, e) = __builtin_convertvector(codes, Codes);
    if (low_code) *codes_of(low_code, e) = __builtin_convertvector(low_codes, Codes);
    Doubles x;
    read_stored(e, x);
    stored += x * x;
  }
  const Doubles share = sum > 0 ? 1 / sum : Doubles{}, stored_share = sum > 0 ? 1 / stored : Doubles{};
  Doubles difference = {};
  for (int64_t e = 0; e < entries; ++e) {
    const Doubles x = __builtin_convertvector(*root(e), Doubles);
    Doubles y;
    read_stored(e, y);
    const Doubles off = x * x * share - y * y * stored_share;
    difference += off < 0 ? -off : off;
  }
  for (int k = 0; k < group_rows; ++k) {
    rows.log_sum[k] = row_max[k] * scale + __builtin_log2f(float(sum[k]));
    rows.scale[k] = float(__builtin_sqrt(stored_share[k]));
    rows.trimmed_mass[k] = trimmed[k] * share[k];
    rows.moved_mass[k] = difference[k] / 2 + 0x1p-50;  // a margin for the rounding of these sums
  }
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
