// The torch operators of a graph compiled once and walked many times. The matrix travels as the three tensors of its
// CSR form, so that Python can keep it, hand it on and look into it.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "cpu/compiled.h"
#include "cpu/pixels.h"
#include "ops_common.h"

namespace {

using namespace rwpm::ops;
using rwpm::cpu::Csr;
using rwpm::cpu::Transition;

template <typename T>
Tensor tensor_of(const Tensor& like, const T* data, int64_t size, ScalarType type) {
  Tensor t = torch::stable::new_empty(like, {size}, type);
  std::copy_n(data, size, static_cast<T*>(t.mutable_data_ptr()));
  return t;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> transition(const Tensor& embeddings_in, double temperature, double tolerance,
                                                      int64_t width) {
  check_graph_settings(temperature, tolerance);
  check(width >= 0, "width: expected 0 (not known) or more pixels, got ", width);
  check(embeddings_in.dim() == 2, "embeddings: expected shape [N, D], got [", list(shape(embeddings_in)), "]");
  check_floating("embeddings", embeddings_in);
  check(embeddings_in.scalar_type() != ScalarType::Double,
        "embeddings: expected dtype float32, float16 or bfloat16, got torch.float64; float64 embeddings stream");
  const Tensor embeddings = torch::stable::to(embeddings_in, ScalarType::Float);
  rwpm::Problem<float> problem = {};
  problem.pixels = embeddings.size(0);
  problem.channels = embeddings.size(1);
  problem.embeddings = matrix<float>(embeddings);
  problem.temperature = temperature;
  problem.tolerance = tolerance;
  const std::vector<int64_t> pixels = rwpm::cpu::valid_pixels(problem, parallel_for);
  check(int64_t(pixels.size()) == problem.pixels, "embeddings: expected finite numbers, got ",
        problem.pixels - int64_t(pixels.size()), " pixels that are not; leave them out of the graph");
  const std::optional<Transition> t =
      rwpm::cpu::compile(problem, pixels, rwpm::cpu::densest_of_all, width, parallel_for);
  const std::vector<int64_t> nothing_kept(problem.pixels + 1);
  const std::vector<float> nothing_dropped(problem.pixels);
  const Csr m = t ? rwpm::cpu::csr(*t) : Csr{problem.pixels, nothing_kept.data(), nullptr, nullptr};
  return {tensor_of(embeddings, m.row_start, m.rows + 1, ScalarType::Long),
          tensor_of(embeddings, m.column, m.entries(), ScalarType::Int),
          tensor_of(embeddings, m.weight, m.entries(), ScalarType::Float),
          tensor_of(embeddings, (t ? t->dropped : nothing_dropped).data(), m.rows, ScalarType::Float)};
}

// The matrix behind three tensors, if it is one: the kernels gather by its columns unchecked.
Csr checked(const Tensor& row_start, const Tensor& column, const Tensor& weight) {
  const auto check_part = [](const char* argument, const Tensor& t, ScalarType type) {
    check(t.dim() == 1 && t.scalar_type() == type && t.is_contiguous() && t.is_cpu(), argument,
          ": expected a contiguous tensor of rank 1 and dtype ", name(type), " on the CPU, got shape [", list(shape(t)),
          "] and dtype ", name(t.scalar_type()));
  };
  check_part("row_start", row_start, ScalarType::Long);
  check_part("column", column, ScalarType::Int);
  check_part("weight", weight, ScalarType::Float);
  const Csr m = {row_start.size(0) - 1, static_cast<const int64_t*>(row_start.const_data_ptr()),
                 static_cast<const int32_t*>(column.const_data_ptr()),
                 static_cast<const float*>(weight.const_data_ptr())};
  check(m.rows >= 0 && m.row_start[0] == 0 && std::is_sorted(m.row_start, m.row_start + m.rows + 1),
        "row_start: expected N + 1 numbers that ascend from 0");
  check(column.size(0) == m.entries() && weight.size(0) == m.entries(),
        "column, weight: expected as many entries as row_start ends with, ", m.entries(), ", got ", column.size(0),
        " and ", weight.size(0));
  check(std::all_of(m.column, m.column + m.entries(), [&](int32_t j) { return j >= 0 && j < m.rows; }),
        "column: expected pixels from 0 to ", m.rows - 1);
  return m;
}

// values: [N, C] contiguous. Those of a gradient are not checked, so that a broken one shows.
template <typename T>
void check_finite(const Tensor& values) {
  const T* row = static_cast<const T*>(values.const_data_ptr());
  int64_t broken = 0;
  for (int64_t i = 0; i < values.size(0); ++i, row += values.size(1))
    broken += !std::all_of(row, row + values.size(1), [](T v) { return std::isfinite(v); });
  check(broken == 0, "values: expected finite numbers in the pixels of the graph, got ", broken,
        " pixels with others; leave them out of the graph with mask=values.isfinite().all(-1)");
}

Tensor transition_walk(const Tensor& row_start, const Tensor& column, const Tensor& weight, const Tensor& values_in,
                       double alpha, int64_t steps, bool adjoint) {
  check_walk_settings(alpha, steps);
  const Csr stored = checked(row_start, column, weight);
  check(values_in.dim() == 2 && values_in.size(0) == stored.rows, "values: expected shape [", stored.rows,
        ", C] to match row_start, got [", list(shape(values_in)), "]");
  check_floating("values", values_in);
  check(values_in.is_cpu(), "values: expected the matrix's device cpu, got another device");
  const bool doubled = values_in.scalar_type() == ScalarType::Double;
  const Tensor values =
      torch::stable::contiguous(torch::stable::to(values_in, doubled ? ScalarType::Double : ScalarType::Float));
  if (!adjoint) doubled ? check_finite<double>(values) : check_finite<float>(values);
  const int64_t channels = values.size(1);
  Tensor result = torch::stable::new_empty(values, values.sizes());

  if (doubled) {
    const std::optional<Transition> turned = adjoint ? std::optional(rwpm::cpu::transposed(stored)) : std::nullopt;
    rwpm::cpu::walk_compiled(turned ? rwpm::cpu::csr(*turned) : stored,
                             static_cast<const double*>(values.const_data_ptr()), channels, alpha, steps, parallel_for,
                             static_cast<double*>(result.mutable_data_ptr()));
    return result;
  }
  std::vector<int64_t> pixels(stored.rows);
  std::iota(pixels.begin(), pixels.end(), 0);
  rwpm::Problem<float> problem = {};
  problem.value_channels = channels;
  problem.values = matrix<float>(values);
  problem.alpha = alpha;
  problem.steps = steps;
  problem.result = static_cast<float*>(result.mutable_data_ptr());
  rwpm::cpu::walk_compiled(problem, pixels,
                           adjoint ? rwpm::cpu::transposed(stored) : rwpm::cpu::restored(stored, parallel_for),
                           parallel_for);
  return torch::stable::to(result, values_in.scalar_type());
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(rwpm, m) {
  m.def(
      "transition(Tensor embeddings, *, float temperature=0.01, float tolerance=1e-4, int width=0) "
      "-> (Tensor row_start, Tensor column, Tensor weight, Tensor dropped)");
  m.def(
      "transition_walk(Tensor row_start, Tensor column, Tensor weight, Tensor values, *, float alpha=0.99, "
      "int steps=20, bool adjoint=False) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(rwpm, CPU, m) {
  m.impl("transition", TORCH_BOX(&transition));
  m.impl("transition_walk", TORCH_BOX(&transition_walk));
}
