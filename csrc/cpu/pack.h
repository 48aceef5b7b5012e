// The pixels of a graph: which pixels are valid, their unit embeddings, and their values in the kernels' layout.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "walk.h"

namespace rwpm::cpu {

// log2(e) / tau, because the kernels take powers of two, clamped to a range in which float32 products are finite.
double exponent_scale(double temperature);

// The pixels inside the mask whose embedding is finite, and whose value is finite unless it is a gradient; ascending.
template <typename T>
Vector<int64_t> valid_pixels(const Problem<T>& p, const ParallelFor& parallel_for);

// Unit embeddings of `pixels` as panels [panel][D][lanes]; zero beyond the last pixel.
template <typename T>
void pack_embeddings(const Problem<T>& p, const Vector<int64_t>& pixels, int64_t lanes, const ParallelFor& parallel_for,
                     T* panels);

// Pixels are read in blocks, channel by channel, because a network's map is stored channel by channel.
constexpr int64_t pixel_block = 64;

// Layout of values in value panels: [panel][rows][channels of the panel].
struct ValueLayout {
  int64_t rows, width, lanes;
  int64_t at(int64_t pixel, int64_t channel) const {
    const int64_t panel = channel / lanes * lanes;
    return panel * rows + pixel * std::min(lanes, width - panel) + channel - panel;
  }
  int64_t size() const { return rows * width; }
};

// Rows of `pixels` as value panels, zero beyond the last row and the last channel.
template <typename T>
void pack_values(const MatrixView<T>& values, int64_t channels, const Vector<int64_t>& pixels,
                 const ValueLayout& layout, const ParallelFor& parallel_for, T* packed) {
  const int64_t count = pixels.size();
  parallel_for(ceil_div(layout.rows, pixel_block), [&](int64_t first, int64_t last) {
    for (int64_t begin = first * pixel_block; begin < std::min(last * pixel_block, layout.rows); begin += pixel_block)
      for (int64_t c = 0; c < layout.width; ++c)
        for (int64_t i = begin; i < std::min(begin + pixel_block, layout.rows); ++i) {
          const bool inside = i < count && c < channels;
          packed[layout.at(i, c)] =
              inside ? values.data[pixels[i] * values.row_stride + c * values.column_stride] : T(0);
        }
  });
}

// The reverse: to rows `pixels` of a contiguous [N, channels].
template <typename T>
void unpack_values(const T* packed, int64_t channels, const Vector<int64_t>& pixels, const ValueLayout& layout,
                   const ParallelFor& parallel_for, T* values) {
  parallel_for(pixels.size(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < channels; ++c) values[pixels[i] * channels + c] = packed[layout.at(i, c)];
  });
}

// Panels [panel][channels][lanes] of pixels, as pack_embeddings writes them, as values; what is beyond is left alone.
template <typename T>
void unpack_panels(const T* panels, int64_t channels, int64_t lanes, int64_t count, const ValueLayout& layout,
                   const ParallelFor& parallel_for, T* values) {
  parallel_for(count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t d = 0; d < channels; ++d)
        values[layout.at(i, d)] = panels[(i / lanes * channels + d) * lanes + i % lanes];
  });
}

// Packs the values of the graph's pixels, calls advance(step, start, from, to) for every step, and writes the result.
template <typename T, typename Advance>
void step_values(const Problem<T>& p, const Vector<int64_t>& pixels, const ValueLayout& layout,
                 const ParallelFor& parallel_for, const Advance& advance) {
  const int64_t count = pixels.size();
  Buffer<T> start(layout.size(), p.memory), even(layout.size(), p.memory), odd(layout.size(), p.memory);
  pack_values(p.values, p.value_channels, pixels, layout, parallel_for, start.get());
  for (int64_t c = 0; c < layout.width; ++c)
    for (int64_t i = count; i < layout.rows; ++i) even[layout.at(i, c)] = odd[layout.at(i, c)] = 0;  // padding keys
  const T* from = start.get();
  for (int64_t t = 0; t < p.steps; ++t) {
    T* const to = (t % 2 ? odd : even).get();
    advance(t, start.get(), from, to);
    from = to;
  }
  unpack_values(from, p.value_channels, pixels, layout, parallel_for, p.result);
}

}  // namespace rwpm::cpu
