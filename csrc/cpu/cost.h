// What the two ways of a float32 walk cost: one model for the choice of the path and for estimates before a walk, which
// rwpm_fast/ops/estimate.py scales to the machine at hand.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/build_sparse.h"

namespace rwpm::cpu {

// Of the cosines that are cached between steps: bounded, so that a large frame caches only a part of them.
constexpr int64_t max_cache_bytes = int64_t(256) << 20;

// Nanoseconds measured on one machine, of which only the ratios matter: of a pixel that is packed, and of an ordered
// pair of pixels. With a tolerance all pairs are filtered; then a sparse graph costs `stored_pair` for each that is
// kept, and another one streams.
struct WalkCosts {
  double pixel, streaming, filter, stored_pair;

  // The share of all pairs up to which a sparse matrix is faster than streaming.
  double max_density() const { return std::clamp((streaming - filter) / stored_pair, 0., max_useful_density); }
};

inline WalkCosts walk_costs(int64_t pixels, int64_t channels, int64_t value_channels, int64_t steps) {
  const double N = double(pixels), D = double(channels), C = double(value_channels), T = double(steps);
  // A cosine serves both its pixels, and all steps if it is cached.
  const double unordered = N * (N + 1) / 2, cached = std::min(unordered, double(max_cache_bytes / sizeof(float)));
  const double cosines = N > 0 ? (cached + (unordered - cached) * T) / (N * N) : 0;
  return {6 * D, 0.4 + 0.006 * D * (1 + cosines) + T * (0.4 + 0.006 * C), 0.1 + 0.0015 * D,
          7 + 0.03 * D + T * (0.4 + 0.025 * C)};
}

}  // namespace rwpm::cpu
