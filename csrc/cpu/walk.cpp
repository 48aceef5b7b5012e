// The walk on the CPU: find the valid pixels, pack them for the kernels, normalize once, step, unpack.
#include "walk.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cpu/anchor.h"
#include "cpu/build_sparse.h"
#include "cpu/cost.h"
#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/schedule.h"
#include "cpu/sparse_walk.h"
#include "cpu/stopwatch.h"

namespace rwpm {
namespace {

using cpu::Buffer;
using cpu::ceil_div;
using cpu::Kernels;
using cpu::PackedGraph;
using cpu::RoundRobinSchedule;
using cpu::StepArgs;
using cpu::Stopwatch;
using cpu::Vector;

template <typename T>
void walk_streaming(const Problem<T>& p, const Vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const Kernels<T>& kernels = cpu::kernels<T>();
  const int64_t count = pixels.size();
  const int64_t rows = ceil_div(count, kernels.lanes) * kernels.lanes;
  const int64_t tiles = ceil_div(count, kernels.tile);
  Stopwatch watch;

  Buffer<T> panels(rows * p.channels, p.memory), row_max(rows, p.memory), inv_row_sum(rows, p.memory);
  cpu::pack_embeddings(p, pixels, kernels.lanes, parallel_for, panels.get());
  p.stats->pack_seconds += watch.lap();
  const PackedGraph<T> graph = {count,        p.channels,    T(cpu::exponent_scale(p.temperature)),
                                panels.get(), row_max.get(), inv_row_sum.get()};
  parallel_for(tiles, [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(kernels.tile * kernels.key_tile, p.memory);
    for (int64_t tile = begin; tile < end; ++tile) kernels.normalize(graph, tile, scratch.get());
  });
  Vector<T> own_weight(p.memory);
  if (cpu::is_anchored(p)) {
    Vector<T> log_sum(count, p.memory);
    for (int64_t i = 0; i < count; ++i) log_sum[i] = row_max[i] * graph.scale - std::log2(inv_row_sum[i]);
    own_weight = cpu::own_weights(p, log_sum);
    for (int64_t i = 0; i < count; ++i) inv_row_sum[i] *= 1 - own_weight[i];
  }
  p.stats->build_seconds += watch.lap();

  const cpu::ValueLayout layout = {rows, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  const RoundRobinSchedule schedule(ceil_div(count, kernels.block));
  const int64_t pair_size = kernels.block * kernels.block;
  const int64_t cached_pairs =
      p.steps < 2 ? 0 : std::min(schedule.count(), cpu::max_cache_bytes / int64_t(pair_size * sizeof(T)));
  Buffer<T> cosines(cached_pairs * pair_size, p.memory);
  cpu::Restart<T> restart(p, layout, own_weight);
  cpu::step_values(p, pixels, layout, parallel_for, [&](int64_t step, const T* start, const T* from, T* to) {
    parallel_for(rows, [&](int64_t begin, int64_t end) {
      for (int64_t panel = 0; panel < layout.size(); panel += rows * layout.lanes)
        restart.begin_step(step, panel, begin, end, start, from, to);
    });
    const StepArgs<T> args = {layout.width, T(p.alpha), p.adjoint, from, to};
    const auto make_body = [&] {
      return [&, scratch = Buffer<T>(2 * pair_size, p.memory)](int64_t pair, int64_t block, int64_t other) mutable {
        T* const pair_cosines = pair < cached_pairs ? &cosines[pair * pair_size] : nullptr;
        kernels.step(graph, args, block, other, step == 0, pair_cosines, scratch.get());
      };
    };
    schedule.for_each_pair(parallel_for, make_body, {}, p.memory);
  });
  p.stats->step_seconds += watch.lap();
}

// The walk by filter and refine; false where the graph is too dense for it.
bool try_walk_sparse(const Problem<float>& p, const Vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const double max_density =
      cpu::walk_costs(int64_t(pixels.size()), p.channels, p.value_channels, p.steps).max_density();
  const std::optional<cpu::SparseGraph> graph = cpu::build_sparse(p, pixels, max_density, 0, parallel_for);
  if (!graph) return false;
  const cpu::GroupedMatrix& t = graph->matrix;
  p.stats->path = WalkStats::sparse;
  p.stats->pairs = t.pairs;
  p.stats->dropped_mass = *std::max_element(t.dropped_mass.begin(), t.dropped_mass.end());
  Stopwatch watch;
  Vector<float> own_weight(p.memory);
  if (cpu::is_anchored(p)) own_weight = cpu::own_weights(p, t.log_sum);
  cpu::walk_sparse(p, graph->pixels, cpu::row_groups(t, p.memory), t.row_scale.data(), own_weight, parallel_for);
  p.stats->step_seconds += watch.lap();
  return true;
}

}  // namespace

template <typename T>
void walk(const Problem<T>& problem, const ParallelFor& parallel_for) {
  Problem<T> p = problem;
  WalkStats unused;
  if (!p.stats) p.stats = &unused;
  *p.stats = {};
  parallel_for(p.pixels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < p.value_channels; ++c)
        p.result[i * p.value_channels + c] = p.values.data[i * p.values.row_stride + c * p.values.column_stride];
  });
  if (p.steps == 0 || p.alpha == 0 || p.value_channels == 0) return;
  Stopwatch watch;
  const Vector<int64_t> pixels = cpu::valid_pixels(p, parallel_for);
  const int64_t count = pixels.size();
  if (count < 2) return;
  p.stats->pixels = count;
  p.stats->pack_seconds = watch.lap();
  if constexpr (std::is_same_v<T, float>) {
    if (!p.adjoint && try_walk_sparse(p, pixels, parallel_for)) return;
  }
  p.stats->path = WalkStats::streaming;
  p.stats->pairs = count * (count - 1);
  walk_streaming(p, pixels, parallel_for);
}

template void walk(const Problem<float>&, const ParallelFor&);
template void walk(const Problem<double>&, const ParallelFor&);

}  // namespace rwpm
