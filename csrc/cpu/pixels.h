// The pixels of a graph: which they are, their unit embeddings, and their values in the kernels' layout.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../walk.h"
#include "buffer.h"

namespace rwpm::cpu {

// log2(e) / tau, because the kernels take powers of two, within what float32 products can do.
double exponent_scale(double temperature);

// The pixels that the mask lets in and whose embedding and, unless it is a gradient, value is finite; ascending.
template <typename T>
std::vector<int64_t> valid_pixels(const Problem<T>& p, const ParallelFor& parallel_for);

// Unit embeddings of `pixels` as panels [panel][D][lanes]; zero beyond the last pixel.
template <typename T>
void pack_embeddings(const Problem<T>& p, const std::vector<int64_t>& pixels, int64_t lanes,
                     const ParallelFor& parallel_for, T* panels);

// Unit embeddings of `pixels` as rows [N][stride], zero from D on.
void unit_rows(const Problem<float>& p, const std::vector<int64_t>& pixels, int64_t stride,
               const ParallelFor& parallel_for, float* rows);

// Where a value lives among the value panels [panel][rows][channels of the panel].
struct ValueLayout {
  int64_t rows, width, lanes;
  int64_t at(int64_t pixel, int64_t channel) const {
    const int64_t panel = channel / lanes * lanes;
    return panel * rows + pixel * std::min(lanes, width - panel) + channel - panel;
  }
  int64_t size() const { return rows * width; }
};

// Values of the graph's pixels in the kernels' layout, taken in, stepped, and written out.
template <typename T, typename Advance>
void step_values(const Problem<T>& p, const std::vector<int64_t>& pixels, const ValueLayout& layout,
                 const Advance& advance) {
  const int64_t count = pixels.size();
  const Buffer<T> start(layout.size()), even(layout.size()), odd(layout.size());
  for (const Buffer<T>* buffer : {&start, &even, &odd}) std::fill_n(buffer->get(), layout.size(), T(0));
  for (int64_t c = 0; c < p.value_channels; ++c)
    for (int64_t i = 0; i < count; ++i)
      start[layout.at(i, c)] = p.values.data[pixels[i] * p.values.row_stride + c * p.values.column_stride];
  const T* from = start.get();
  for (int64_t t = 0; t < p.steps; ++t) {
    T* const to = (t % 2 ? odd : even).get();
    advance(start.get(), from, to);
    from = to;
  }
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < p.value_channels; ++c) p.result[pixels[i] * p.value_channels + c] = from[layout.at(i, c)];
}

}  // namespace rwpm::cpu
