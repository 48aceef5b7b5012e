#include "cpu/pixel_order.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cpu/kernels.h"

namespace rwpm::cpu {
namespace {

constexpr int64_t shortest_row = 12, longest_row = 4096;  // of a map, as far as the guess of its width goes
constexpr int64_t samples = 48, sample_channels = 32;     // that the guess looks at

}  // namespace

int64_t likely_width(const Matrix<float>& embeddings, int64_t channels, const std::vector<int64_t>& pixels,
                     const ParallelFor& parallel_for) {
  const int64_t places = pixels.back() + 1, most = std::min(places / 2, longest_row);
  if (most <= shortest_row) return 1;
  // Some channels of every pixel, to unit length; zero where there is no pixel.
  const int64_t few = std::min(channels, sample_channels);
  std::vector<float> unit(places * few);
  parallel_for(pixels.size(), [&](int64_t first, int64_t last) {
    for (int64_t k = 0; k < few; ++k)
      for (int64_t i = first; i < last; ++i)
        unit[pixels[i] * few + k] =
            embeddings.data[pixels[i] * embeddings.row_stride + k * channels / few * embeddings.column_stride];
    for (int64_t i = first; i < last; ++i) {
      float* const u = &unit[pixels[i] * few];
      double squares = 0;
      for (int64_t k = 0; k < few; ++k) squares += double(u[k]) * u[k];
      const float inverse = squares > 0 ? float(1 / std::sqrt(squares)) : 0;
      for (int64_t k = 0; k < few; ++k) u[k] *= inverse;
    }
  });
  std::vector<float> alike(most, -1);
  parallel_for(most, [&](int64_t first, int64_t last) {
    for (int64_t lag = std::max(first, shortest_row); lag < last; ++lag) {
      float sum[sample_channels] = {};
      for (int64_t s = 0; s < samples; ++s) {
        const float* const a = &unit[(places - lag) * s / samples * few];
        for (int64_t k = 0; k < few; ++k) sum[k] += a[k] * a[lag * few + k];
      }
      alike[lag] = 0;
      for (int64_t k = 0; k < few; ++k) alike[lag] += sum[k];
    }
  });
  return std::max_element(alike.begin() + shortest_row, alike.end()) - alike.begin();
}

Layout by_patches(const std::vector<int64_t>& pixels, int64_t width, int64_t lanes) {
  // As near a square as whole groups of 2 x 2 pixels make.
  const int64_t groups = lanes / group_rows;
  int64_t high = 1;
  for (int64_t h = 1; h * h <= groups; ++h)
    if (groups % h == 0) high = h;
  const int64_t wide = groups / high, across = (width + 2 * wide - 1) / (2 * wide);
  std::vector<std::pair<int64_t, int64_t>> keyed;
  keyed.reserve(pixels.size());
  for (const int64_t pixel : pixels) {
    const int64_t row = pixel / width, column = pixel % width;
    const int64_t patch = row / (2 * high) * across + column / (2 * wide);
    const int64_t in_patch = row / 2 % high * wide + column / 2 % wide;
    keyed.emplace_back(((patch * groups + in_patch) * 2 + row % 2) * 2 + column % 2, pixel);
  }
  std::sort(keyed.begin(), keyed.end());
  Layout layout = {{}, across};
  layout.pixels.reserve(pixels.size());
  for (const auto& [key, pixel] : keyed) layout.pixels.push_back(pixel);
  return layout;
}

}  // namespace rwpm::cpu
