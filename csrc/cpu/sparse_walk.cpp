#include "cpu/sparse_walk.h"

#include <algorithm>
#include <type_traits>

#include "cpu/anchor.h"
#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"

namespace rwpm::cpu {
namespace {

// Groups of rows that one task steps: few enough to balance the threads, enough to be worth a task.
constexpr int64_t groups_per_task = 24;

// Channels that generic steps process at a time: their sums stay in registers.
constexpr int64_t generic_channels = 8;

// Layout of values for generic steps: [C / generic_channels][rows][generic_channels].
ValueLayout generic_layout(int64_t rows, int64_t channels) {
  return {rows, ceil_div(channels, generic_channels) * generic_channels, generic_channels};
}

// Groups [begin, end) of to = alpha_i S from + (1 - alpha_i) start, for types that the kernels do not support.
template <typename T>
void step_generic(const RowGroups& m, const ValueLayout& layout, const T* alpha, const float* row_scale, int64_t begin,
                  int64_t end, const T* start, const T* from, T* to) {
  for (int64_t panel = 0; panel < layout.size(); panel += layout.rows * generic_channels)
    for (int64_t g = begin; g < end; ++g) {
      const int64_t row = (m.first_group + g) * group_rows, at = panel + row * generic_channels;
      T sum[group_rows][generic_channels] = {};
      for_each_entry(m, g, [&](int64_t column, int64_t first_row, int64_t code, int64_t codes) {
        for (int64_t k = 0; k < codes; ++k) {
          const T weight = m.weight(code + k, row_scale[row + first_row + k]);
          for (int64_t c = 0; c < generic_channels; ++c)
            sum[first_row + k][c] += weight * from[panel + column * generic_channels + c];
        }
      });
      for (int64_t k = 0; k < group_rows * generic_channels; ++k) {
        const T a = alpha[row + k / generic_channels];
        to[at + k] = a * sum[k / generic_channels][k % generic_channels] + (1 - a) * start[at + k];
      }
    }
}

// Adds a panel of S^T diag(alpha_i) from to `to`: rows scatter where S gathers.
template <typename T>
void add_transposed(const Vector<RowGroups>& rows, const T* alpha, const float* row_scale, int64_t panel, const T* from,
                    T* to) {
  for (const RowGroups& m : rows)
    for (int64_t g = 0; g < m.groups; ++g) {
      const int64_t row = (m.first_group + g) * group_rows;
      for_each_entry(m, g, [&](int64_t column, int64_t first_row, int64_t code, int64_t codes) {
        for (int64_t k = 0; k < codes; ++k) {
          const int64_t i = row + first_row + k;
          const T weight = alpha[i] * T(m.weight(code + k, row_scale[i]));
          for (int64_t c = 0; c < generic_channels; ++c)
            to[panel + column * generic_channels + c] += weight * from[panel + i * generic_channels + c];
        }
      });
    }
}

struct Task {
  const RowGroups* rows;
  int64_t begin, end;  // groups
};

Vector<Task> split_into_tasks(const Vector<RowGroups>& rows, Memory* memory) {
  int64_t count = 0;
  for (const RowGroups& m : rows) count += ceil_div(m.groups, groups_per_task);
  Vector<Task> tasks(memory);
  tasks.reserve(count);
  for (const RowGroups& m : rows)
    for (int64_t g = 0; g < m.groups; g += groups_per_task)
      tasks.push_back({&m, g, std::min(g + groups_per_task, m.groups)});
  return tasks;
}

}  // namespace

template <typename T>
void walk_sparse(const Problem<T>& p, const Vector<int64_t>& pixels, const Vector<RowGroups>& rows,
                 const float* row_scale, const Vector<T>& own_weight, const ParallelFor& parallel_for) {
  const int64_t padded = ceil_div(int64_t(pixels.size()), group_rows) * group_rows;
  Vector<T> alpha(padded, T(p.alpha), p.memory);                        // by row
  Vector<float> scale(row_scale, row_scale + pixels.size(), p.memory);  // of the codes of a row
  scale.resize(padded);
  for (size_t i = 0; i < own_weight.size(); ++i) alpha[i] = T(p.alpha * (1 - double(own_weight[i])));
  if (p.adjoint) {
    const ValueLayout layout = generic_layout(padded, p.value_channels);
    Restart<T> restart(p, layout, own_weight);
    return step_values(p, pixels, layout, parallel_for, [&](int64_t step, const T* start, const T* from, T* to) {
      parallel_for(layout.width / generic_channels, [&](int64_t first, int64_t last) {
        for (int64_t panel = first * padded * generic_channels; panel < last * padded * generic_channels;
             panel += padded * generic_channels) {
          restart.begin_step(step, panel, 0, padded, start, from, to);
          add_transposed(rows, alpha.data(), scale.data(), panel, from, to);
        }
      });
    });
  }
  const SparseKernels& kernels = *chosen_isa().sparse;
  const Vector<Task> tasks = split_into_tasks(rows, p.memory);
  const ValueLayout layout =
      std::is_same_v<T, float>
          ? ValueLayout{padded, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes}
          : generic_layout(padded, p.value_channels);
  step_values(p, pixels, layout, parallel_for, [&](int64_t, const T* start, const T* from, T* to) {
    parallel_for_dynamic(tasks.size(), parallel_for, [&](const auto& next) {
      for (int64_t k = next(); k < int64_t(tasks.size()); k = next()) {
        const auto [m, begin, end] = tasks[k];
        if constexpr (std::is_same_v<T, float>) {
          const SparseStepArgs args = {padded,
                                       layout.width,
                                       alpha.data(),
                                       scale.data(),
                                       m->first_group * group_rows,
                                       m->group_start,
                                       m->column,
                                       m->code,
                                       m->low_code,
                                       start,
                                       from,
                                       to};
          kernels.step(args, begin, end);
        } else {
          step_generic(*m, layout, alpha.data(), scale.data(), begin, end, start, from, to);
        }
      }
    });
  });
}

template void walk_sparse(const Problem<float>&, const Vector<int64_t>&, const Vector<RowGroups>&, const float*,
                          const Vector<float>&, const ParallelFor&);
template void walk_sparse(const Problem<double>&, const Vector<int64_t>&, const Vector<RowGroups>&, const float*,
                          const Vector<double>&, const ParallelFor&);

}  // namespace rwpm::cpu
