// What a pass over the pairs needs, and the table of kernels that each instruction set fills.
//
// Packing. A panel holds `lanes` pixels, channel by channel: [D][lanes]. Values are cut into panels of up to `lanes`
// channels, pixel by pixel: [N][channels of the panel]. Both are then the operands of one micro-kernel,
// out[m][n] += sum_k a[k][m] * b[k][n]: keys times queries over channels, weights times values over keys.
#pragma once

#include <cstdint>

namespace rwpm::cpu {

constexpr int64_t alignment = 64;  // bytes: a cache line, and the widest vector

template <typename T>
struct Graph {
  int64_t pixels;    // N, at least 2
  int64_t channels;  // D
  T scale;           // log2(e) / tau, because the kernels take powers of two
  const T* panels;   // [ceil(N / lanes)][D][lanes] unit embeddings, zero beyond N
  T* row_maximum;    // [ceil(N / lanes) * lanes] largest cosine with another pixel
  T* inverse_sum;    // [ceil(N / lanes) * lanes] 1 / sum of exp2(scale * (cosine - row_maximum))
};

template <typename T>
struct Step {
  int64_t width;  // C, padded to whole vectors
  T alpha;
  bool adjoint;   // weights S_ji instead of S_ij
  const T* from;  // [value panels][ceil(N / lanes) * lanes][channels of the panel], zero beyond N
  // in and out
  T* to;  // the same layout, to which alpha S from is added; rows beyond N are left alone
};

template <typename T>
struct Kernels {
  int64_t lanes;     // pixels of a panel, and value channels of a full panel
  int64_t vector;    // elements of a vector
  int64_t tile;      // query pixels that one call of `normalize` handles, a multiple of lanes
  int64_t key_tile;  // key pixels whose cosines it holds at a time, a multiple of lanes
  int64_t block;     // pixels of a block that `step` takes, a multiple of lanes
  void (*normalize)(const Graph<T>&, int64_t tile_index, T* scratch);  // scratch: tile * key_tile
  // What two blocks hand each other in a transition, or one its own pixels, added to `to`; scratch: 2 * block * block.
  // cosines: block * block that the blocks' first meeting keeps for the later ones, or nullptr.
  void (*step)(const Graph<T>&, const Step<T>&, int64_t block, int64_t other_block, bool first, T* cosines, T* scratch);
  double (*multiply_adds)(int64_t rounds);  // runs that many rounds of independent multiply-adds; returns how many
};

// Rows of the sparse matrix come in groups that share their columns: neighbors on a map resemble the same pixels, so
// that a value is fetched once for all of them.
constexpr int64_t group_rows = 4;

// What a group keeps of a column: a cosine for each of its rows that keeps the pair, -inf for the others. Group and
// column are counted from the begin of the tile's blocks.
struct Entry {
  uint16_t group, column;
  float cosine[group_rows];
};

// The filter's view of a graph. Products of rounded embeddings say which pairs may matter; those are made exactly.
struct Filter {
  int64_t pixels;       // N
  int64_t channels;     // D
  const float* panels;  // [panel][D][lanes] unit embeddings, zero beyond N
  const char* rounded;  // [panel][rounded_bytes], as `round` makes them
  const float* factor;  // [panel * lanes] the factors of two pixels make a cosine of the product of what is rounded
  const float* off;     // [panel * lanes] by the sum of two pixels' the cosine may be off at most
  const float* see;     // [panel * lanes] cosine below which a pixel need not know of a pair; infinite beyond N
  const float* keep;    // [panel * lanes] cosine from which on a pixel keeps a pair; infinite beyond N
  float scale;          // log2(e) / tau
};

constexpr float drop_unit = 1024;  // what a pixel drops is counted in this part of the weight at its `keep`

// What a call of the filter found; room for lanes * keys / group entries in each list.
struct Found {
  Entry* of_queries;  // rows are queries, columns are keys
  Entry* of_keys;     // the other way round
  int64_t query_count;
  int64_t key_count;
  uint32_t* dropped;  // [N] added to: pairs seen and not kept, rounded up
  int64_t met = 0;    // pairs of pixels that were multiplied, what pads panels and stripes left out
};

// One transition by rows of the sparse matrix: to = alpha S from + (1 - alpha) start; values in the layout of Step.
struct SparseStep {
  int64_t rows;   // of a value panel
  int64_t width;  // C, padded to whole vectors
  float alpha;
  int64_t first_row;           // the pixel of the first group
  const int64_t* group_start;  // [groups + 1] into columns
  const int32_t* column;       // [entries]
  const float* weight;         // [entries][group_rows]
  const float* start;
  const float* from;
  // output
  float* to;
};

struct SparseKernels {
  int64_t lanes;                            // pixels of a panel
  int64_t vector;                           // floats of a vector
  const char* format;                       // of the numbers that `filter` multiplies
  double (*multiply_adds)(int64_t rounds);  // of that format, as in Kernels
  // A rounded panel's bytes, a multiple of the alignment; 0 where the filter multiplies what is not rounded.
  int64_t (*rounded_bytes)(int64_t channels);
  void (*round)(const float* panel, int64_t channels, char* rounded, float* factor, float* off);
  // For each pixel of a query panel, [lanes]: log2 of the sum of exp2(scale * cosine) over the other pixels of the
  // panels of keys, -inf where there are none.
  void (*sum)(const Filter&, int64_t query_panel, const int64_t* key_panels, int64_t count, float* log_sum);
  // For each pixel of a query panel a lower bound of its largest cosine with another pixel: [lanes].
  void (*largest)(const Filter&, int64_t query_panel, float* cosines);
  // What a query panel and the keys [begin, end) keep of each other, every pair once: a key meets the queries before
  // it. The panel's block begins at pixel query_begin, the keys' at `begin`.
  void (*filter)(const Filter&, int64_t query_panel, int64_t query_begin, int64_t begin, int64_t end, Found&);
  void (*step)(const SparseStep&, int64_t begin_group, int64_t end_group);
  // weights: [entries][group_rows] cosines, become shares of what stands in their row; 0 for -inf. log_sum:
  // [group_rows] log2 of the rows' sums of exp2(scale * cosine), -inf for a row without a pair.
  void (*weigh)(float* weights, int64_t entries, float scale, float* log_sum);
};

struct Isa {
  const char* name;
  bool (*available)();
  const Kernels<float>* float32;
  const Kernels<double>* float64;
  const SparseKernels* sparse;
};

}  // namespace rwpm::cpu
