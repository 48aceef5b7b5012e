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

struct Isa {
  const char* name;
  bool (*available)();
  const Kernels<float>* float32;
  const Kernels<double>* float64;
};

}  // namespace rwpm::cpu
