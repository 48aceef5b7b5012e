// The walk on the CPU: keep the valid pixels, pack them for the kernels, normalise once, step, unpack.
#include "../walk.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "isa.h"

namespace rwpm {
namespace {

using cpu::Graph;
using cpu::Kernels;
using cpu::Step;

constexpr double shortest = 1e-12;  // norm below which an embedding counts as no direction

// Factors on the cosines beyond which nothing changes: every tie is told from the rest, or every pixel weighs the same.
// Outside them float32 products would overflow, or a removed pair's infinity meet a zero.
constexpr double steepest = 1e30, flattest = 1e-30;

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(static_cast<T*>(std::aligned_alloc(cpu::alignment, padded_bytes(size)))) {
    if (!data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }

 private:
  static size_t padded_bytes(int64_t size) {
    const size_t bytes = size_t(std::max<int64_t>(size, 1)) * sizeof(T);
    return (bytes + cpu::alignment - 1) / cpu::alignment * cpu::alignment;
  }
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows are looked at in blocks, channel by channel, because a network's map is stored channel by channel.
constexpr int64_t block = 64;

template <typename T>
void clear_non_finite(const Matrix<T>& m, int64_t begin, int64_t end, int64_t columns, char* valid) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t i = begin; i < end; ++i) valid[i] &= std::isfinite(m.data[i * m.row_stride + c * m.column_stride]);
}

template <typename T>
std::vector<int64_t> valid_pixels(const Problem<T>& p, const ParallelFor& parallel_for) {
  std::vector<char> valid(p.pixels);
  parallel_for(ceil_div(p.pixels, block), [&](int64_t first, int64_t last) {
    for (int64_t begin = first * block; begin < std::min(last * block, p.pixels); begin += block) {
      const int64_t end = std::min(begin + block, p.pixels);
      for (int64_t i = begin; i < end; ++i) valid[i] = !p.mask || p.mask[i * p.mask_stride];
      clear_non_finite(p.embeddings, begin, end, p.channels, valid.data());
      if (!p.adjoint) clear_non_finite(p.values, begin, end, p.value_channels, valid.data());
    }
  });
  std::vector<int64_t> pixels;
  for (int64_t i = 0; i < p.pixels; ++i)
    if (valid[i]) pixels.push_back(i);
  return pixels;
}

// Unit embeddings of `pixels` as panels [panel][D][lanes]; zero beyond the last pixel.
template <typename T>
void pack_embeddings(const Problem<T>& p, const std::vector<int64_t>& pixels, int64_t lanes,
                     const ParallelFor& parallel_for, T* panels) {
  const int64_t count = pixels.size();
  parallel_for(ceil_div(count, lanes), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      T* const out = panels + panel * p.channels * lanes;
      const int64_t here = std::min(lanes, count - panel * lanes);
      std::fill(out, out + p.channels * lanes, T(0));
      for (int64_t d = 0; d < p.channels; ++d)
        for (int64_t i = 0; i < here; ++i)
          out[d * lanes + i] =
              p.embeddings.data[pixels[panel * lanes + i] * p.embeddings.row_stride + d * p.embeddings.column_stride];
      for (int64_t i = 0; i < here; ++i) {
        double largest = 0, squares = 0;
        for (int64_t d = 0; d < p.channels; ++d) largest = std::max(largest, std::abs(double(out[d * lanes + i])));
        if (largest == 0) continue;
        // Relative to the largest, so that no square over- or underflows.
        for (int64_t d = 0; d < p.channels; ++d) squares += std::pow(out[d * lanes + i] / largest, 2);
        const double length = std::max(std::sqrt(squares), shortest / largest);
        for (int64_t d = 0; d < p.channels; ++d) out[d * lanes + i] = T(out[d * lanes + i] / largest / length);
      }
    }
  });
}

// Where a value lives among the value panels [panel][rows][channels of the panel].
struct ValueLayout {
  int64_t rows, width, lanes;
  int64_t at(int64_t pixel, int64_t channel) const {
    const int64_t panel = channel / lanes * lanes;
    return panel * rows + pixel * std::min(lanes, width - panel) + channel - panel;
  }
  int64_t size() const { return rows * width; }
};

template <typename T>
void walk_valid(const Problem<T>& p, const std::vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const Kernels<T>& kernels = cpu::kernels<T>();
  const int64_t count = pixels.size();
  const int64_t rows = ceil_div(count, kernels.lanes) * kernels.lanes;
  const int64_t tiles = ceil_div(count, kernels.tile);

  const Buffer<T> panels(rows * p.channels), row_maximum(rows), inverse_sum(rows);
  pack_embeddings(p, pixels, kernels.lanes, parallel_for, panels.get());
  const T scale = std::clamp(std::log2(std::exp(1.)) / p.temperature, flattest, steepest);
  const Graph<T> graph = {count, p.channels, scale, panels.get(), row_maximum.get(), inverse_sum.get()};
  parallel_for(tiles, [&](int64_t begin, int64_t end) {
    const Buffer<T> scratch(kernels.tile * kernels.key_tile);
    for (int64_t tile = begin; tile < end; ++tile) kernels.normalize(graph, tile, scratch.get());
  });

  const ValueLayout layout = {rows, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  const Buffer<T> start(layout.size()), even(layout.size()), odd(layout.size());
  for (const Buffer<T>* buffer : {&start, &even, &odd}) std::fill_n(buffer->get(), layout.size(), T(0));
  for (int64_t c = 0; c < p.value_channels; ++c)
    for (int64_t i = 0; i < count; ++i)
      start.get()[layout.at(i, c)] = p.values.data[pixels[i] * p.values.row_stride + c * p.values.column_stride];

  const T* from = start.get();
  for (int64_t t = 0; t < p.steps; ++t) {
    T* const to = (t % 2 ? odd : even).get();
    const Step<T> step = {layout.width, T(p.alpha), p.adjoint, start.get(), from, to};
    parallel_for(tiles, [&](int64_t begin, int64_t end) {
      const Buffer<T> scratch(kernels.tile * (kernels.key_tile + layout.width));
      for (int64_t tile = begin; tile < end; ++tile) kernels.step(graph, step, tile, scratch.get());
    });
    from = to;
  }
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < p.value_channels; ++c) p.result[pixels[i] * p.value_channels + c] = from[layout.at(i, c)];
}

}  // namespace

template <typename T>
void walk(const Problem<T>& p, const ParallelFor& parallel_for) {
  parallel_for(p.pixels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < p.value_channels; ++c)
        p.result[i * p.value_channels + c] = p.values.data[i * p.values.row_stride + c * p.values.column_stride];
  });
  if (p.steps == 0 || p.alpha == 0 || p.value_channels == 0) return;
  const std::vector<int64_t> pixels = valid_pixels(p, parallel_for);
  if (pixels.size() > 1) walk_valid(p, pixels, parallel_for);
}

template void walk(const Problem<float>&, const ParallelFor&);
template void walk(const Problem<double>&, const ParallelFor&);

}  // namespace rwpm
