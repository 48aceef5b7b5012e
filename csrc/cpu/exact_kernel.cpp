// The streaming kernels, compiled once per instruction set.
//
// A tile of queries meets all keys, a key tile at a time: cosines -> weights -> weighted values. Queries lie along
// the vector's lanes, so row maxima and sums need no horizontal operation.
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

// Weights of a tile and the values they meet should stay in a core's own cache together.
constexpr int panels_per_tile = 4;
constexpr int panels_per_key_tile = 6;
constexpr int panels_per_block = 4;

// Query panels [first, last) of a tile and the key pixels [key_begin, key_end) they meet, all multiples of a panel.
struct Tile {
  int64_t first, last, key_begin, key_end;
};

template <typename T>
int64_t panel_count(const Graph<T>& graph) {
  return (graph.pixels + panel_of<T> - 1) / panel_of<T>;
}

// Cosines of a tile, through `map(vector, query, key)`, to s: [query panel][key][lanes].
template <typename T, typename Map>
RWPM_INLINE void cosines(const Graph<T>& graph, const Tile& tile, Map map, T* s) {
  constexpr int lanes = panel_of<T>;
  const int64_t keys = tile.key_end - tile.key_begin;
  for (int64_t query = tile.first; query < tile.last; ++query, s += keys * lanes) {
    const T* const b = graph.panels + query * graph.channels * lanes;
    for (int64_t key = tile.key_begin; key < tile.key_end; key += rows) {
      const T* const a = graph.panels + key / lanes * graph.channels * lanes + key % lanes;
      Vec<T> product[rows][columns] = {};
      multiply<T, columns>(graph.channels, a, lanes, b, lanes, product);
      T* const out = s + (key - tile.key_begin) * lanes;
#pragma GCC unroll 16
      for (int m = 0; m < rows; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < columns; ++n) {
          const int at = n * lanes_of<T>;
          store(out + m * lanes + at, map(product[m][n], query * lanes + at, key + m));
        }
      }
    }
  }
}

// Weight of a pair before the row's sum divides it. Cosines near the maximum subtract without rounding, so that no
// error is scaled up by 1 / tau, and the first pass and the steps get the same bits: rows sum to one.
template <typename T>
RWPM_INLINE Vec<T> weight(const Graph<T>& graph, Vec<T> cosine, Vec<T> maximum) {
  return exp2_nonpositive<T>((cosine - maximum) * graph.scale);
}

// Overwrites what a pixel has with itself: self-affinity is removed, never subtracted after the fact.
template <typename T>
void set_diagonal(const Tile& tile, T value, T* s) {
  constexpr int lanes = panel_of<T>;
  const int64_t keys = tile.key_end - tile.key_begin;
  for (int64_t query = tile.first; query < tile.last; ++query, s += keys * lanes) {
    const int64_t pixel = query * lanes;
    if (pixel < tile.key_begin || pixel >= tile.key_end) continue;
    for (int lane = 0; lane < lanes; ++lane) s[(pixel + lane - tile.key_begin) * lanes + lane] = value;
  }
}

// First pass: row maximum and sum of a query tile, in the running form, so that any temperature is safe.
template <typename T>
void normalize(const Graph<T>& graph, int64_t tile_index, T* s) {
  constexpr int lanes = panel_of<T>;
  constexpr T lowest = -__builtin_inf();
  const int64_t panels = panel_count(graph);
  const int64_t first = tile_index * panels_per_tile, last = least(first + panels_per_tile, panels);
  Vec<T> maximum[panels_per_tile][columns], sum[panels_per_tile][columns] = {};
  for (auto& panel : maximum)
    for (auto& m : panel) m = Vec<T>{} + lowest;

  for (int64_t begin = 0; begin < panels * lanes; begin += panels_per_key_tile * lanes) {
    const Tile tile = {first, last, begin, least(begin + panels_per_key_tile * lanes, panels * lanes)};
    cosines(graph, tile, [](Vec<T> x, int64_t, int64_t) { return x; }, s);
    set_diagonal(tile, lowest, s);
    const int64_t keys = least(tile.key_end, graph.pixels) - begin;  // padding keys take no part
    for (int64_t panel = 0; panel < last - first; ++panel) {
      for (int n = 0; n < columns; ++n) {
        const T* const column = s + panel * (tile.key_end - begin) * lanes + n * lanes_of<T>;
        Vec<T> m = maximum[panel][n];
        for (int64_t key = 0; key < keys; ++key) {
          const Vec<T> x = load(column + key * lanes);
          m = x > m ? x : m;
        }
        // A row may have met nothing but itself so far: -inf less -inf would be no number.
        const Vec<T> base = m > lowest ? m : Vec<T>{};
        Vec<T> tile_sum = {};
        for (int64_t key = 0; key < keys; ++key) tile_sum += weight<T>(graph, load(column + key * lanes), base);
        sum[panel][n] = sum[panel][n] * weight<T>(graph, maximum[panel][n], base) + tile_sum;
        maximum[panel][n] = m;
      }
    }
  }
  for (int64_t panel = first; panel < last; ++panel) {
    for (int n = 0; n < columns; ++n) {
      const int64_t at = panel * lanes + n * lanes_of<T>;
      store(graph.row_maximum + at, maximum[panel - first][n]);
      store(graph.inverse_sum + at, Vec<T>{} + 1 / sum[panel - first][n]);
    }
  }
}

// What `rows` pixels from `pixel` on get, out[pixel][channel] += alpha * sum, for one value panel, `N` vectors wide.
template <typename T, int N>
RWPM_INLINE void add(const Graph<T>& graph, T alpha, const Vec<T> (&sum)[rows][N], int64_t pixel, T* out) {
  constexpr int width = N * lanes_of<T>;
  for (int64_t m = 0; m < least(rows, graph.pixels - pixel); ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      T* const at = out + (pixel + m) * width + n * lanes_of<T>;
      store(at, load(at) + sum[m][n] * alpha);
    }
  }
}

// Both ways between the pixels of a tile for one value panel: what queries get from keys by `of_queries` and, unless
// the tile is square on the diagonal, what keys get from queries by `of_keys`; weights are [query panel][key][lanes].
template <typename T, int N>
void exchange(const Graph<T>& graph, const Tile& tile, T alpha, const T* of_queries, const T* of_keys, const T* from,
              T* to) {
  constexpr int lanes = panel_of<T>, width = N * lanes_of<T>;
  const int64_t keys = tile.key_end - tile.key_begin, begin = tile.first * lanes, end = tile.last * lanes;
  for (int64_t query = begin; query < end; query += rows) {
    const T* const a = of_queries + (query - begin) / lanes * keys * lanes + query % lanes;
    // From zero for each tile: one running sum over all keys would round equal weights the same way N times.
    Vec<T> sum[rows][N] = {};
    multiply<T, N>(keys, a, lanes, from + tile.key_begin * width, width, sum);
    add<T, N>(graph, alpha, sum, query, to);
  }
  if (!of_keys) return;
  for (int64_t key = tile.key_begin; key < tile.key_end; key += rows) {
    Vec<T> sum[rows][N] = {};
    for (int64_t panel = tile.first; panel < tile.last; ++panel) {
      const T* const a = of_keys + ((panel - tile.first) * keys + key - tile.key_begin) * lanes;
      multiply<T, N, lanes>(lanes, a, 1, from + panel * lanes * width, width, sum);
    }
    add<T, N>(graph, alpha, sum, key, to);
  }
}

template <typename T>
using Exchange = void (*)(const Graph<T>&, const Tile&, T, const T*, const T*, const T*, T*);

template <typename T>
constexpr Exchange<T> exchanges[] = {nullptr, exchange<T, 1>, exchange<T, 2>, exchange<T, columns>};

// The cosines of a tile that was kept, through `map`, as `cosines` gives them.
template <typename T, typename Map>
RWPM_INLINE void kept_cosines(const Tile& tile, Map map, const T* kept, T* s) {
  constexpr int lanes = panel_of<T>;
  for (int64_t query = tile.first; query < tile.last; ++query)
    for (int64_t key = tile.key_begin; key < tile.key_end; ++key, s += lanes, kept += lanes)
#pragma GCC unroll 4
      for (int at = 0; at < lanes; at += lanes_of<T>) store(s + at, map(load(kept + at), query * lanes + at, key));
}

// The weights are made anew at every step, from kept cosines or from the panels; a cosine serves both of its pixels.
template <typename T>
void step(const Graph<T>& graph, const Step<T>& s, int64_t block, int64_t other, bool first, T* kept, T* scratch) {
  constexpr int lanes = panel_of<T>;
  const int64_t panels = panel_count(graph);
  const Tile tile = {block * panels_per_block, least((block + 1) * panels_per_block, panels),
                     other * panels_per_block * lanes, least((other + 1) * panels_per_block, panels) * lanes};
  const int64_t keys = tile.key_end - tile.key_begin;
  const bool diagonal = block == other;
  T* const by_query = scratch;  // [query panel][key][lanes] weights that sum to one over the keys of a query
  T* const by_key = scratch + panels_per_block * panels_per_block * lanes * lanes;  // and over the queries of a key
  const auto weigh_both = [&](Vec<T> x, int64_t query, int64_t key) {
    const Vec<T> of_key = weight<T>(graph, x, Vec<T>{} + graph.row_maximum[key]) * graph.inverse_sum[key];
    store(by_key + ((query / lanes - tile.first) * keys + key - tile.key_begin) * lanes + query % lanes, of_key);
    return weight<T>(graph, x, load(graph.row_maximum + query)) * load(graph.inverse_sum + query);
  };
  const auto weigh_queries = [&](Vec<T> x, int64_t query, int64_t) {
    return weight<T>(graph, x, load(graph.row_maximum + query)) * load(graph.inverse_sum + query);
  };
  if (kept && first) cosines(graph, tile, [](Vec<T> x, int64_t, int64_t) { return x; }, kept);
  const bool both = !diagonal || s.adjoint;
  if (kept)
    both ? kept_cosines(tile, weigh_both, kept, by_query) : kept_cosines(tile, weigh_queries, kept, by_query);
  else
    both ? cosines(graph, tile, weigh_both, by_query) : cosines(graph, tile, weigh_queries, by_query);
  if (diagonal) {
    set_diagonal(tile, T(0), by_query);
    set_diagonal(tile, T(0), by_key);
  }
  const T* const of_queries = s.adjoint ? by_key : by_query;
  const T* const of_keys = diagonal ? nullptr : s.adjoint ? by_query : by_key;
  for (int64_t channel = 0; channel < s.width; channel += lanes) {
    const int64_t width = least(lanes, s.width - channel), at = channel * panels * lanes;
    exchanges<T>[width / lanes_of<T>](graph, tile, s.alpha, of_queries, of_keys, s.from + at, s.to + at);
  }
}

template <typename T>
constexpr Kernels<T> table = {panel_of<T>,
                              lanes_of<T>,
                              panels_per_tile * panel_of<T>,
                              panels_per_key_tile * panel_of<T>,
                              panels_per_block * panel_of<T>,
                              normalize<T>,
                              step<T>,
                              multiply_adds<T>};

}  // namespace

extern const Kernels<float> float32;
extern const Kernels<double> float64;
const Kernels<float> float32 = table<float>;
const Kernels<double> float64 = table<double>;

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
