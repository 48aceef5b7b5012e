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
  bool adjoint;    // weights S_ji instead of S_ij
  const T* start;  // [value panels][ceil(N / lanes) * lanes][channels of the panel], zero beyond N
  const T* from;   // the same layout
  // output
  T* to;  // the same layout; rows beyond N are left alone
};

template <typename T>
struct Kernels {
  int64_t lanes;     // pixels of a panel, and value channels of a full panel
  int64_t vector;    // elements of a vector
  int64_t tile;      // query pixels that one call handles, a multiple of lanes
  int64_t key_tile;  // key pixels whose weights are held at a time, a multiple of lanes
  void (*normalize)(const Graph<T>&, int64_t tile_index, T* scratch);             // scratch: tile * key_tile
  void (*step)(const Graph<T>&, const Step<T>&, int64_t tile_index, T* scratch);  // tile * (key_tile + width)
  double (*multiply_adds)(int64_t rounds);  // runs that many rounds of independent multiply-adds; returns how many
};

// A pair of pixels that at least one of them keeps, query < key.
struct Pair {
  int32_t query, key;
  float cosine;
};

// The filter's view of a graph. Rounded embeddings say which pairs may matter; of those, the ones that matter get an
// exact cosine. A word holds one channel as float32, or two as 16-bit integers, times `unit`.
struct Filter {
  int64_t channels;           // D
  int64_t stride;             // D padded to whole vectors
  const float* units;         // [N][stride] unit embeddings, zero beyond D
  const void* panels;         // [panel][words][lanes] rounded embeddings
  float cosine_of_product;    // 1 / unit^2
  float margin;               // no cosine is larger than its rounded one and this
  const void* least_product;  // [panel * lanes] product below which a pixel need not know of a pair: int32 or float32
  const float* see;           // [panel * lanes] the cosine behind it
  const float* keep;          // [panel * lanes] cosine from which on a pixel keeps a pair
  float scale;                // log2(e) / tau
};

// One transition by a sparse matrix in CSR form: to = alpha S from + (1 - alpha) start; values as in Step.
struct SparseStep {
  int64_t rows;   // of a value panel
  int64_t width;  // C, padded to whole vectors
  float alpha;
  const int64_t* row_start;  // [N + 1]
  const int32_t* column;     // [pairs]
  const float* weight;       // [pairs]
  const float* start;
  const float* from;
  // output
  float* to;
};

struct SparseKernels {
  int64_t lanes;             // pixels of a panel
  int64_t vector;            // floats of a vector
  int64_t channels_of_word;  // 2 where the filter multiplies 16-bit integers, else 1
  // Pairs of a query panel and the keys [begin, end) to `pairs`; returns how many. Adds to `dropped`, [N], what each
  // pixel has seen and not kept, rounded up, in units of the weight at `see`. pairs: room for lanes * (end - begin).
  int64_t (*filter)(const Filter&, int64_t query_panel, int64_t begin, int64_t end, Pair* pairs, uint32_t* dropped);
  // For each pixel of a query panel the largest cosine with another pixel, rounded as the filter's: [lanes].
  void (*largest)(const Filter&, int64_t pixels, int64_t query_panel, float* cosines);
  void (*step)(const SparseStep&, int64_t begin, int64_t end);
  // row: [count] cosines, at most `largest`; becomes exp2(scale * (cosine - largest)); returns their sum.
  float (*weigh)(float* row, int64_t count, float largest, float scale);
  float (*dot)(const float* a, const float* b, int64_t stride);
};

struct Isa {
  const char* name;
  bool (*available)();
  const Kernels<float>* float32;
  const Kernels<double>* float64;
  const SparseKernels* sparse;
};

}  // namespace rwpm::cpu
