#include "cpu/pixel_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cpu/kernels.h"

namespace rwpm::cpu {
namespace {

constexpr int64_t min_width = 12, max_width = 4096;    // widths of a map that are considered
constexpr int64_t samples = 48, sample_channels = 32;  // that are compared

// Neighbors resemble each other where they differ by this share of what other pixels do.
constexpr double near_share = 0.6;
constexpr int64_t compared_pairs = 256;

// A half is cut across a direction that is found from so many of its pixels, in so many passes.
constexpr int64_t cut_samples = 64, cut_passes = 3;

// Of pixels with coordinates, [N][channels].
class SimilarityOrder {
 public:
  SimilarityOrder(const Buffer<float>& coordinates, int64_t channels, int64_t lanes, Memory* memory)
      : coordinates_(coordinates),
        channels_(channels),
        lanes_(lanes),
        direction_(channels, memory),
        sums_(channels, memory),
        position_(coordinates.size() / channels, memory) {}

  // Orders pixels [first, last) into panels, and each into groups.
  void order(int64_t* first, int64_t* last) {
    const int64_t count = last - first, unit = count > lanes_ ? lanes_ : group_rows;
    if (count <= group_rows) return;
    find_direction(first, count);
    for (int64_t k = 0; k < count; ++k) position_[first[k]] = dot(first[k], direction_);
    int64_t* const middle = first + std::max(unit, count / 2 / unit * unit);
    std::nth_element(first, middle, last, [&](int64_t a, int64_t b) {
      return position_[a] != position_[b] ? position_[a] < position_[b] : a < b;
    });
    order(first, middle);
    order(middle, last);
  }

 private:
  const float* at(int64_t pixel) const { return &coordinates_[pixel * channels_]; }

  float dot(int64_t pixel, const Buffer<float>& direction) const {
    float sum = 0;
    for (int64_t c = 0; c < channels_; ++c) sum += at(pixel)[c] * direction[c];
    return sum;
  }

  // The first principal direction, by power iteration on sampled differences from their mean.
  void find_direction(const int64_t* pixels, int64_t count) {
    const int64_t sampled = std::min(count, cut_samples);
    const auto sample = [&](int64_t s) { return pixels[count * s / sampled]; };
    for (int64_t c = 0; c < channels_; ++c) direction_[c] = at(sample(0))[c] - at(sample(sampled - 1))[c];
    for (int64_t pass = 0; pass < cut_passes; ++pass) {
      float mean = 0;
      for (int64_t s = 0; s < sampled; ++s) mean += dot(sample(s), direction_) / float(sampled);
      std::fill_n(sums_.get(), channels_, 0.f);
      double squares = 0;
      for (int64_t s = 0; s < sampled; ++s) {
        const float difference = dot(sample(s), direction_) - mean;
        for (int64_t c = 0; c < channels_; ++c) sums_[c] += difference * at(sample(s))[c];
      }
      for (int64_t c = 0; c < channels_; ++c) squares += double(sums_[c]) * sums_[c];
      if (squares == 0) return;
      for (int64_t c = 0; c < channels_; ++c) direction_[c] = float(sums_[c] / std::sqrt(squares));
    }
  }

  const Buffer<float>& coordinates_;
  const int64_t channels_, lanes_;
  Buffer<float> direction_, sums_, position_;
};

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

PixelOrder order_by_patches(const Vector<int64_t>& pixels, int64_t width, int64_t lanes, int64_t vector) {
  // All sizes in groups of 2 x 2 pixels. A vector's are as close to a square as can be, and a patch is a row of
  // vectors: what is alike on a road lies side by side.
  const int64_t groups = vector / group_rows;
  int64_t height = 1;
  while (height * height < groups || groups % height) ++height;
  const int64_t vector_width = groups / height, patch_width = lanes / group_rows / height;
  const int64_t patches_per_row = (width + 2 * patch_width - 1) / (2 * patch_width);
  Memory* const memory = pixels.get_allocator().resource();
  Vector<std::pair<int64_t, int64_t>> keyed(memory);
  keyed.reserve(pixels.size());
  for (const int64_t pixel : pixels) {
    const int64_t y = pixel / width / 2, x = pixel % width / 2;
    const int64_t patch = y / height * patches_per_row + x / patch_width;
    const int64_t of_patch = x % patch_width / vector_width;
    const int64_t of_vector = y % height * vector_width + x % vector_width;
    const int64_t of_group = pixel / width % 2 * 2 + pixel % width % 2;
    keyed.emplace_back(patch * lanes + of_patch * vector + of_vector * group_rows + of_group, pixel);
  }
  std::sort(keyed.begin(), keyed.end());
  PixelOrder order = {Vector<int64_t>(memory), patches_per_row};
  order.pixels.reserve(pixels.size());
  for (const auto& [key, pixel] : keyed) order.pixels.push_back(pixel);
  return order;
}

bool neighbors_resemble(const float* panels, int64_t pixels, int64_t channels, int64_t lanes) {
  const auto difference = [&](int64_t a, int64_t b) {
    double cosine = 0;
    for (int64_t d = 0; d < channels; ++d)
      cosine += double(panels[(a / lanes * channels + d) * lanes + a % lanes]) *
                double(panels[(b / lanes * channels + d) * lanes + b % lanes]);
    return 1 - cosine;
  };
  double near = 0, far = 0;
  for (int64_t k = 0; k < compared_pairs; ++k) {
    const int64_t pixel = (pixels - 1) * k / compared_pairs;
    near += difference(pixel, pixel + 1);
    far += difference(pixel, (pixel + pixels / 2 + k * 37) % pixels);
  }
  return near < near_share * far;
}

PixelOrder order_by_similarity(const PixelOrder& order, const float* panels, int64_t channels, int64_t lanes) {
  Memory* const memory = order.pixels.get_allocator().resource();
  const auto count = int64_t(order.pixels.size());
  Buffer<float> coordinates(count * channels, memory);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < channels; ++c)
      coordinates[i * channels + c] = panels[(i / lanes * channels + c) * lanes + i % lanes];
  Vector<int64_t> places(count, memory);
  std::iota(places.begin(), places.end(), 0);
  SimilarityOrder(coordinates, channels, lanes, memory).order(places.data(), places.data() + count);
  PixelOrder similar = {Vector<int64_t>(memory), 2};  // the most similar panels are the next two on either side
  similar.pixels.reserve(count);
  for (const int64_t place : places) similar.pixels.push_back(order.pixels[place]);
  return similar;
}

}  // namespace rwpm::cpu
