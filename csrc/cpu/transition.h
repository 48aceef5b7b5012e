// The frame compiled into a sparse transition matrix: filter all pairs in rounded arithmetic, refine the survivors.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "../walk.h"
#include "buffer.h"

namespace rwpm::cpu {

// Rows sum to 1. What a row dropped is a share of its exact mass, bounded from above.
struct Transition {
  std::vector<int64_t> row_start;  // [N + 1]
  Buffer<int32_t> column{0};       // [kept + padding], ascending within a row
  Buffer<float> weight{0};         // [kept + padding]
  std::vector<float> dropped;      // [N]
};

// units: [N][stride] unit embeddings, zero from D on; stride a multiple of the instruction set's vector.
// scale: log2(e) / tau. Every row drops at most `tolerance`. Nothing when more than the share `densest` of all pairs
// matters, or the matrix would take more than a GiB. width: pixels in a row of the map they come from, as far as it is
// known; too small or 0: guessed. What a row drops is within the tolerance whatever it is.
std::optional<Transition> compile_transition(const float* units, int64_t pixels, int64_t channels, int64_t stride,
                                             float scale, double tolerance, double densest,
                                             const ParallelFor& parallel_for, int64_t width = 0);

}  // namespace rwpm::cpu
