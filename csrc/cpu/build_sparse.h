// Builds the sparse transition matrix of a graph by filter and refine: screen all pairs with quantized embeddings,
// select from the exact cosines of the rest, weigh what rows keep.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/buffer.h"
#include "walk.h"

namespace rwpm::cpu {

// A sparse transition matrix by blocks of rows. Within a block `group_rows` rows at a time form a group and share their
// columns, with a weight of zero where a row of the group does not keep the pair. Rows sum to 1.
struct GroupedMatrix {
  struct Block {
    std::vector<int64_t> group_start;  // [groups + 1]
    Buffer<int32_t> column{0};         // [entries]
    Buffer<float> weight{0};           // [entries][group_rows]
  };
  static constexpr int64_t block_rows = 384;  // of every block but the last; a multiple of the lanes of a panel
  std::vector<Block> blocks;                  // [ceil(N / block_rows)]
  std::vector<float> dropped_mass;            // [N] upper bound of the share of its exact mass that a row dropped
  int64_t pairs = 0;                          // ordered pairs
};

// panels: unit embeddings as the kernels read them, [panel][D][lanes], zero beyond N. patches_per_row: where a panel is
// a patch of the map, the number of patches side by side, so that panels above and below bound row sums well; with
// other orders of pixels the build takes longer. scale: log2(e) / tau. Every row drops at most `tolerance`. Returns
// nothing when groups would store more than the share `max_density` of all pairs, or the matrix would take more than a
// GiB.
std::optional<GroupedMatrix> build_matrix(const float* panels, int64_t pixels, int64_t channels,
                                          int64_t patches_per_row, float scale, double tolerance, double max_density,
                                          const ParallelFor& parallel_for);

// Times a filter pass alone, as build_matrix runs it, but with the same `threshold` for all pixels: the cosine from
// which on a pair is kept. With a threshold well above 1 no pair is found, whatever the quantization error, and only
// screening is timed; with an infinite one nothing is tested.
struct FilterTiming {
  double seconds;        // of the pass, without the quantization before it
  int64_t pairs_tested;  // pairs of pixels that were multiplied in the kernels' format, D products each
  int64_t pairs_kept;    // ordered pairs
};
FilterTiming time_filter(const float* panels, int64_t pixels, int64_t channels, float threshold,
                         const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
