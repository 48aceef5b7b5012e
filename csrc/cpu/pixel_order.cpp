#include "cpu/pixel_order.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cpu/kernels.h"

namespace rwpm::cpu {
namespace {

constexpr int64_t min_width = 12, max_width = 4096;    // widths of a map that are considered
constexpr int64_t samples = 48, sample_channels = 32;  // that are compared

}  // namespace

int64_t estimate_width(const MatrixView<float>& embeddings, int64_t channels, const Vector<int64_t>& pixels,
                       const ParallelFor& parallel_for) {
  const int64_t positions = pixels.back() + 1, max_lag = std::min(positions / 2, max_width);
  if (max_lag <= min_width) return 1;
  Memory* const memory = pixels.get_allocator().resource();
  // Some channels of every pixel, to unit length; zero where there is no pixel.
  const int64_t sampled = std::min(channels, sample_channels);
  Vector<float> unit(positions * sampled, memory);
  parallel_for(pixels.size(), [&](int64_t first, int64_t last) {
    for (int64_t k = 0; k < sampled; ++k)
      for (int64_t i = first; i < last; ++i)
        unit[pixels[i] * sampled + k] =
            embeddings.data[pixels[i] * embeddings.row_stride + k * channels / sampled * embeddings.column_stride];
    for (int64_t i = first; i < last; ++i) {
      float* const u = &unit[pixels[i] * sampled];
      double squares = 0;
      for (int64_t k = 0; k < sampled; ++k) squares += double(u[k]) * u[k];
      const float inverse = squares > 0 ? float(1 / std::sqrt(squares)) : 0;
      for (int64_t k = 0; k < sampled; ++k) u[k] *= inverse;
    }
  });
  Vector<float> similarity(max_lag, -1, memory);
  parallel_for(max_lag, [&](int64_t first, int64_t last) {
    for (int64_t lag = std::max(first, min_width); lag < last; ++lag) {
      float sum[sample_channels] = {};
      for (int64_t s = 0; s < samples; ++s) {
        const float* const a = &unit[(positions - lag) * s / samples * sampled];
        for (int64_t k = 0; k < sampled; ++k) sum[k] += a[k] * a[lag * sampled + k];
      }
      similarity[lag] = 0;
      for (int64_t k = 0; k < sampled; ++k) similarity[lag] += sum[k];
    }
  });
  return std::max_element(similarity.begin() + min_width, similarity.end()) - similarity.begin();
}

PixelOrder order_by_patches(const Vector<int64_t>& pixels, int64_t width, int64_t lanes) {
  // As close to a square as whole groups of 2 x 2 pixels allow.
  const int64_t groups = lanes / group_rows;
  int64_t patch_height = 1;
  for (int64_t h = 1; h * h <= groups; ++h)
    if (groups % h == 0) patch_height = h;
  const int64_t patch_width = groups / patch_height;  // both in groups
  const int64_t patches_per_row = (width + 2 * patch_width - 1) / (2 * patch_width);
  Memory* const memory = pixels.get_allocator().resource();
  Vector<std::pair<int64_t, int64_t>> keyed(memory);
  keyed.reserve(pixels.size());
  for (const int64_t pixel : pixels) {
    const int64_t row = pixel / width, column = pixel % width;
    const int64_t patch = row / (2 * patch_height) * patches_per_row + column / (2 * patch_width);
    const int64_t in_patch = row / 2 % patch_height * patch_width + column / 2 % patch_width;
    keyed.emplace_back(((patch * groups + in_patch) * 2 + row % 2) * 2 + column % 2, pixel);
  }
  std::sort(keyed.begin(), keyed.end());
  PixelOrder order = {Vector<int64_t>(memory), patches_per_row};
  order.pixels.reserve(pixels.size());
  for (const auto& [key, pixel] : keyed) order.pixels.push_back(pixel);
  return order;
}

}  // namespace rwpm::cpu
