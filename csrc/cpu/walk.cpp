// The walk on the CPU: keep the valid pixels, pack them for the kernels, normalise once, step, unpack.
#include "../walk.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "compiled.h"
#include "isa.h"
#include "pixels.h"
#include "stopwatch.h"

namespace rwpm {
namespace {

using cpu::Buffer;
using cpu::ceil_div;
using cpu::Graph;
using cpu::Kernels;
using cpu::Step;
using cpu::Stopwatch;

template <typename T>
void walk_streaming(const Problem<T>& p, const std::vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const Kernels<T>& kernels = cpu::kernels<T>();
  const int64_t count = pixels.size();
  const int64_t rows = ceil_div(count, kernels.lanes) * kernels.lanes;
  const int64_t tiles = ceil_div(count, kernels.tile);
  Stopwatch watch;

  const Buffer<T> panels(rows * p.channels), row_maximum(rows), inverse_sum(rows);
  cpu::pack_embeddings(p, pixels, kernels.lanes, parallel_for, panels.get());
  p.info->pack += watch.lap();
  const Graph<T> graph = {count,        p.channels,        T(cpu::exponent_scale(p.temperature)),
                          panels.get(), row_maximum.get(), inverse_sum.get()};
  parallel_for(tiles, [&](int64_t begin, int64_t end) {
    const Buffer<T> scratch(kernels.tile * kernels.key_tile);
    for (int64_t tile = begin; tile < end; ++tile) kernels.normalize(graph, tile, scratch.get());
  });
  p.info->compile += watch.lap();

  const cpu::ValueLayout layout = {rows, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  cpu::step_values(p, pixels, layout, parallel_for, [&](const T* start, const T* from, T* to) {
    const Step<T> step = {layout.width, T(p.alpha), p.adjoint, start, from, to};
    parallel_for(tiles, [&](int64_t begin, int64_t end) {
      const Buffer<T> scratch(kernels.tile * (kernels.key_tile + layout.width));
      for (int64_t tile = begin; tile < end; ++tile) kernels.step(graph, step, tile, scratch.get());
    });
  });
  p.info->steps += watch.lap();
}

// A share of all pairs up to which a sparse matrix pays: the more steps share the cost of making it, the more.
double densest(int64_t steps) { return std::min(cpu::densest_of_all, 0.15 * double(steps)); }

// By filter and refine; false when the graph is too dense for it.
bool walk_sparse(const Problem<float>& p, const std::vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const std::optional<cpu::Compiled> compiled = cpu::compile(p, pixels, densest(p.steps), 0, parallel_for);
  if (!compiled) return false;
  const cpu::Transition& t = compiled->matrix;
  p.info->path = Info::sparse;
  p.info->kept = t.kept;
  p.info->dropped = *std::max_element(t.dropped.begin(), t.dropped.end());
  Stopwatch watch;
  cpu::walk_compiled(p, compiled->pixels, cpu::rows_of(t), parallel_for);
  p.info->steps += watch.lap();
  return true;
}

}  // namespace

template <typename T>
void walk(const Problem<T>& problem, const ParallelFor& parallel_for) {
  Problem<T> p = problem;
  Info unasked;
  if (!p.info) p.info = &unasked;
  *p.info = {};
  parallel_for(p.pixels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < p.value_channels; ++c)
        p.result[i * p.value_channels + c] = p.values.data[i * p.values.row_stride + c * p.values.column_stride];
  });
  if (p.steps == 0 || p.alpha == 0 || p.value_channels == 0) return;
  Stopwatch watch;
  const std::vector<int64_t> pixels = cpu::valid_pixels(p, parallel_for);
  const int64_t count = pixels.size();
  if (count < 2) return;
  p.info->pixels = count;
  p.info->pack = watch.lap();
  if constexpr (std::is_same_v<T, float>) {
    if (!p.adjoint && walk_sparse(p, pixels, parallel_for)) return;
  }
  p.info->path = Info::streaming;
  p.info->kept = count * (count - 1);
  walk_streaming(p, pixels, parallel_for);
}

template void walk(const Problem<float>&, const ParallelFor&);
template void walk(const Problem<double>&, const ParallelFor&);

}  // namespace rwpm
