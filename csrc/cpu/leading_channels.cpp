#include "cpu/leading_channels.h"

#include <algorithm>
#include <cmath>

namespace rwpm::cpu {
namespace {

// The last of the leading channels holds the norm of the rest.
constexpr int64_t directions = leading_channels - 1;

// Pixels that the directions are found from, and passes over them; and from those of a similar graph.
constexpr int64_t max_samples = 2048, passes = 2, similar_samples = 512, similar_passes = 1;

// Directions may be this much shorter than unit vectors, and squares of norms off by as much through rounding.
constexpr double rounding = 1e-5;

double norm(const double* row, int64_t channels) {
  double squares = 0;
  for (int64_t d = 0; d < channels; ++d) squares += row[d] * row[d];
  return std::sqrt(squares);
}

// Makes the rows of v, [directions][channels], of length 1, or zero.
void normalize(Buffer<double>& v, int64_t channels) {
  for (int64_t k = 0; k < directions; ++k) {
    double* const row = &v[k * channels];
    const double length = norm(row, channels), factor = length > 0 ? 1 / length : 0;
    for (int64_t d = 0; d < channels; ++d) row[d] *= factor;
  }
}

// Makes them orthonormal; rows that depend on earlier ones become zero.
void orthonormalize(Buffer<double>& v, int64_t channels) {
  for (int64_t k = 0; k < directions; ++k) {
    double* const row = &v[k * channels];
    const double before = norm(row, channels);
    for (int repeat = 0; repeat < 2; ++repeat)  // once leaves rounding errors of nearly parallel rows
      for (int64_t other = 0; other < k; ++other) {
        const double* const unit = &v[other * channels];
        double product = 0;
        for (int64_t d = 0; d < channels; ++d) product += row[d] * unit[d];
        for (int64_t d = 0; d < channels; ++d) row[d] -= product * unit[d];
      }
    const double after = norm(row, channels), factor = after > 1e-6 * before ? 1 / after : 0;
    for (int64_t d = 0; d < channels; ++d) row[d] *= factor;
  }
}

// Panels of pixels from all over the map: neighbors resemble each other.
Buffer<float> sample_panels(const float* panels, int64_t pixels, int64_t channels, int64_t lanes, int64_t samples,
                            Memory* memory) {
  Buffer<float> sampled(ceil_div(samples, lanes) * lanes * channels, 0, memory);
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t pixel = pixels * s / samples;
    for (int64_t d = 0; d < channels; ++d)
      sampled[(s / lanes * channels + d) * lanes + s % lanes] =
          panels[(pixel / lanes * channels + d) * lanes + pixel % lanes];
  }
  return sampled;
}

}  // namespace

Buffer<float> find_leading_directions(const SparseKernels& kernels, const float* panels, int64_t pixels,
                                      int64_t channels, const Buffer<float>& similar, Memory* memory) {
  const bool begun =
      similar.size() == channels * leading_channels &&
      std::all_of(similar.get(), similar.get() + similar.size(), [](float x) { return std::isfinite(x); });
  const int64_t lanes = kernels.lanes, samples = std::min(begun ? similar_samples : max_samples, pixels);
  const Buffer<float> sampled = sample_panels(panels, pixels, channels, lanes, samples, memory);
  Buffer<double> rows(directions * channels, memory);
  for (int64_t k = 0; k < directions; ++k) {  // of pixels all over the map
    const int64_t pixel = (pixels - 1) * k / (directions - 1);
    for (int64_t d = 0; d < channels; ++d)
      rows[k * channels + d] = double(begun ? similar[d * leading_channels + k]
                                            : panels[(pixel / lanes * channels + d) * lanes + pixel % lanes]);
  }
  if (begun) normalize(rows, channels);
  Buffer<float> matrix(channels * leading_channels, 0, memory), sums(channels * leading_channels, memory);
  for (int64_t pass = 0;; ++pass) {
    orthonormalize(rows, channels);
    // Of a norm of at most one, rounded: the rest is then no less than what the directions leave out.
    for (int64_t d = 0; d < channels; ++d)
      for (int64_t k = 0; k < directions; ++k)
        matrix[d * leading_channels + k] = float(rows[k * channels + d] * (1 - rounding));
    if (pass == (begun ? similar_passes : passes)) return matrix;
    std::fill_n(sums.get(), sums.size(), 0.f);
    for (int64_t s = 0; s < samples; s += lanes)
      kernels.add_projected(&sampled[s * channels], channels, matrix.get(), leading_channels, sums.get());
    for (int64_t k = 0; k < directions; ++k)
      for (int64_t d = 0; d < channels; ++d) rows[k * channels + d] = double(sums[d * leading_channels + k]);
  }
}

Buffer<float> make_leading_channels(const SparseKernels& kernels, const float* panels, int64_t pixels, int64_t channels,
                                    const Buffer<float>& directions_of_all, const ParallelFor& parallel_for,
                                    Memory* memory) {
  const int64_t lanes = kernels.lanes, count = ceil_div(pixels, lanes);
  Buffer<float> leading(count * leading_channels * lanes, memory);
  parallel_for(count, [&](int64_t first, int64_t last) {
    Buffer<float> squares(lanes, memory);
    for (int64_t panel = first; panel < last; ++panel) {
      float* const out = &leading[panel * leading_channels * lanes];
      kernels.project(panels + panel * channels * lanes, channels, directions_of_all.get(), leading_channels, out);
      std::fill_n(squares.get(), lanes, 0.f);
      for (int64_t k = 0; k < directions; ++k)
        for (int64_t i = 0; i < lanes; ++i) squares[i] += out[k * lanes + i] * out[k * lanes + i];
      // The product of two such norms is at least that of what both vectors have beside the directions.
      for (int64_t i = 0; i < lanes; ++i)
        out[directions * lanes + i] =
            panel * lanes + i < pixels ? std::sqrt(std::max(0.f, 1 - squares[i]) + float(rounding)) : 0.f;
    }
  });
  return leading;
}

}  // namespace rwpm::cpu
