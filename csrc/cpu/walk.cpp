// The walk on the CPU: find the valid pixels, pack them for the kernels, normalize once, step, unpack.
#include "walk.h"

#include <algorithm>
#include <optional>
#include <type_traits>

#include "cpu/anchor.h"
#include "cpu/build_sparse.h"
#include "cpu/cost.h"
#include "cpu/differentiate.h"
#include "cpu/pack.h"
#include "cpu/sparse_walk.h"
#include "cpu/stopwatch.h"
#include "cpu/streamed_graph.h"

namespace rwpm {
namespace {

using cpu::Stopwatch;
using cpu::Vector;

template <typename T>
void walk_streaming(const Problem<T>& p, const Vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  cpu::StreamedGraph<T> graph(p, pixels, parallel_for, p.stats->pack_seconds, p.stats->build_seconds);
  Stopwatch watch;
  Vector<T> own_weight(p.memory);
  if (cpu::is_anchored(p)) own_weight = cpu::own_weights(p, graph.log_sums());
  graph.shrink_rows(own_weight);
  p.stats->build_seconds += watch.lap();

  const cpu::ValueLayout layout = graph.layout(p.value_channels);
  cpu::Restart<T> restart(p, layout, own_weight);
  cpu::step_values(p, pixels, layout, parallel_for, [&](int64_t step, const T* start, const T* from, T* to) {
    parallel_for(layout.rows, [&](int64_t begin, int64_t end) {
      for (int64_t panel = 0; panel < layout.size(); panel += layout.rows * layout.lanes)
        restart.begin_step(step, panel, begin, end, start, from, to);
    });
    graph.add_product(p.value_channels, p.adjoint, from, to, T(p.alpha));
  });
  p.stats->step_seconds += watch.lap();
}

// The graph by filter and refine; nothing where it is too dense for it.
std::optional<cpu::SparseGraph> build_where_sparse(const Problem<float>& p, const Vector<int64_t>& pixels,
                                                   const ParallelFor& parallel_for) {
  const double max_density =
      cpu::walk_costs(int64_t(pixels.size()), p.channels, p.value_channels, p.steps).max_density();
  return cpu::build_sparse(p, pixels, max_density, 0, parallel_for);
}

bool try_walk_sparse(const Problem<float>& p, const Vector<int64_t>& pixels, const ParallelFor& parallel_for) {
  const std::optional<cpu::SparseGraph> graph = build_where_sparse(p, pixels, parallel_for);
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

// The pixels of the graph; none where it has no pair.
template <typename T>
Vector<int64_t> walked_pixels(const Problem<T>& p, const ParallelFor& parallel_for) {
  Vector<int64_t> pixels(p.memory);
  if (p.steps == 0 || p.alpha == 0 || p.value_channels == 0) return pixels;
  pixels = cpu::valid_pixels(p, parallel_for);
  if (pixels.size() < 2) pixels.clear();
  return pixels;
}

template <typename T>
void copy_rows(const MatrixView<T>& from, int64_t rows, int64_t columns, const ParallelFor& parallel_for, T* to) {
  parallel_for(rows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < columns; ++c)
        to[i * columns + c] = from.data[i * from.row_stride + c * from.column_stride];
  });
}

}  // namespace

template <typename T>
void walk(const Problem<T>& problem, const ParallelFor& parallel_for) {
  Problem<T> p = problem;
  WalkStats unused;
  if (!p.stats) p.stats = &unused;
  *p.stats = {};
  copy_rows(p.values, p.pixels, p.value_channels, parallel_for, p.result);
  Stopwatch watch;
  const Vector<int64_t> pixels = walked_pixels(p, parallel_for);
  const int64_t count = pixels.size();
  if (count == 0) return;
  p.stats->pixels = count;
  p.stats->pack_seconds = watch.lap();
  if constexpr (std::is_same_v<T, float>) {
    if (try_walk_sparse(p, pixels, parallel_for)) return;
  }
  p.stats->path = WalkStats::streaming;
  p.stats->pairs = count * (count - 1);
  walk_streaming(p, pixels, parallel_for);
}

template <typename T>
void differentiate(const Problem<T>& problem, const Gradients<T>& gradients, const ParallelFor& parallel_for) {
  Problem<T> p = problem;
  WalkStats unused;
  p.stats = &unused;
  copy_rows(gradients.of_result, p.pixels, p.value_channels, parallel_for, gradients.of_values);
  std::fill_n(gradients.of_embeddings, p.pixels * p.channels, T(0));
  const Vector<int64_t> pixels = walked_pixels(p, parallel_for);
  if (pixels.empty()) return;
  if constexpr (std::is_same_v<T, float>) {
    if (const std::optional<cpu::SparseGraph> graph = build_where_sparse(p, pixels, parallel_for)) {
      const cpu::GroupedMatrix& t = graph->matrix;
      return cpu::differentiate_sparse(p, gradients, graph->pixels, cpu::row_groups(t, p.memory), t.row_scale.data(),
                                       t.log_sum, parallel_for);
    }
  }
  cpu::differentiate_streaming(p, gradients, pixels, parallel_for);
}

template void walk(const Problem<float>&, const ParallelFor&);
template void walk(const Problem<double>&, const ParallelFor&);
template void differentiate(const Problem<float>&, const Gradients<float>&, const ParallelFor&);
template void differentiate(const Problem<double>&, const Gradients<double>&, const ParallelFor&);

}  // namespace rwpm
