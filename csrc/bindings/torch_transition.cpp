// The torch operators of a graph that is built once and walked many times. The matrix is returned as tensors, so that
// Python can store and inspect it: `order` [n], the pixel of each row; rows in groups of four that share their columns,
// `group_start` [groups + 1, 4], the members of GroupStart; `column` [entries] by row number; `code` [1 or 2, codes]
// with zeros where a row does not keep the pair, and `row_scale` [n]: a weight is ((code[0] + code[1] / 2^16) * the
// scale of its row)^2; `dropped` [n], an upper bound of the share of its mass that each row has elsewhere than the
// exact one; `log_sum` [n], log2 of the sum of exp(cosine / tau) over what each row keeps.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "bindings/torch_common.h"
#include "bindings/torch_workspace.h"
#include "cpu/build_sparse.h"
#include "cpu/differentiate.h"
#include "cpu/leading_channels.h"
#include "cpu/pack.h"
#include "cpu/sparse_walk.h"

namespace {

using namespace rwpm::ops;
using rwpm::cpu::Buffer;
using rwpm::cpu::ceil_div;
using rwpm::cpu::group_rows;
using rwpm::cpu::GroupStart;
using rwpm::cpu::Hints;
using rwpm::cpu::RowGroups;
using rwpm::cpu::SparseGraph;
using rwpm::cpu::Vector;

constexpr int64_t start_members = sizeof(GroupStart) / sizeof(int64_t);

template <typename T>
T* data(Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

using Matrix = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// previous, next: hints of a similar graph and of this one, or nullptr.
Matrix build(const Tensor& embeddings_in, const std::optional<Tensor>& mask, double temperature, double tolerance,
             int64_t width, rwpm::cpu::Memory* memory, const Hints* previous, Hints* next) {
  check_graph_settings(temperature, tolerance);
  check(width >= 0, "width: expected 0 (not known) or more pixels, got ", width);
  check(embeddings_in.dim() == 2, "embeddings: expected shape [N, D], got [", list(shape(embeddings_in)), "]");
  check_floating("embeddings", embeddings_in);
  check(embeddings_in.scalar_type() != ScalarType::Double,
        "embeddings: expected dtype float32, float16 or bfloat16, got torch.float64; float64 embeddings stream");
  check_mask(mask, embeddings_in);
  const Tensor embeddings = torch::stable::to(embeddings_in, ScalarType::Float);
  rwpm::Problem<float> problem = {};
  problem.memory = memory;
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
      rwpm::cpu::build_sparse(problem, pixels, rwpm::cpu::max_useful_density, width, parallel_for, previous, next);

  const Vector<RowGroups> rows = graph ? rwpm::cpu::row_groups(graph->matrix, problem.memory) : Vector<RowGroups>();
  int64_t groups = 0, entries = 0, codes = 0;
  bool with_low = false;
  for (const RowGroups& m : rows) {
    groups += m.groups;
    entries += m.group_start[m.groups].entry;
    codes += m.group_start[m.groups].code;
    with_low = with_low || m.low_code;
  }
  const int64_t count = graph ? int64_t(graph->pixels.size()) : 0;
  const auto empty = [&](std::vector<int64_t> size, ScalarType type) {
    return torch::stable::new_empty(embeddings, {size.data(), size.size()}, type);
  };
  Tensor order = empty({count}, ScalarType::Long), group_start = empty({groups + 1, start_members}, ScalarType::Long),
         column = empty({entries}, ScalarType::Int), code = empty({with_low ? 2 : 1, codes}, ScalarType::UInt16),
         row_scale = empty({count}, ScalarType::Float), dropped = empty({count}, ScalarType::Float),
         log_sum = empty({count}, ScalarType::Float);
  if (graph) {
    std::copy(graph->pixels.begin(), graph->pixels.end(), data<int64_t>(order));
    std::copy(graph->matrix.row_scale.begin(), graph->matrix.row_scale.end(), data<float>(row_scale));
    std::copy(graph->matrix.dropped_mass.begin(), graph->matrix.dropped_mass.end(), data<float>(dropped));
    std::copy(graph->matrix.log_sum.begin(), graph->matrix.log_sum.end(), data<float>(log_sum));
  }
  GroupStart* start = data<GroupStart>(group_start);
  int64_t entry = 0, code_at = 0;
  *start = {};
  for (const RowGroups& m : rows) {
    const GroupStart& end = m.group_start[m.groups];
    std::copy_n(m.column, end.entry, data<int32_t>(column) + entry);
    std::copy_n(m.code, end.code, data<uint16_t>(code) + code_at);
    if (with_low) std::copy_n(m.low_code, end.code, data<uint16_t>(code) + codes + code_at);
    for (int64_t g = 0; g <= m.groups; ++g) {
      const GroupStart& s = m.group_start[g];
      start[g] = {entry + s.entry, entry + s.first_half, entry + s.second_half, code_at + s.code};
    }
    start += m.groups;  // where this block ends the next one begins
    entry += end.entry;
    code_at += end.code;
  }
  return {order, group_start, column, code, row_scale, dropped, log_sum};
}

Matrix transition(const Tensor& embeddings, const std::optional<Tensor>& mask, double temperature, double tolerance,
                  int64_t width) {
  const std::shared_ptr<rwpm::Workspace> workspace = open_workspace();
  return build(embeddings, mask, temperature, tolerance, width, memory_of(workspace), nullptr, nullptr);
}

// Hints as a tensor: [2 * N], or followed by D * leading_channels; empty where nothing is known.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> transition_in_sequence(
    const Tensor& embeddings, const std::optional<Tensor>& mask, const std::optional<Tensor>& hints, double temperature,
    double tolerance, int64_t width) {
  check(embeddings.dim() == 2, "embeddings: expected shape [N, D], got [", list(shape(embeddings)), "]");
  const int64_t pixels = embeddings.size(0), of_rows = 2 * pixels,
                of_directions = embeddings.size(1) * rwpm::cpu::leading_channels;
  const std::shared_ptr<rwpm::Workspace> workspace = open_workspace();
  rwpm::cpu::Memory* const memory = memory_of(workspace);
  const auto buffer = [&](int64_t size) { return Buffer<float>(size, memory); };
  std::optional<Hints> previous;
  if (hints && hints->numel() > 0) {
    check(hints->dim() == 1 && (hints->size(0) == of_rows || hints->size(0) == of_rows + of_directions) &&
              hints->scalar_type() == ScalarType::Float && hints->is_contiguous() && hints->is_cpu(),
          "hints: expected a contiguous float32 tensor on the CPU of shape [0], [", of_rows, "] or [",
          of_rows + of_directions,
          "], as transition.in_sequence returned it for as many pixels and channels, got shape [", list(shape(*hints)),
          "] and dtype ", name(hints->scalar_type()));
    const float* const numbers = static_cast<const float*>(hints->const_data_ptr());
    previous = Hints{buffer(pixels), buffer(pixels), buffer(hints->size(0) - of_rows)};
    std::copy_n(numbers, pixels, previous->screen.get());
    std::copy_n(numbers + pixels, pixels, previous->keep.get());
    std::copy_n(numbers + of_rows, previous->directions.size(), previous->directions.get());
  }
  Hints next = {buffer(pixels), buffer(pixels), {}};
  auto matrix = build(embeddings, mask, temperature, tolerance, width, memory, previous ? &*previous : nullptr, &next);
  const bool sparse = std::get<0>(matrix).size(0) > 0;
  const int64_t size = sparse ? of_rows + next.directions.size() : 0;
  Tensor next_hints = torch::stable::new_empty(embeddings, {&size, 1}, ScalarType::Float);
  if (sparse) {
    float* const numbers = data<float>(next_hints);
    std::copy_n(next.screen.get(), pixels, numbers);
    std::copy_n(next.keep.get(), pixels, numbers + pixels);
    std::copy_n(next.directions.get(), next.directions.size(), numbers + of_rows);
  }
  return std::tuple_cat(std::move(matrix), std::tuple<Tensor>(next_hints));
}

// The matrix that the tensors hold, validated, because the kernels gather by its columns unchecked.
RowGroups checked_matrix(const Tensor& order, const Tensor& group_start, const Tensor& column, const Tensor& code,
                         const Tensor& row_scale) {
  const auto check_part = [](const char* argument, const Tensor& t, int64_t rank, ScalarType type) {
    check(t.dim() == rank && t.scalar_type() == type && t.is_contiguous() && t.is_cpu(), argument,
          ": expected a contiguous tensor of rank ", rank, " and dtype ", name(type), " on the CPU, got shape [",
          list(shape(t)), "] and dtype ", name(t.scalar_type()));
  };
  check_part("order", order, 1, ScalarType::Long);
  check_part("group_start", group_start, 2, ScalarType::Long);
  check_part("column", column, 1, ScalarType::Int);
  check_part("code", code, 2, ScalarType::UInt16);
  check_part("row_scale", row_scale, 1, ScalarType::Float);
  const int64_t count = order.size(0), groups = ceil_div(count, group_rows);
  const GroupStart* const start = static_cast<const GroupStart*>(group_start.const_data_ptr());
  check(group_start.size(0) == groups + 1 && group_start.size(1) == start_members, "group_start: expected shape [",
        groups + 1, ", ", start_members, "], one more than groups of ", group_rows, " rows in order, got [",
        list(shape(group_start)), "]");
  const uint16_t* const codes = static_cast<const uint16_t*>(code.const_data_ptr());
  check(code.size(0) == 1 || code.size(0) == 2, "code: expected shape [1, codes], or [2, codes] with low ones, got [",
        list(shape(code)), "]");
  const RowGroups rows = {0,     groups,
                          start, static_cast<const int32_t*>(column.const_data_ptr()),
                          codes, code.size(0) == 2 ? codes + code.size(1) : nullptr};
  bool ascends = start[0].entry == 0 && start[0].code == 0;
  for (int64_t g = 0; g < groups && ascends; ++g) {
    const int64_t bounds[] = {start[g].entry, start[g].first_half, start[g].second_half, start[g + 1].entry};
    ascends = std::is_sorted(std::begin(bounds), std::end(bounds)) && bounds[3] <= column.size(0) &&
              start[g + 1].code ==
                  start[g].code + (bounds[1] - bounds[0]) * group_rows + (bounds[3] - bounds[1]) * (group_rows / 2);
  }
  check(ascends, "group_start: expected entries that ascend from 0 to at most ", column.size(0),
        ", with 4 codes for each of the first ones of a group and 2 for the others");
  check(column.size(0) == start[groups].entry && code.size(1) == start[groups].code,
        "column, code: expected what group_start ends with, ", start[groups].entry, " entries and ", start[groups].code,
        " codes, got ", column.size(0), " and ", code.size(1));
  check(row_scale.size(0) == count, "row_scale: expected a number for each of ", count, " rows, got ",
        row_scale.size(0));
  check(std::all_of(rows.column, rows.column + start[groups].entry, [&](int32_t j) { return j >= 0 && j < count; }),
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
Tensor walk_values(const RowGroups& rows, const float* row_scale, const Vector<int64_t>& order, const Tensor& values,
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
  rwpm::cpu::walk_sparse(problem, order, Vector<RowGroups>{rows}, row_scale, own, parallel_for);
  return result;
}

Tensor transition_walk(const Tensor& order_in, const Tensor& group_start, const Tensor& column, const Tensor& code,
                       const Tensor& row_scale, const Tensor& values_in, const std::optional<Tensor>& own_weight,
                       double alpha, int64_t steps, bool adjoint) {
  check_walk_settings(alpha, steps);
  const RowGroups rows = checked_matrix(order_in, group_start, column, code, row_scale);
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
  const float* const scale = static_cast<const float*>(row_scale.const_data_ptr());
  const Tensor result = doubled ? walk_values<double>(rows, scale, order, values, own_weight, alpha, steps, adjoint)
                                : walk_values<float>(rows, scale, order, values, own_weight, alpha, steps, adjoint);
  return torch::stable::to(result, values_in.scalar_type());
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> differentiate_values(const RowGroups& rows, const float* row_scale,
                                                        const Vector<int64_t>& order, const Tensor& gradient,
                                                        const Tensor& values, const Tensor& embeddings,
                                                        const Tensor& log_sum, rwpm::Problem<T> problem) {
  const ScalarType type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
  Tensor by_embeddings = torch::stable::new_empty(embeddings, embeddings.sizes(), type),
         by_values = torch::stable::new_empty(values, values.sizes(), type),
         by_temperature = torch::stable::new_empty(values, {}, ScalarType::Double);
  *data<double>(by_temperature) = 0;
  const std::shared_ptr<rwpm::Workspace> workspace = open_workspace();
  problem.memory = memory_of(workspace);
  problem.pixels = values.size(0);
  problem.channels = embeddings.size(1);
  problem.value_channels = values.size(1);
  problem.embeddings = matrix_view<T>(embeddings);
  problem.values = matrix_view<T>(values);
  const float* const sums = static_cast<const float*>(log_sum.const_data_ptr());
  const rwpm::Gradients<T> gradients = {matrix_view<T>(gradient), data<T>(by_embeddings), data<T>(by_values),
                                        data<double>(by_temperature)};
  if (problem.steps > 0 && problem.value_channels > 0) {
    rwpm::cpu::differentiate_sparse(problem, gradients, order, Vector<RowGroups>{rows}, row_scale,
                                    Vector<T>(sums, sums + order.size()), parallel_for);
  } else {
    torch::stable::copy_(by_values, gradient);
    std::fill_n(data<T>(by_embeddings), by_embeddings.numel(), T(0));
  }
  return {by_embeddings, by_values, by_temperature};
}

std::tuple<Tensor, Tensor, Tensor> transition_walk_backward(const Tensor& gradient_in, const Tensor& order_in,
                                                            const Tensor& group_start, const Tensor& column,
                                                            const Tensor& code, const Tensor& row_scale,
                                                            const Tensor& values_in, const Tensor& embeddings_in,
                                                            const Tensor& log_sum, double alpha, int64_t steps,
                                                            double temperature, double anchor, double anchor_share) {
  check_walk_settings(alpha, steps);
  check_graph_settings(temperature, 0);
  check_anchor(anchor, anchor_share);
  const RowGroups rows = checked_matrix(order_in, group_start, column, code, row_scale);
  const Vector<int64_t> order = checked_order(order_in);
  const int64_t count = order_in.size(0);
  const auto check_rows = [&](const char* argument, const Tensor& t) {
    check(t.dim() == 2 && t.size(0) == count, argument, ": expected shape [", count,
          ", channels] to match order, got [", list(shape(t)), "]");
    check_floating(argument, t);
    check(t.is_cpu(), argument, ": expected the matrix's device cpu, got another device");
  };
  check_rows("values", values_in);
  check_rows("embeddings", embeddings_in);
  check(shape(gradient_in) == shape(values_in), "gradient: expected shape [", list(shape(values_in)),
        "] of the values, got [", list(shape(gradient_in)), "]");
  check_rows("gradient", gradient_in);
  check(log_sum.dim() == 1 && log_sum.size(0) == count && log_sum.scalar_type() == ScalarType::Float &&
            log_sum.is_contiguous() && log_sum.is_cpu(),
        "log_sum: expected a contiguous float32 tensor of shape [", count, "] on the CPU, got shape [",
        list(shape(log_sum)), "] and dtype ", name(log_sum.scalar_type()));
  const bool doubled = values_in.scalar_type() == ScalarType::Double;
  const ScalarType type = doubled ? ScalarType::Double : ScalarType::Float;
  const Tensor gradient = torch::stable::to(gradient_in, type), values = torch::stable::to(values_in, type),
               embeddings = torch::stable::to(embeddings_in, type);
  const float* const scale = static_cast<const float*>(row_scale.const_data_ptr());
  const auto run = [&](auto problem) {
    problem.alpha = alpha;
    problem.steps = steps;
    problem.temperature = temperature;
    problem.anchor = anchor;
    problem.anchor_share = anchor_share;
    return differentiate_values(rows, scale, order, gradient, values, embeddings, log_sum, problem);
  };
  const auto [by_embeddings, by_values, by_temperature] =
      doubled ? run(rwpm::Problem<double>{}) : run(rwpm::Problem<float>{});
  return {torch::stable::to(by_embeddings, embeddings_in.scalar_type()),
          torch::stable::to(by_values, values_in.scalar_type()), by_temperature};
}

}  // namespace

RWPM_LIBRARY_FRAGMENT(m) {
  m.def(
      "transition(Tensor embeddings, Tensor? mask=None, *, float temperature=0.01, float tolerance=1e-4, "
      "int width=0) -> (Tensor order, Tensor group_start, Tensor column, Tensor code, Tensor row_scale, "
      "Tensor dropped, Tensor log_sum)");
  m.def(
      "transition.in_sequence(Tensor embeddings, Tensor? mask=None, *, Tensor? hints, float temperature=0.01, "
      "float tolerance=1e-4, int width=0) -> (Tensor order, Tensor group_start, Tensor column, Tensor code, "
      "Tensor row_scale, Tensor dropped, Tensor log_sum, Tensor hints)");
  m.def(
      "transition_walk(Tensor order, Tensor group_start, Tensor column, Tensor code, Tensor row_scale, Tensor values, "
      "Tensor? own_weight=None, *, float alpha=0.99, int steps=20, bool adjoint=False) -> Tensor");
  m.def(
      "transition_walk_backward(Tensor gradient, Tensor order, Tensor group_start, Tensor column, Tensor code, "
      "Tensor row_scale, Tensor values, Tensor embeddings, Tensor log_sum, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float anchor=-1.0, float anchor_share=0.0) -> "
      "(Tensor embeddings, Tensor values, Tensor temperature)");
}

RWPM_LIBRARY_IMPL(CPU, m) {
  m.impl("transition", TORCH_BOX(&transition));
  m.impl("transition.in_sequence", TORCH_BOX(&transition_in_sequence));
  m.impl("transition_walk", TORCH_BOX(&transition_walk));
  m.impl("transition_walk_backward", TORCH_BOX(&transition_walk_backward));
}
