// The order in which pixels of a map are compiled: what lies close together resembles the same pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "walk.h"

namespace rwpm::cpu {

// How many pixels a row of the map has, when nobody says: the lag at which pixels are most alike, beyond their nearest
// neighbors. Where pixels come in no such order any lag is as good. pixels: ascending.
int64_t likely_width(const Matrix<float>& embeddings, int64_t channels, const std::vector<int64_t>& pixels,
                     const ParallelFor& parallel_for);

// Pixels patch by patch, `lanes` to a patch, and in it by 2 x 2.
struct Layout {
  std::vector<int64_t> pixels;
  int64_t across;  // patches side by side
};
Layout by_patches(const std::vector<int64_t>& pixels, int64_t width, int64_t lanes);

}  // namespace rwpm::cpu
