#include "cpu/sparse_walk.h"

#include <type_traits>

#include "cpu/anchor.h"
#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/sparse_products.h"

namespace rwpm::cpu {
namespace {

// What a float walk does in the kernels at once: m <- alpha_i S m + (1 - alpha_i) v.
void step_float(const Problem<float>& p, const Vector<int64_t>& pixels, const Vector<RowGroups>& rows,
                const float* row_scale, const Vector<float>& alpha_of_pixels, const ParallelFor& parallel_for) {
  const int64_t padded = ceil_div(int64_t(pixels.size()), group_rows) * group_rows;
  Vector<float> alpha(alpha_of_pixels, p.memory), scale(row_scale, row_scale + pixels.size(), p.memory);  // by row
  alpha.resize(padded);
  scale.resize(padded);
  const SparseKernels& kernels = *chosen_isa().sparse;
  const Vector<GroupRange> tasks = group_ranges(rows, p.memory);
  const ValueLayout layout = {padded, ceil_div(p.value_channels, kernels.vector) * kernels.vector, kernels.lanes};
  step_values(p, pixels, layout, parallel_for, [&](int64_t, const float* start, const float* from, float* to) {
    parallel_for_dynamic(tasks.size(), parallel_for, [&](const auto& next) {
      for (int64_t k = next(); k < int64_t(tasks.size()); k = next()) {
        const auto& [m, begin, end, _] = tasks[k];
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
      }
    });
  });
}

}  // namespace

template <typename T>
void walk_sparse(const Problem<T>& p, const Vector<int64_t>& pixels, const Vector<RowGroups>& rows,
                 const float* row_scale, const Vector<T>& own_weight, const ParallelFor& parallel_for) {
  Vector<T> alpha(pixels.size(), T(p.alpha), p.memory);  // by row
  for (size_t i = 0; i < own_weight.size(); ++i) alpha[i] = T(p.alpha * (1 - double(own_weight[i])));
  if constexpr (std::is_same_v<T, float>) {
    if (!p.adjoint) return step_float(p, pixels, rows, row_scale, alpha, parallel_for);
  }
  const SparseProducts<T> products(rows, pixels.size(), row_scale, alpha.data(), parallel_for, p.memory);
  const ValueLayout layout = products.layout(p.value_channels);
  Restart<T> restart(p, layout, own_weight);
  step_values(p, pixels, layout, parallel_for, [&](int64_t step, const T* start, const T* from, T* to) {
    parallel_for(layout.rows, [&](int64_t begin, int64_t end) {
      for (int64_t panel = 0; panel < layout.size(); panel += layout.rows * layout.lanes)
        restart.begin_step(step, panel, begin, end, start, from, to);
    });
    products.add_product(p.value_channels, p.adjoint, from, to);
  });
}

template void walk_sparse(const Problem<float>&, const Vector<int64_t>&, const Vector<RowGroups>&, const float*,
                          const Vector<float>&, const ParallelFor&);
template void walk_sparse(const Problem<double>&, const Vector<int64_t>&, const Vector<RowGroups>&, const float*,
                          const Vector<double>&, const ParallelFor&);

}  // namespace rwpm::cpu
