#include "cpu/sparse_walk.h"

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/pixel_order.h"
#include "cpu/stopwatch.h"

namespace rwpm::cpu {
namespace {

// A graph of fewer pixels streams in no time.
constexpr int64_t fewest_sparse = 512;

// Groups of rows that one task steps: few enough to balance the threads, enough to be worth a task.
constexpr int64_t task_groups = 24;

// Channels that the plain steps take at a time: their sums stay in registers.
constexpr int64_t plain_channels = 8;

// Values as the plain steps take them: whole vectors of channels for every pixel, [C / plain_channels][rows][..].
ValueLayout plain_layout(int64_t rows, int64_t channels) {
  return {rows, ceil_div(channels, plain_channels) * plain_channels, plain_channels};
}

// Rows of `to` = alpha S from + (1 - alpha) start from `begin` on, in a precision that the kernels do not have.
template <typename T>
void step_plainly(const Rows& m, const ValueLayout& layout, T alpha, int64_t begin, int64_t end, const T* start,
                  const T* from, T* to) {
  for (int64_t panel = 0; panel < layout.size(); panel += layout.rows * plain_channels)
    for (int64_t g = begin; g < end; ++g) {
      T sum[group_rows][plain_channels] = {};
      for (int64_t e = m.group_start[g]; e < m.group_start[g + 1]; ++e)
        for (int64_t k = 0; k < group_rows; ++k)
          for (int64_t c = 0; c < plain_channels; ++c)
            sum[k][c] += T(m.weight[e * group_rows + k]) * from[panel + m.column[e] * plain_channels + c];
      const int64_t at = panel + (m.first_group + g) * group_rows * plain_channels;
      for (int64_t k = 0; k < group_rows * plain_channels; ++k)
        to[at + k] = alpha * sum[k / plain_channels][k % plain_channels] + (1 - alpha) * start[at + k];
    }
}

// A panel of `to` = alpha S^T from + (1 - alpha) start: rows hand out what they would gather.
template <typename T>
void step_back(const std::vector<Rows>& rows, const ValueLayout& layout, T alpha, int64_t panel, const T* start,
               const T* from, T* to) {
  for (int64_t k = 0; k < layout.rows * plain_channels; ++k) to[panel + k] = (1 - alpha) * start[panel + k];
  for (const Rows& m : rows)
    for (int64_t g = 0; g < m.groups; ++g) {
      const T* const given = from + panel + (m.first_group + g) * group_rows * plain_channels;
      for (int64_t e = m.group_start[g]; e < m.group_start[g + 1]; ++e)
        for (int64_t k = 0; k < group_rows; ++k)
          for (int64_t c = 0; c < plain_channels; ++c)
            to[panel + m.column[e] * plain_channels + c] +=
                alpha * T(m.weight[e * group_rows + k]) * given[k * plain_channels + c];
    }
}

struct Task {
  const Rows* rows;
  int64_t begin, end;  // groups
};

std::vector<Task> tasks_of(const std::vector<Rows>& rows) {
  std::vector<Task> tasks;
  for (const Rows& m : rows)
    for (int64_t g = 0; g < m.groups; g += task_groups) tasks.push_back({&m, g, std::min(g + task_groups, m.groups)});
  return tasks;
}

}  // namespace

std::optional<Compiled> compile(const Problem<float>& p, const std::vector<int64_t>& pixels, double densest,
                                int64_t width, const ParallelFor& parallel_for) {
  const int64_t count = pixels.size();
  if (p.tolerance <= 0 || count < fewest_sparse) return std::nullopt;
  const int64_t lanes = chosen_isa().sparse->lanes;
  Stopwatch watch;
  if (width == 0) width = likely_width(p.embeddings, p.channels, pixels, parallel_for);
  Layout layout = by_patches(pixels, width, lanes);
  const Buffer<float> panels(ceil_div(count, lanes) * lanes * p.channels);
  pack_embeddings(p, layout.pixels, lanes, parallel_for, panels.get());
  if (p.info) p.info->pack += watch.lap();
  std::optional<Transition> t =
      compile_transition(panels.get(), count, p.channels, layout.across, float(exponent_scale(p.temperature)),
                         p.tolerance, densest, parallel_for);
  if (p.info) p.info->compile += watch.lap();
  if (!t) return std::nullopt;
  return Compiled{std::move(layout.pixels), std::move(*t)};
}

std::vector<Rows> rows_of(const Transition& t) {
  std::vector<Rows> rows;
  for (const Transition::Block& b : t.blocks)
    rows.push_back({int64_t(rows.size()) * Transition::block_rows / group_rows, int64_t(b.group_start.size()) - 1,
                    b.group_start.data(), b.column.get(), b.weight.get()});
  return rows;
}

template <typename T>
void walk_compiled(const Problem<T>& p, const std::vector<int64_t>& pixels, const std::vector<Rows>& rows,
                   const ParallelFor& parallel_for) {
  const int64_t padded = ceil_div(int64_t(pixels.size()), group_rows) * group_rows;
  const T alpha = T(p.alpha);
  if (p.adjoint) {
    const ValueLayout layout = plain_layout(padded, p.value_channels);
    return step_values(p, pixels, layout, parallel_for, [&](const T* start, const T* from, T* to) {
      parallel_for(layout.width / plain_channels, [&](int64_t first, int64_t last) {
        for (int64_t k = first; k < last; ++k)
          step_back(rows, layout, alpha, k * padded * plain_channels, start, from, to);
      });
    });
  }
  const SparseKernels& kernels = *chosen_isa().sparse;
  const std::vector<Task> tasks = tasks_of(rows);
  const ValueLayout layout =
      std::is_same_v<T, float>
          ? ValueLayout{padded, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes}
          : plain_layout(padded, p.value_channels);
  step_values(p, pixels, layout, parallel_for, [&](const T* start, const T* from, T* to) {
    // Tasks differ in entries, so threads take one after the other.
    std::atomic<size_t> next = 0;
    parallel_for(tasks.size(), [&](int64_t, int64_t) {
      for (size_t k = next++; k < tasks.size(); k = next++) {
        const auto [m, begin, end] = tasks[k];
        if constexpr (std::is_same_v<T, float>) {
          const SparseStep step = {
              padded, layout.width, alpha, m->first_group * group_rows, m->group_start, m->column, m->weight,
              start,  from,         to};
          kernels.step(step, begin, end);
        } else {
          step_plainly(*m, layout, alpha, begin, end, start, from, to);
        }
      }
    });
  });
}

template void walk_compiled(const Problem<float>&, const std::vector<int64_t>&, const std::vector<Rows>&,
                            const ParallelFor&);
template void walk_compiled(const Problem<double>&, const std::vector<int64_t>&, const std::vector<Rows>&,
                            const ParallelFor&);

}  // namespace rwpm::cpu
