// The torch operators of the walk on the CPU: schemas, argument checks, dtypes and batches around rwpm::walk. Bindings
// use only the stable ABI of torch, so that one binary serves torch 2.11 and every later version.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "bindings/torch_common.h"
#include "bindings/torch_workspace.h"
#include "walk.h"

namespace {

using namespace rwpm::ops;

struct Settings {
  double alpha;
  int64_t steps;
  double temperature, tolerance, anchor, anchor_share;
};

void check_arguments(const Tensor& embeddings, const std::optional<Tensor>& values, const std::optional<Tensor>& mask,
                     const Settings& settings) {
  check_walk_settings(settings.alpha, settings.steps);
  check_graph_settings(settings.temperature, settings.tolerance);
  check_anchor(settings.anchor, settings.anchor_share);

  check_embeddings_shape(shape(embeddings));
  check_floating("embeddings", embeddings);
  if (values) {
    check_values_shape(shape(*values), shape(embeddings));
    check_floating("values", *values);
    check(values->is_cpu(), "values: expected the embeddings' device cpu, got another device");
  }
  check_mask(mask, embeddings);
}

// The bytes from the first element of a tensor to behind the last.
struct Extent {
  const char *begin, *end;
};

Extent extent(const Tensor& t) {
  int64_t last = 0;
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);  // strides of torch are not negative
  const char* const begin = static_cast<const char*>(t.const_data_ptr());
  return {begin, begin + (t.numel() ? (last + 1) * t.element_size() : 0)};
}

void check_apart(const Tensor& out, const Tensor& input) {
  const Extent a = extent(out), b = extent(input);
  check(a.begin == a.end || b.begin == b.end || a.end <= b.begin || b.end <= a.begin,
        "out: expected memory of its own, got some of an input's");
}

void check_out(const Tensor& out, const Tensor& embeddings, const Tensor& values, const std::optional<Tensor>& mask) {
  check(shape(out) == shape(values), "out: expected shape [", list(shape(values)), "] of the values, got [",
        list(shape(out)), "]");
  check(out.scalar_type() == values.scalar_type(), "out: expected the values' dtype ", name(values.scalar_type()),
        ", got ", name(out.scalar_type()));
  check(out.is_cpu(), "out: expected the embeddings' device cpu, got another device");
  check(out.is_contiguous(), "out: expected a contiguous tensor");
  check_apart(out, embeddings);
  check_apart(out, values);
  if (mask) check_apart(out, *mask);
}

// Calls visit(batch, problem) for every image of checked arguments, with its inputs and settings.
template <typename T, typename Visit>
void for_each_image(const Tensor& embeddings_in, const Tensor& values_in, const std::optional<Tensor>& mask,
                    const Settings& settings, const Visit& visit) {
  const ScalarType type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
  const Tensor embeddings = torch::stable::to(embeddings_in, type);
  const Tensor values = torch::stable::to(values_in, type);
  const int64_t rank = embeddings.dim();
  const std::shared_ptr<rwpm::Workspace> workspace = open_workspace();
  rwpm::Problem<T> problem = {};
  problem.memory = memory_of(workspace);
  problem.pixels = embeddings.size(rank - 2);
  problem.channels = embeddings.size(rank - 1);
  problem.value_channels = values.size(rank - 1);
  problem.alpha = settings.alpha;
  problem.steps = settings.steps;
  problem.temperature = settings.temperature;
  problem.tolerance = settings.tolerance;
  problem.anchor = settings.anchor;
  problem.anchor_share = settings.anchor_share;
  for (int64_t batch = 0; batch < (rank == 3 ? embeddings.size(0) : 1); ++batch) {
    problem.embeddings = matrix_view<T>(embeddings, batch);
    problem.values = matrix_view<T>(values, batch);
    if (mask) {
      const rwpm::MatrixView<bool> m =
          rank == 3 ? rwpm::MatrixView<bool>{static_cast<const bool*>(mask->const_data_ptr()), mask->stride(0),
                                             mask->stride(1)}
                    : rwpm::MatrixView<bool>{static_cast<const bool*>(mask->const_data_ptr()), 0, mask->stride(0)};
      problem.mask = m.data + batch * m.row_stride;
      problem.mask_stride = m.column_stride;
    }
    visit(batch, problem);
  }
}

// Walks checked arguments into `result`, contiguous and of the values' shape.
template <typename T>
void walk_into(T* result, const Tensor& embeddings, const Tensor& values, const std::optional<Tensor>& mask,
               const Settings& settings, bool adjoint, std::vector<rwpm::WalkStats>* stats) {
  if (stats) stats->resize(embeddings.dim() == 3 ? embeddings.size(0) : 1);
  for_each_image<T>(embeddings, values, mask, settings, [&](int64_t batch, rwpm::Problem<T>& problem) {
    problem.adjoint = adjoint;
    problem.result = result + batch * problem.pixels * problem.value_channels;
    if (stats) problem.stats = &(*stats)[batch];
    rwpm::walk(problem, parallel_for);
  });
}

// Walks checked arguments into a new tensor, or into `out` if its dtype is that of the computation.
Tensor run(const Tensor& embeddings, const Tensor& values, const std::optional<Tensor>& mask, const Settings& settings,
           bool adjoint, std::vector<rwpm::WalkStats>* stats = nullptr, const Tensor* out = nullptr) {
  const bool doubled = embeddings.scalar_type() == ScalarType::Double || values.scalar_type() == ScalarType::Double;
  const ScalarType type = doubled ? ScalarType::Double : ScalarType::Float;
  Tensor result = out && out->scalar_type() == type ? *out : torch::stable::new_empty(values, values.sizes(), type);
  void* const data = result.mutable_data_ptr();
  if (doubled)
    walk_into(static_cast<double*>(data), embeddings, values, mask, settings, adjoint, stats);
  else
    walk_into(static_cast<float*>(data), embeddings, values, mask, settings, adjoint, stats);
  return torch::stable::to(result, values.scalar_type());
}

Tensor walk(const Tensor& embeddings, const std::optional<Tensor>& values, const std::optional<Tensor>& mask,
            double alpha, int64_t steps, double temperature, double tolerance, double anchor, double anchor_share) {
  const Settings settings = {alpha, steps, temperature, tolerance, anchor, anchor_share};
  check_arguments(embeddings, values, mask, settings);
  return run(embeddings, values.value_or(embeddings), mask, settings, false);
}

// With an open workspace, float32 tensors of any strides and float32 `out` no memory is taken for numbers.
Tensor walk_out(const Tensor& embeddings, const std::optional<Tensor>& values_in, const std::optional<Tensor>& mask,
                double alpha, int64_t steps, double temperature, double tolerance, double anchor, double anchor_share,
                Tensor out) {
  const Settings settings = {alpha, steps, temperature, tolerance, anchor, anchor_share};
  check_arguments(embeddings, values_in, mask, settings);
  const Tensor values = values_in.value_or(embeddings);
  check_out(out, embeddings, values, mask);
  const Tensor result = run(embeddings, values, mask, settings, false, nullptr, &out);
  if (result.const_data_ptr() != out.const_data_ptr()) torch::stable::copy_(out, result);
  return out;
}

Tensor walk_adjoint(const Tensor& gradient, const Tensor& embeddings, const std::optional<Tensor>& mask, double alpha,
                    int64_t steps, double temperature, double tolerance, double anchor, double anchor_share) {
  const Settings settings = {alpha, steps, temperature, tolerance, anchor, anchor_share};
  check_arguments(embeddings, gradient, mask, settings);
  return run(embeddings, gradient, mask, settings, true);
}

// Differentiates checked arguments, into tensors of the dtype of the computation.
template <typename T>
void differentiate_into(const std::tuple<Tensor, Tensor, Tensor>& results, const Tensor& gradient_in,
                        const Tensor& embeddings_in, const Tensor& values_in, const std::optional<Tensor>& mask,
                        const Settings& settings) {
  const ScalarType type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
  const auto& [by_embeddings, by_values, by_temperature] = results;
  const Tensor gradient = torch::stable::to(gradient_in, type);
  double* const temperature = static_cast<double*>(by_temperature.mutable_data_ptr());
  *temperature = 0;
  for_each_image<T>(embeddings_in, values_in, mask, settings, [&](int64_t batch, rwpm::Problem<T>& problem) {
    const rwpm::Gradients<T> gradients = {
        matrix_view<T>(gradient, batch),
        static_cast<T*>(by_embeddings.mutable_data_ptr()) + batch * problem.pixels * problem.channels,
        static_cast<T*>(by_values.mutable_data_ptr()) + batch * problem.pixels * problem.value_channels, temperature};
    rwpm::differentiate(problem, gradients, parallel_for);
  });
}

std::tuple<Tensor, Tensor, Tensor> walk_backward(const Tensor& gradient, const Tensor& embeddings,
                                                 const std::optional<Tensor>& values_in,
                                                 const std::optional<Tensor>& mask, double alpha, int64_t steps,
                                                 double temperature, double tolerance, double anchor,
                                                 double anchor_share) {
  const Settings settings = {alpha, steps, temperature, tolerance, anchor, anchor_share};
  check_arguments(embeddings, values_in, mask, settings);
  const Tensor values = values_in.value_or(embeddings);
  check(shape(gradient) == shape(values), "gradient: expected shape [", list(shape(values)), "] of the values, got [",
        list(shape(gradient)), "]");
  check_floating("gradient", gradient);
  check(gradient.is_cpu(), "gradient: expected the embeddings' device cpu, got another device");
  const bool doubled = embeddings.scalar_type() == ScalarType::Double || values.scalar_type() == ScalarType::Double;
  const ScalarType type = doubled ? ScalarType::Double : ScalarType::Float;
  const std::tuple<Tensor, Tensor, Tensor> results = {torch::stable::new_empty(embeddings, embeddings.sizes(), type),
                                                      torch::stable::new_empty(values, values.sizes(), type),
                                                      torch::stable::new_empty(embeddings, {}, ScalarType::Double)};
  if (doubled)
    differentiate_into<double>(results, gradient, embeddings, values, mask, settings);
  else
    differentiate_into<float>(results, gradient, embeddings, values, mask, settings);
  return {torch::stable::to(std::get<0>(results), embeddings.scalar_type()),
          torch::stable::to(std::get<1>(results), values.scalar_type()), std::get<2>(results)};
}

std::tuple<Tensor, Tensor> walk_with_info(const Tensor& embeddings, const std::optional<Tensor>& values,
                                          const std::optional<Tensor>& mask, double alpha, int64_t steps,
                                          double temperature, double tolerance, double anchor, double anchor_share) {
  const Settings settings = {alpha, steps, temperature, tolerance, anchor, anchor_share};
  check_arguments(embeddings, values, mask, settings);
  std::vector<rwpm::WalkStats> stats;
  const Tensor result = run(embeddings, values.value_or(embeddings), mask, settings, false, &stats);
  constexpr int64_t columns = 8;
  Tensor table = torch::stable::new_empty(result, {int64_t(stats.size()), columns}, ScalarType::Double);
  double* row = static_cast<double*>(table.mutable_data_ptr());
  for (const rwpm::WalkStats& s : stats)
    for (const double x : {double(s.path), double(s.pixels), double(s.pairs), s.dropped_mass, double(s.anchored),
                           s.pack_seconds, s.build_seconds, s.step_seconds})
      *row++ = x;
  return {result, table};
}

}  // namespace

RWPM_LIBRARY(m) {
  m.def(
      "walk(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> Tensor");
  m.def(
      "walk.out(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0, Tensor(a!) out) "
      "-> Tensor(a!)");
  m.def(
      "walk_adjoint(Tensor gradient, Tensor embeddings, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> Tensor");
  m.def(
      "walk_backward(Tensor gradient, Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, "
      "int steps=20, float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> "
      "(Tensor embeddings, Tensor values, Tensor temperature)");
  m.def(
      "walk_with_info(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> (Tensor, Tensor)");
}

RWPM_LIBRARY_IMPL(CPU, m) {
  m.impl("walk", TORCH_BOX(&walk));
  m.impl("walk.out", TORCH_BOX(&walk_out));
  m.impl("walk_adjoint", TORCH_BOX(&walk_adjoint));
  m.impl("walk_backward", TORCH_BOX(&walk_backward));
  m.impl("walk_with_info", TORCH_BOX(&walk_with_info));
}
