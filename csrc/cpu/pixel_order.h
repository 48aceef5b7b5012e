// The order of the pixels in a sparse matrix: pixels that are close on the map resemble the same pixels.
#pragma once

#include <cstdint>

#include "cpu/buffer.h"
#include "walk.h"

namespace rwpm::cpu {

// Guesses the width of the map: the lag at which pixels are most alike, beyond their nearest neighbors. Where pixels
// come in no such order, any lag is as good. pixels: ascending.
int64_t estimate_width(const MatrixView<float>& embeddings, int64_t channels, const Vector<int64_t>& pixels,
                       const ParallelFor& parallel_for);

// Pixels patch by patch, `lanes` to a patch, and within a patch by groups of 2 x 2.
struct PixelOrder {
  Vector<int64_t> pixels;
  int64_t patches_per_row;
};
PixelOrder order_by_patches(const Vector<int64_t>& pixels, int64_t width, int64_t lanes);

}  // namespace rwpm::cpu
