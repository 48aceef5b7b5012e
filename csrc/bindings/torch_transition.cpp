// The torch operators of a graph that is built once and walked many times. The matrix is returned as tensors, so that
// Python can store and inspect it: `order` [n], the pixel of each row; rows in groups of four that share their columns,
// `group_start` [groups + 1], `column` [entries] by row number, `weight` [entries, 4] with a zero where a row does not
// keep the pair; `dropped` [n], an upper bound of the share of its mass that each row dropped;
// `log_sum` [n], log2 of the sum of exp(cosine / tau) over what each row keeps.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "bindings/torch_common.h"
#include "bindings/torch_workspace.h"
#include "cpu/build_sparse.h"
#include "cpu/pack.h"
#include "cpu/sparse_walk.h"

namespace {

using namespace rwpm::ops;
using rwpm::cpu::ceil_div;
using rwpm::cpu::group_rows;
using rwpm::cpu::RowGroups;
using rwpm::cpu::SparseGraph;
using rwpm::cpu::Vector;

template <typename T>
T* data(Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> transition(const Tensor& embeddings_in,
                                                                      const std::optional<Tensor>& mask,
                                                                      double temperature, double tolerance,
                                                                      int64_t width) {
  check_graph_settings(temperature, tolerance);
  check(width >= 0, "width: expected 0 (not known) or more pixels, got ", width);
  check(embeddings_in.dim() == 2, "embeddings: expected shape [N, D], got [", list(shape(embeddings_in)), "]");
  check_floating("embeddings", embeddings_in);
  check(embeddings_in.scalar_type() != ScalarType::Double,
        "embeddings: expected dtype float32, float16 or bfloat16, got torch.float64; float64 embeddings stream");
  check_mask(mask, embeddings_in);
  const Tensor embeddings = torch::stable::to(embeddings_in, ScalarType::Float);
  const std::shared_ptr<rwpm::Workspace> workspace = open_workspace();
  rwpm::Problem<float> problem = {};
  problem.memory = memory_of(workspace);
  problem.pixels = embeddings.size(0);
  problem.channels = embeddings.size(1);
  problem.embeddings = matrix_view<float>(embeddings);
  if (mask) {
    problem.mask = static_cast<const bool*>(mask->const_data_ptr());
    problem.mask_stride = mask->stride(0);
  }
  problem.temperature = temperature;
  problem.tolerance = tolerance;
  const Vector<int64_t> pixels = rwpm::cpu::valid_pixels(problem, parallel_for);
  const std::optional<SparseGraph> graph =
      rwpm::cpu::build_sparse(problem, pixels, rwpm::cpu::max_useful_density, width, parallel_for);

  const Vector<RowGroups> rows = graph ? rwpm::cpu::row_groups(graph->matrix, problem.memory) : Vector<RowGroups>();
  int64_t groups = 0, entries = 0;
  for (const RowGroups& m : rows) {
    groups += m.groups;
    entries += m.group_start[m.groups];
  }
  const int64_t count = graph ? int64_t(graph->pixels.size()) : 0;
  const auto empty = [&](std::vector<int64_t> size, ScalarType type) {
    return torch::stable::new_empty(embeddings, {size.data(), size.size()}, type);
  };
  Tensor order = empty({count}, ScalarType::Long), group_start = empty({groups + 1}, ScalarType::Long),
         column = empty({entries}, ScalarType::Int), weight = empty({entries, group_rows}, ScalarType::Float),
         dropped = empty({count}, ScalarType::Float), log_sum = empty({count}, ScalarType::Float);
  if (graph) {
    std::copy(graph->pixels.begin(), graph->pixels.end(), data<int64_t>(order));
    std::copy(graph->matrix.dropped_mass.begin(), graph->matrix.dropped_mass.end(), data<float>(dropped));
    std::copy(graph->matrix.log_sum.begin(), graph->matrix.log_sum.end(), data<float>(log_sum));
  }
  int64_t at = 0;
  data<int64_t>(group_start)[0] = 0;
  for (const RowGroups& m : rows) {
    const int64_t here = m.group_start[m.groups];
    std::copy_n(m.column, here, data<int32_t>(column) + at);
    std::copy_n(m.weight, here * group_rows, data<float>(weight) + at * group_rows);
    for (int64_t g = 1; g <= m.groups; ++g) data<int64_t>(group_start)[m.first_group + g] = at + m.group_start[g];
    at += here;
  }
  return {order, group_start, column, weight, dropped, log_sum};
}

// The matrix that the tensors hold, validated, because the kernels gather by its columns unchecked.
RowGroups checked_matrix(const Tensor& order, const Tensor& group_start, const Tensor& column, const Tensor& weight) {
  const auto check_part = [](const char* argument, const Tensor& t, int64_t rank, ScalarType type) {
    check(t.dim() == rank && t.scalar_type() == type && t.is_contiguous() && t.is_cpu(), argument,
          ": expected a contiguous tensor of rank ", rank, " and dtype ", name(type), " on the CPU, got shape [",
          list(shape(t)), "] and dtype ", name(t.scalar_type()));
  };
  check_part("order", order, 1, ScalarType::Long);
  check_part("group_start", group_start, 1, ScalarType::Long);
  check_part("column", column, 1, ScalarType::Int);
  check_part("weight", weight, 2, ScalarType::Float);
  const int64_t count = order.size(0), groups = ceil_div(count, group_rows);
  const int64_t* const start = static_cast<const int64_t*>(group_start.const_data_ptr());
  check(group_start.size(0) == groups + 1 && start[0] == 0 && std::is_sorted(start, start + groups + 1),
        "group_start: expected ", groups + 1, " numbers that ascend from 0, one more than groups of ", group_rows,
        " rows in order");
  check(column.size(0) == start[groups] && weight.size(0) == start[groups] && weight.size(1) == group_rows,
        "column, weight: expected as many entries as group_start ends with, ", start[groups], ", got ", column.size(0),
        " and [", list(shape(weight)), "]");
  const RowGroups rows = {0, groups, start, static_cast<const int32_t*>(column.const_data_ptr()),
                          static_cast<const float*>(weight.const_data_ptr())};
  check(std::all_of(rows.column, rows.column + start[groups], [&](int32_t j) { return j >= 0 && j < count; }),
        "column: expected rows from 0 to ", count - 1);
  return rows;
}

// The pixels of the rows, validated: every pixel once.
Vector<int64_t> checked_order(const Tensor& order) {
  const int64_t* const pixel = static_cast<const int64_t*>(order.const_data_ptr());
  std::vector<char> seen(order.size(0));
  for (int64_t i = 0; i < order.size(0); ++i) {
    check(pixel[i] >= 0 && pixel[i] < order.size(0) && !seen[pixel[i]], "order: expected every pixel from 0 to ",
          order.size(0) - 1, " once");
    seen[pixel[i]] = 1;
  }
  return Vector<int64_t>(pixel, pixel + order.size(0));
}

// values: [N, C] contiguous. Gradients are not checked, so that a value that is not finite shows.
template <typename T>
void check_finite(const Tensor& values) {
  const T* row = static_cast<const T*>(values.const_data_ptr());
  int64_t broken = 0;
  for (int64_t i = 0; i < values.size(0); ++i, row += values.size(1))
    broken += !std::all_of(row, row + values.size(1), [](T v) { return std::isfinite(v); });
  check(broken == 0, "values: expected finite numbers in the pixels of the graph, got ", broken,
        " pixels with others; leave them out of the graph with mask=values.isfinite().all(-1)");
}

template <typename T>
Tensor walk_values(const RowGroups& rows, const Vector<int64_t>& order, const Tensor& values,
                   const std::optional<Tensor>& own_weight, double alpha, int64_t steps, bool adjoint) {
  Tensor result = torch::stable::new_empty(values, values.sizes());
  const std::shared_ptr<rwpm::Workspace> workspace = open_workspace();
  rwpm::Problem<T> problem = {};
  problem.memory = memory_of(workspace);
  problem.value_channels = values.size(1);
  problem.values = matrix_view<T>(values);
  problem.alpha = alpha;
  problem.steps = steps;
  problem.adjoint = adjoint;
  problem.result = data<T>(result);
  Vector<T> own;
  if (own_weight) {
    const float* const data = static_cast<const float*>(own_weight->const_data_ptr());
    own.assign(data, data + own_weight->size(0));
  }
  rwpm::cpu::walk_sparse(problem, order, Vector<RowGroups>{rows}, own, parallel_for);
  return result;
}

Tensor transition_walk(const Tensor& order_in, const Tensor& group_start, const Tensor& column, const Tensor& weight,
                       const Tensor& values_in, const std::optional<Tensor>& own_weight, double alpha, int64_t steps,
                       bool adjoint) {
  check_walk_settings(alpha, steps);
  const RowGroups rows = checked_matrix(order_in, group_start, column, weight);
  const Vector<int64_t> order = checked_order(order_in);
  const int64_t count = order_in.size(0);
  check(values_in.dim() == 2 && values_in.size(0) == count, "values: expected shape [", count,
        ", C] to match order, got [", list(shape(values_in)), "]");
  check_floating("values", values_in);
  if (own_weight)
    check(own_weight->dim() == 1 && own_weight->size(0) == count && own_weight->scalar_type() == ScalarType::Float &&
              own_weight->is_contiguous() && own_weight->is_cpu(),
          "own_weight: expected a contiguous float32 tensor of shape [", count, "] on the CPU, got shape [",
          list(shape(*own_weight)), "] and dtype ", name(own_weight->scalar_type()));
  check(values_in.is_cpu(), "values: expected the matrix's device cpu, got another device");
  const bool doubled = values_in.scalar_type() == ScalarType::Double;
  const Tensor values =
      torch::stable::contiguous(torch::stable::to(values_in, doubled ? ScalarType::Double : ScalarType::Float));
  if (!adjoint) doubled ? check_finite<double>(values) : check_finite<float>(values);
  const Tensor result = doubled ? walk_values<double>(rows, order, values, own_weight, alpha, steps, adjoint)
                                : walk_values<float>(rows, order, values, own_weight, alpha, steps, adjoint);
  return torch::stable::to(result, values_in.scalar_type());
}

}  // namespace

RWPM_LIBRARY_FRAGMENT(m) {
  m.def(
      "transition(Tensor embeddings, Tensor? mask=None, *, float temperature=0.01, float tolerance=1e-4, "
      "int width=0) -> (Tensor order, Tensor group_start, Tensor column, Tensor weight, Tensor dropped, "
      "Tensor log_sum)");
  m.def(
      "transition_walk(Tensor order, Tensor group_start, Tensor column, Tensor weight, Tensor values, "
      "Tensor? own_weight=None, *, float alpha=0.99, int steps=20, bool adjoint=False) -> Tensor");
}

RWPM_LIBRARY_IMPL(CPU, m) {
  m.impl("transition", TORCH_BOX(&transition));
  m.impl("transition_walk", TORCH_BOX(&transition_walk));
}
