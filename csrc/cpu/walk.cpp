// The walk on the CPU: keep the valid pixels, pack them for the kernels, normalise once, step, unpack.
#include "../walk.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "buffer.h"
#include "isa.h"
#include "layout.h"
#include "transition.h"

namespace rwpm {
namespace {

using cpu::Buffer;
using cpu::ceil_div;
using cpu::Graph;
using cpu::Kernels;
using cpu::Step;

constexpr double shortest = 1e-12;  // norm below which an embedding counts as no direction

// Factors on the cosines beyond which nothing changes: every tie is told from the rest, or every pixel weighs the same.
// Outside them float32 products would overflow, or a removed pair's infinity meet a zero.
constexpr double steepest = 1e30, flattest = 1e-30;

// log2(e) / tau, because the kernels take powers of two.
template <typename T>
double exponent_scale(const Problem<T>& p) {
  return std::clamp(std::log2(std::exp(1.)) / p.temperature, flattest, steepest);
}

// A graph of fewer pixels streams in no time.
constexpr int64_t fewest_sparse = 512;

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

// Divides the embeddings of a panel, [D][lanes], by their norms.
template <typename T>
void normalize(T* panel, int64_t channels, int64_t lanes) {
  std::vector<double> largest(lanes), squares(lanes), factor(lanes);
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) largest[i] = std::max(largest[i], std::abs(double(panel[d * lanes + i])));
  // Relative to the largest, so that no square over- or underflows; in two factors, so that no reciprocal does.
  constexpr double up = 0x1p500, smallest = 0x1p-500;
  std::vector<double> first(lanes);
  for (int64_t i = 0; i < lanes; ++i) {
    first[i] = largest[i] < smallest ? up : 1;
    factor[i] = largest[i] > 0 ? 1 / (largest[i] * first[i]) : 0;
  }
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) {
      const double x = double(panel[d * lanes + i]) * first[i] * factor[i];
      squares[i] += x * x;
    }
  for (int64_t i = 0; i < lanes; ++i)
    if (largest[i] > 0) factor[i] /= std::max(std::sqrt(squares[i]), shortest / largest[i]);
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) panel[d * lanes + i] = T(double(panel[d * lanes + i]) * first[i] * factor[i]);
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
      normalize(out, p.channels, lanes);
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

// Values of the graph's pixels in the kernels' layout, taken in, stepped, and written out.
template <typename T, typename Advance>
void step_values(const Problem<T>& p, const std::vector<int64_t>& pixels, const ValueLayout& layout,
                 const ParallelFor& parallel_for, const Advance& advance) {
  const int64_t count = pixels.size();
  const Buffer<T> start(layout.size()), even(layout.size()), odd(layout.size());
  parallel_for(ceil_div(layout.rows, block), [&](int64_t first, int64_t last) {
    for (int64_t begin = first * block; begin < std::min(last * block, layout.rows); begin += block)
      for (int64_t c = 0; c < layout.width; ++c)
        for (int64_t i = begin; i < std::min(begin + block, layout.rows); ++i) {
          const bool there = i < count && c < p.value_channels;
          start[layout.at(i, c)] =
              there ? p.values.data[pixels[i] * p.values.row_stride + c * p.values.column_stride] : T(0);
          if (i >= count) even[layout.at(i, c)] = odd[layout.at(i, c)] = 0;  // keys beyond the last pixel
        }
  });
  const T* from = start.get();
  for (int64_t t = 0; t < p.steps; ++t) {
    T* const to = (t % 2 ? odd : even).get();
    advance(start.get(), from, to);
    from = to;
  }
  parallel_for(count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < p.value_channels; ++c) p.result[pixels[i] * p.value_channels + c] = from[layout.at(i, c)];
  });
}

template <typename T>
void walk_streaming(const Problem<T>& p, const std::vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const Kernels<T>& kernels = cpu::kernels<T>();
  const int64_t count = pixels.size();
  const int64_t rows = ceil_div(count, kernels.lanes) * kernels.lanes;
  const int64_t tiles = ceil_div(count, kernels.tile);

  const Buffer<T> panels(rows * p.channels), row_maximum(rows), inverse_sum(rows);
  pack_embeddings(p, pixels, kernels.lanes, parallel_for, panels.get());
  const Graph<T> graph = {count, p.channels, T(exponent_scale(p)), panels.get(), row_maximum.get(), inverse_sum.get()};
  parallel_for(tiles, [&](int64_t begin, int64_t end) {
    const Buffer<T> scratch(kernels.tile * kernels.key_tile);
    for (int64_t tile = begin; tile < end; ++tile) kernels.normalize(graph, tile, scratch.get());
  });

  const ValueLayout layout = {rows, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  step_values(p, pixels, layout, parallel_for, [&](const T* start, const T* from, T* to) {
    const Step<T> step = {layout.width, T(p.alpha), p.adjoint, start, from, to};
    parallel_for(tiles, [&](int64_t begin, int64_t end) {
      const Buffer<T> scratch(kernels.tile * (kernels.key_tile + layout.width));
      for (int64_t tile = begin; tile < end; ++tile) kernels.step(graph, step, tile, scratch.get());
    });
  });
}

// A share of all pairs up to which a sparse matrix pays: the more steps share the cost of making it, the more.
double densest(int64_t steps) { return std::min(0.15, 0.015 * double(steps)); }

// Groups of rows that one task steps: few enough to balance the threads, enough to be worth a task.
constexpr int64_t task_groups = 24;
static_assert(cpu::Transition::block_rows % (task_groups * cpu::group_rows) == 0);

// By filter and refine; false when the graph is too dense for it.
bool walk_sparse(const Problem<float>& p, const std::vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const cpu::SparseKernels& kernels = *cpu::chosen_isa().sparse;
  const int64_t count = pixels.size();
  const cpu::Layout order =
      cpu::by_patches(pixels, cpu::likely_width(p.embeddings, p.channels, pixels, parallel_for), kernels.lanes);
  std::optional<cpu::Transition> t;
  {
    const Buffer<float> panels(ceil_div(count, kernels.lanes) * kernels.lanes * p.channels);
    pack_embeddings(p, order.pixels, kernels.lanes, parallel_for, panels.get());
    t = cpu::compile_transition(panels.get(), count, p.channels, order.across, float(exponent_scale(p)), p.tolerance,
                                densest(p.steps), parallel_for);
  }
  if (!t) return false;
  const int64_t rows = ceil_div(count, cpu::group_rows) * cpu::group_rows;
  const ValueLayout layout = {rows, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  const int64_t groups = rows / cpu::group_rows, block_groups = cpu::Transition::block_rows / cpu::group_rows;
  step_values(p, order.pixels, layout, parallel_for, [&](const float* start, const float* from, float* to) {
    std::atomic<int64_t> next = 0;
    parallel_for(ceil_div(groups, task_groups), [&](int64_t, int64_t) {
      for (int64_t g = next++ * task_groups; g < groups; g = next++ * task_groups) {
        const cpu::Transition::Block& b = t->blocks[g / block_groups];
        const int64_t first = g / block_groups * block_groups;
        const cpu::SparseStep step = {rows,
                                      layout.width,
                                      float(p.alpha),
                                      first * cpu::group_rows,
                                      b.group_start.data(),
                                      b.column.get(),
                                      b.weight.get(),
                                      start,
                                      from,
                                      to};
        kernels.step(step, g - first, std::min({g + task_groups, groups, first + block_groups}) - first);
      }
    });
  });
  return true;
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
  if (pixels.size() < 2) return;
  if constexpr (std::is_same_v<T, float>) {
    if (p.tolerance > 0 && !p.adjoint && int64_t(pixels.size()) >= fewest_sparse &&
        walk_sparse(p, pixels, parallel_for))
      return;
  }
  walk_streaming(p, pixels, parallel_for);
}

template void walk(const Problem<float>&, const ParallelFor&);
template void walk(const Problem<double>&, const ParallelFor&);

}  // namespace rwpm
