// The walk on the CPU: keep the valid pixels, pack them for the kernels, normalize once, step, unpack.
#include "walk.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/schedule.h"
#include "cpu/sparse_walk.h"
#include "cpu/stopwatch.h"

namespace rwpm {
namespace {

using cpu::Buffer;
using cpu::ceil_div;
using cpu::Graph;
using cpu::Kernels;
using cpu::RoundRobinSchedule;
using cpu::Step;
using cpu::Stopwatch;

// Cosines that steps keep for later ones: not all of a large frame, but what they take does not grow with it.
constexpr int64_t most_kept_bytes = int64_t(256) << 20;

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
  const RoundRobinSchedule schedule(ceil_div(count, kernels.block));
  const int64_t of_pair = kernels.block * kernels.block;
  const int64_t kept = p.steps < 2 ? 0 : std::min(schedule.count(), most_kept_bytes / int64_t(of_pair * sizeof(T)));
  const Buffer<T> cosines(kept * of_pair);
  bool first = true;
  cpu::step_values(p, pixels, layout, parallel_for, [&](const T* start, const T* from, T* to) {
    parallel_for(layout.size(), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) to[k] = T(1 - p.alpha) * start[k];
    });
    const Step<T> step = {layout.width, T(p.alpha), p.adjoint, from, to};
    schedule.for_each_pair(parallel_for, [&] {
      return [&, scratch = Buffer<T>(2 * of_pair)](int64_t pair, int64_t block, int64_t other) {
        T* const of_both = pair < kept ? &cosines[pair * of_pair] : nullptr;
        kernels.step(graph, step, block, other, first, of_both, scratch.get());
      };
    });
    first = false;
  });
  p.info->steps += watch.lap();
}

// The share of all pairs up to which a sparse matrix pays, from what either way costs for a pair: nanoseconds as one
// machine took them, of which only the ratios matter.
double densest(const Problem<float>& p) {
  const double D = double(p.channels), C = double(p.value_channels), T = double(p.steps);
  const double streaming = 0.3 + 0.006 * D + T * (0.2 + 0.006 * (D + C)), filter = 0.1 + 0.003 * D;
  const double of_held_pair = 7 + 0.03 * D + T * 0.02 * C;
  return std::clamp((streaming - filter) / of_held_pair, 0., cpu::densest_of_all);
}

// By filter and refine; false when the graph is too dense for it.
bool walk_sparse(const Problem<float>& p, const std::vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const std::optional<cpu::Compiled> compiled = cpu::compile(p, pixels, densest(p), 0, parallel_for);
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
