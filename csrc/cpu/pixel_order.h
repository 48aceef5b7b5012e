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

// Pixels patch by patch, `lanes` to a patch, within a patch by parts of `vector` pixels, and in these by groups of 2
// x 2.
struct PixelOrder {
  Vector<int64_t> pixels;
  int64_t patches_per_row;
};
PixelOrder order_by_patches(const Vector<int64_t>& pixels, int64_t width, int64_t lanes, int64_t vector);

// Whether pixels that follow each other in an order resemble each other more than others do. panels: of their unit
// embeddings, [panel][channels][lanes].
bool neighbors_resemble(const float* panels, int64_t pixels, int64_t channels, int64_t lanes);

// For pixels that come in no spatial order: those that resemble each other together, `lanes` to a panel, by cutting
// them in halves again and again, each time across the direction in which they differ most. order: of the panels'
// pixels.
PixelOrder order_by_similarity(const PixelOrder& order, const float* panels, int64_t channels, int64_t lanes);

}  // namespace rwpm::cpu
