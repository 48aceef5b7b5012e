// Kernels of the exact streaming walk, compiled once per instruction set.
//
// Cosines -> weights -> weighted values, for a tile of queries and a tile of keys at a time. Queries lie along the
// lanes of a vector, so row maxima and sums need no horizontal operation.
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

// The weights of a tile and the values that they multiply should fit a core's own cache together.
constexpr int panels_per_tile = 4;
constexpr int panels_per_key_tile = 6;
constexpr int panels_per_block = 4;

// Query panels [first, last) and key pixels [key_begin, key_end), multiples of a panel.
struct Tile {
  int64_t first, last, key_begin, key_end;
};

template <typename T>
int64_t panel_count(const PackedGraph<T>& graph) {
  return (graph.pixels + panel_of<T> - 1) / panel_of<T>;
}

// Products of the tile's vectors of `depth` numbers, through `map(vector, query, key)`, to s: [query
// panel][key][lanes]. of_queries, of_keys: [panel][depth][lanes].
template <typename T, typename Map>
RWPM_INLINE void products(int64_t depth, const T* of_queries, const T* of_keys, const Tile& tile, Map map, T* s) {
  constexpr int lanes = panel_of<T>;
  const int64_t keys = tile.key_end - tile.key_begin;
  for (int64_t query = tile.first; query < tile.last; ++query, s += keys * lanes) {
    const T* const b = of_queries + query * depth * lanes;
    for (int64_t key = tile.key_begin; key < tile.key_end; key += rows) {
      const T* const a = of_keys + key / lanes * depth * lanes + key % lanes;
      Vec<T> product[rows][columns] = {};
      multiply<T, columns>(depth, a, lanes, b, lanes, product);
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

// Cosines of a tile, as `products`.
template <typename T, typename Map>
RWPM_INLINE void cosines(const PackedGraph<T>& graph, const Tile& tile, Map map, T* s) {
  products(graph.channels, graph.panels, graph.panels, tile, map, s);
}

// Weight of a pair before division by the row's sum. Cosines near the maximum are subtracted without rounding, so that
// no error is scaled up by 1 / tau, and the first pass and the steps compute the same bits: rows sum to one.
template <typename T>
RWPM_INLINE Vec<T> weight(const PackedGraph<T>& graph, Vec<T> cosine, Vec<T> row_max) {
  return exp2_nonpositive<T>((cosine - row_max) * graph.scale);
}

// Overwrites the cosine or weight of each pixel with itself: self-affinity is left out of sums, never subtracted later.
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

// First pass: row maximum and sum of a query tile, by the online softmax, so that no temperature overflows.
template <typename T>
void normalize(const PackedGraph<T>& graph, int64_t tile_index, T* s) {
  constexpr int lanes = panel_of<T>;
  constexpr T lowest = -__builtin_inf();
  const int64_t panels = panel_count(graph);
  const int64_t first = tile_index * panels_per_tile, last = min(first + panels_per_tile, panels);
  Vec<T> row_max[panels_per_tile][columns], sum[panels_per_tile][columns] = {};
  for (auto& panel : row_max)
    for (auto& m : panel) m = Vec<T>{} + lowest;

  for (int64_t begin = 0; begin < panels * lanes; begin += panels_per_key_tile * lanes) {
    const Tile tile = {first, last, begin, min(begin + panels_per_key_tile * lanes, panels * lanes)};
    cosines(graph, tile, [](Vec<T> x, int64_t, int64_t) { return x; }, s);
    set_diagonal(tile, lowest, s);
    const int64_t keys = min(tile.key_end, graph.pixels) - begin;  // without padding
    for (int64_t panel = 0; panel < last - first; ++panel) {
      for (int n = 0; n < columns; ++n) {
        const T* const column = s + panel * (tile.key_end - begin) * lanes + n * lanes_of<T>;
        Vec<T> m = row_max[panel][n];
        for (int64_t key = 0; key < keys; ++key) {
          const Vec<T> x = load(column + key * lanes);
          m = x > m ? x : m;
        }
        // The only key of a row so far may be the row itself: -inf - -inf would be NaN.
        const Vec<T> base = m > lowest ? m : Vec<T>{};
        Vec<T> tile_sum = {};
        for (int64_t key = 0; key < keys; ++key) tile_sum += weight<T>(graph, load(column + key * lanes), base);
        sum[panel][n] = sum[panel][n] * weight<T>(graph, row_max[panel][n], base) + tile_sum;
        row_max[panel][n] = m;
      }
    }
  }
  for (int64_t panel = first; panel < last; ++panel) {
    for (int n = 0; n < columns; ++n) {
      const int64_t at = panel * lanes + n * lanes_of<T>;
      store(graph.row_max + at, row_max[panel - first][n]);
      store(graph.inv_row_sum + at, Vec<T>{} + 1 / sum[panel - first][n]);
    }
  }
}

// out[pixel][channel] += alpha * sum for `rows` pixels from `pixel` on and one value panel, `N` vectors wide.
template <typename T, int N>
RWPM_INLINE void add(const PackedGraph<T>& graph, T alpha, const Vec<T> (&sum)[rows][N], int64_t pixel, T* out) {
  constexpr int width = N * lanes_of<T>;
  for (int64_t m = 0; m < min(rows, graph.pixels - pixel); ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      T* const at = out + (pixel + m) * width + n * lanes_of<T>;
      store(at, load(at) + sum[m][n] * alpha);
    }
  }
}

// One value panel of a tile, in both directions: queries gather from keys by the weights `of_queries` and, if `of_keys`
// is given, keys gather from queries by the weights `of_keys`. Weights are [query panel][key][lanes].
template <typename T, int N>
void exchange(const PackedGraph<T>& graph, const Tile& tile, T alpha, const T* of_queries, const T* of_keys,
              const T* from, T* to) {
  constexpr int lanes = panel_of<T>, width = N * lanes_of<T>;
  const int64_t keys = tile.key_end - tile.key_begin, begin = tile.first * lanes, end = tile.last * lanes;
  for (int64_t query = begin; query < end; query += rows) {
    const T* const a = of_queries + (query - begin) / lanes * keys * lanes + query % lanes;
    // From zero for each tile: a single sum over all keys would round equal weights in the same direction N times.
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
using Exchange = void (*)(const PackedGraph<T>&, const Tile&, T, const T*, const T*, const T*, T*);

template <typename T>
constexpr Exchange<T> exchanges[] = {nullptr, exchange<T, 1>, exchange<T, 2>, exchange<T, columns>};

// As `products`, from the cached cosines of a tile.
template <typename T, typename Map>
RWPM_INLINE void load_cosines(const Tile& tile, Map map, const T* cached, T* s) {
  constexpr int lanes = panel_of<T>;
  for (int64_t query = tile.first; query < tile.last; ++query)
    for (int64_t key = tile.key_begin; key < tile.key_end; ++key, s += lanes, cached += lanes)
#pragma GCC unroll 4
      for (int at = 0; at < lanes; at += lanes_of<T>) store(s + at, map(load(cached + at), query * lanes + at, key));
}

// Computes the weights of a pair of blocks, from cached cosines or from the panels, and applies them. A cosine serves
// both of its pixels.
template <typename T>
void step(const PackedGraph<T>& graph, const StepArgs<T>& s, int64_t block, int64_t other, bool first_step, T* cached,
          T* scratch) {
  constexpr int lanes = panel_of<T>;
  const int64_t panels = panel_count(graph);
  const Tile tile = {block * panels_per_block, min((block + 1) * panels_per_block, panels),
                     other * panels_per_block * lanes, min((other + 1) * panels_per_block, panels) * lanes};
  const int64_t keys = tile.key_end - tile.key_begin;
  const bool diagonal = block == other;
  // Weights [query panel][key][lanes], divided by the sum of the query's row or of the key's row.
  T* const by_query = scratch;
  T* const by_key = scratch + panels_per_block * panels_per_block * lanes * lanes;
  const auto weigh_both = [&](Vec<T> x, int64_t query, int64_t key) {
    const Vec<T> of_key = weight<T>(graph, x, Vec<T>{} + graph.row_max[key]) * graph.inv_row_sum[key];
    store(by_key + ((query / lanes - tile.first) * keys + key - tile.key_begin) * lanes + query % lanes, of_key);
    return weight<T>(graph, x, load(graph.row_max + query)) * load(graph.inv_row_sum + query);
  };
  const auto weigh_queries = [&](Vec<T> x, int64_t query, int64_t) {
    return weight<T>(graph, x, load(graph.row_max + query)) * load(graph.inv_row_sum + query);
  };
  if (cached && first_step) cosines(graph, tile, [](Vec<T> x, int64_t, int64_t) { return x; }, cached);
  const bool both = !diagonal || s.adjoint;
  if (cached)
    both ? load_cosines(tile, weigh_both, cached, by_query) : load_cosines(tile, weigh_queries, cached, by_query);
  else
    both ? cosines(graph, tile, weigh_both, by_query) : cosines(graph, tile, weigh_queries, by_query);
  if (diagonal) {
    set_diagonal(tile, T(0), by_query);
    set_diagonal(tile, T(0), by_key);
  }
  const T* const of_queries = s.adjoint ? by_key : by_query;
  const T* const of_keys = diagonal ? nullptr : s.adjoint ? by_query : by_key;
  for (int64_t channel = 0; channel < s.width; channel += lanes) {
    const int64_t width = min(lanes, s.width - channel), at = channel * panels * lanes;
    exchanges<T>[width / lanes_of<T>](graph, tile, s.alpha, of_queries, of_keys, s.from + at, s.to + at);
  }
}

// Computes H + H^T of a pair of blocks, and applies it. The products are formed for queries and keys in turn.
template <typename T>
void add_pair_gradient(const PackedGraph<T>& graph, const PairGradientArgs<T>& s, int64_t block, int64_t other,
                       const T* cached, T* scratch) {
  constexpr int lanes = panel_of<T>;
  const int64_t panels = panel_count(graph);
  const Tile tile = {block * panels_per_block, min((block + 1) * panels_per_block, panels),
                     other * panels_per_block * lanes, min((other + 1) * panels_per_block, panels) * lanes};
  const int64_t keys = tile.key_end - tile.key_begin, size = panels_per_block * panels_per_block * lanes * lanes;
  const auto at = [&](int64_t query, int64_t key) {
    return ((query / lanes - tile.first) * keys + key - tile.key_begin) * lanes + query % lanes;
  };
  T *const by_query = scratch, *const by_key = scratch + size, *const sum = scratch + 2 * size;
  const auto weigh = [&](Vec<T> x, int64_t query, int64_t key) {
    store(by_key + at(query, key), weight<T>(graph, x, Vec<T>{} + graph.row_max[key]) * graph.inv_row_sum[key]);
    return weight<T>(graph, x, load(graph.row_max + query)) * load(graph.inv_row_sum + query);
  };
  cached ? load_cosines(tile, weigh, cached, by_query) : cosines(graph, tile, weigh, by_query);
  if (block == other) {
    set_diagonal(tile, T(0), by_query);
    set_diagonal(tile, T(0), by_key);
  }
  const auto of_query = [&](Vec<T> x, int64_t query, int64_t key) {
    if (s.offset) x += load(s.offset + query);
    return x * load(by_query + at(query, key));
  };
  const auto of_both = [&](Vec<T> x, int64_t query, int64_t key) {
    if (s.offset) x += s.offset[key];
    return x * load(by_key + at(query, key)) + load(sum + at(query, key));
  };
  products(s.depth, s.left, s.right, tile, of_query, sum);
  products(s.depth, s.right, s.left, tile, of_both, sum);
  for (int64_t channel = 0; channel < s.width; channel += lanes) {
    const int64_t width = min(lanes, s.width - channel), panel = channel * panels * lanes;
    exchanges<T>[width / lanes_of<T>](graph, tile, T(1), sum, block == other ? nullptr : sum, s.from + panel,
                                      s.to + panel);
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
                              add_pair_gradient<T>,
                              multiply_adds<T>};

}  // namespace

extern const Kernels<float> float32;
extern const Kernels<double> float64;
const Kernels<float> float32 = table<float>;
const Kernels<double> float64 = table<double>;

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
