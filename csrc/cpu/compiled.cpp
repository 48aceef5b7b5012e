#include "compiled.h"

#include <algorithm>

#include "isa.h"
#include "pixels.h"
#include "stopwatch.h"

namespace rwpm::cpu {
namespace {

// A graph of fewer pixels streams in no time.
constexpr int64_t fewest_sparse = 512;

// Rows that one task steps: few enough to balance the threads, enough to be worth a task.
constexpr int64_t sparse_rows = 256;

// Entries beyond the last that a kernel may look ahead.
constexpr int64_t look_ahead = 16;

// Rows of `to` from `begin` on, a few channels at a time so that their sums stay in registers.
void step_rows(const Csr& m, double alpha, int64_t channels, int64_t begin, int64_t end, const double* start,
               const double* from, double* to) {
  constexpr int64_t few = 16;
  for (int64_t i = begin; i < end; ++i)
    for (int64_t channel = 0; channel < channels; channel += few) {
      const int64_t here = std::min(few, channels - channel);
      double sum[few] = {};
      const auto add = [&](int64_t count) {
        for (int64_t e = m.row_start[i]; e < m.row_start[i + 1]; ++e) {
          const double* const value = from + m.column[e] * channels + channel;
          for (int64_t c = 0; c < count; ++c) sum[c] += double(m.weight[e]) * value[c];
        }
      };
      here == few ? add(few) : add(here);
      for (int64_t c = 0; c < here; ++c) {
        const int64_t at = i * channels + channel + c;
        to[at] = alpha * sum[c] + (1 - alpha) * start[at];
      }
    }
}

Transition with_room(std::vector<int64_t> row_start) {
  Transition t;
  t.row_start = std::move(row_start);
  const int64_t entries = t.row_start.back();
  t.column = Buffer<int32_t>(entries + look_ahead);
  t.weight = Buffer<float>(entries + look_ahead);
  std::fill_n(&t.column[entries], look_ahead, 0);
  return t;
}

}  // namespace

std::optional<Transition> compile(const Problem<float>& p, const std::vector<int64_t>& pixels, double densest,
                                  int64_t width, const ParallelFor& parallel_for) {
  const int64_t count = pixels.size();
  if (p.tolerance <= 0 || count < fewest_sparse) return std::nullopt;
  const SparseKernels& kernels = *chosen_isa().sparse;
  const int64_t stride = ceil_div(p.channels, kernels.vector) * kernels.vector;
  const int64_t rows = ceil_div(count, kernels.lanes) * kernels.lanes;  // the filter looks at whole panels
  Stopwatch watch;
  const Buffer<float> units(rows * stride);
  std::fill(&units[count * stride], &units[rows * stride], 0.f);
  unit_rows(p, pixels, stride, parallel_for, units.get());
  if (p.info) p.info->pack += watch.lap();
  std::optional<Transition> t =
      compile_transition(units.get(), count, p.channels, stride, float(exponent_scale(p.temperature)), p.tolerance,
                         densest, parallel_for, width);
  if (p.info) p.info->compile += watch.lap();
  return t;
}

void walk_compiled(const Problem<float>& p, const std::vector<int64_t>& pixels, const Transition& t,
                   const ParallelFor& parallel_for) {
  const SparseKernels& kernels = *chosen_isa().sparse;
  const int64_t count = pixels.size();
  const Csr m = csr(t);
  const ValueLayout layout = {count, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  step_values(p, pixels, layout, [&](const float* start, const float* from, float* to) {
    const SparseStep step = {count, layout.width, float(p.alpha), m.row_start, m.column, m.weight, start, from, to};
    parallel_for(ceil_div(count, sparse_rows), [&](int64_t first, int64_t last) {
      kernels.step(step, first * sparse_rows, std::min(last * sparse_rows, count));
    });
  });
}

Csr csr(const Transition& t) {
  return {int64_t(t.row_start.size()) - 1, t.row_start.data(), t.column.get(), t.weight.get()};
}

Transition restored(const Csr& m, const ParallelFor& parallel_for) {
  Transition t = with_room({m.row_start, m.row_start + m.rows + 1});
  parallel_for(m.entries(), [&](int64_t first, int64_t last) {
    std::copy(m.column + first, m.column + last, &t.column[first]);
    std::copy(m.weight + first, m.weight + last, &t.weight[first]);
  });
  return t;
}

Transition transposed(const Csr& m) {
  std::vector<int64_t> row_start(m.rows + 1);
  for (int64_t e = 0; e < m.entries(); ++e) ++row_start[m.column[e] + 1];
  for (int64_t i = 0; i < m.rows; ++i) row_start[i + 1] += row_start[i];
  std::vector<int64_t> at(row_start.begin(), row_start.end() - 1);
  Transition t = with_room(std::move(row_start));
  for (int64_t i = 0; i < m.rows; ++i)
    for (int64_t e = m.row_start[i]; e < m.row_start[i + 1]; ++e) {
      const int64_t to = at[m.column[e]]++;
      t.column[to] = int32_t(i);
      t.weight[to] = m.weight[e];
    }
  return t;
}

void walk_compiled(const Csr& m, const double* values, int64_t channels, double alpha, int64_t steps,
                   const ParallelFor& parallel_for, double* result) {
  const int64_t size = m.rows * channels;
  const Buffer<double> spare(size);
  const double* from = values;
  for (int64_t remaining = steps; remaining > 0; --remaining) {
    double* const to = remaining % 2 ? result : spare.get();
    parallel_for(ceil_div(m.rows, sparse_rows), [&](int64_t first, int64_t last) {
      step_rows(m, alpha, channels, first * sparse_rows, std::min(last * sparse_rows, m.rows), values, from, to);
    });
    from = to;
  }
  if (steps == 0) std::copy_n(values, size, result);
}

}  // namespace rwpm::cpu
