// The frame compiled into a sparse transition matrix: filter all pairs in rounded arithmetic, refine the survivors.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/buffer.h"
#include "walk.h"

namespace rwpm::cpu {

// Rows are held in blocks, and in a block in groups of `group_rows` rows that share their columns, with a weight of
// zero where a row of the group does not keep the pair. Rows sum to 1. What a row dropped is a share of its exact mass,
// bounded from above.
struct Transition {
  struct Block {
    std::vector<int64_t> group_start;  // [groups + 1]
    Buffer<int32_t> column{0};         // [entries]
    Buffer<float> weight{0};           // [entries][group_rows]
  };
  static constexpr int64_t block_rows = 384;  // of every block but the last; whole panels of any width
  std::vector<Block> blocks;                  // [ceil(N / block_rows)]
  std::vector<float> dropped;                 // [N]
  int64_t kept = 0;                           // ordered pairs
};

// panels: unit embeddings as the kernels take them, [panel][D][lanes], zero beyond N. Where the pixels of a map come
// patch by patch, a patch to a panel, `across` patches side by side, rows are known to be alike; other orders take
// longer. scale: log2(e) / tau. Every row drops at most `tolerance`. Nothing when groups hold more than the share
// `densest` of all pairs, or the matrix would take more than a GiB.
std::optional<Transition> compile_transition(const float* panels, int64_t pixels, int64_t channels, int64_t across,
                                             float scale, double tolerance, double densest,
                                             const ParallelFor& parallel_for);

// A pass of the filter by itself, as compile_transition makes it, but with one `threshold` for all pixels: the cosine
// from which on a pair is kept. Well above 1, whatever rounding does, nothing is found, and the filter alone is timed;
// where it is infinite nothing is looked for.
struct FilterPass {
  double seconds;  // of the pass: the panels are rounded before
  int64_t met;     // pairs of pixels that were multiplied in the kernels' rounded format, D products each
  int64_t kept;    // ordered pairs
};
FilterPass filter_alone(const float* panels, int64_t pixels, int64_t channels, float threshold,
                        const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
