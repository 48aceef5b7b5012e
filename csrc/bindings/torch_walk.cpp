// The torch operators of the walk on the CPU: schemas, argument checks, dtypes and batches around rwpm::walk. Bindings
// use only the stable ABI of torch, so that one binary serves torch 2.11 and every later version.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/torch_common.h"
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

template <typename T>
Tensor run(ScalarType type, const Tensor& embeddings_in, const Tensor& values_in, const std::optional<Tensor>& mask,
           const Settings& settings, bool adjoint, std::vector<rwpm::WalkStats>* stats) {
  const Tensor embeddings = torch::stable::to(embeddings_in, type);
  const Tensor values = torch::stable::to(values_in, type);
  const int64_t rank = embeddings.dim();
  Tensor result = torch::stable::new_empty(values, values.sizes());
  rwpm::Problem<T> problem = {};
  problem.pixels = embeddings.size(rank - 2);
  problem.channels = embeddings.size(rank - 1);
  problem.value_channels = values.size(rank - 1);
  problem.alpha = settings.alpha;
  problem.steps = settings.steps;
  problem.temperature = settings.temperature;
  problem.tolerance = settings.tolerance;
  problem.anchor = settings.anchor;
  problem.anchor_share = settings.anchor_share;
  problem.adjoint = adjoint;
  const int64_t batches = rank == 3 ? embeddings.size(0) : 1;
  if (stats) stats->resize(batches);
  for (int64_t batch = 0; batch < batches; ++batch) {
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
    problem.result = static_cast<T*>(result.mutable_data_ptr()) + batch * problem.pixels * problem.value_channels;
    if (stats) problem.stats = &(*stats)[batch];
    rwpm::walk(problem, parallel_for);
  }
  return torch::stable::to(result, values_in.scalar_type());
}

Tensor run(const Tensor& embeddings, const Tensor& values, const std::optional<Tensor>& mask, const Settings& settings,
           bool adjoint, std::vector<rwpm::WalkStats>* stats = nullptr) {
  check_arguments(embeddings, values, mask, settings);
  if (embeddings.scalar_type() == ScalarType::Double || values.scalar_type() == ScalarType::Double)
    return run<double>(ScalarType::Double, embeddings, values, mask, settings, adjoint, stats);
  return run<float>(ScalarType::Float, embeddings, values, mask, settings, adjoint, stats);
}

Tensor walk(const Tensor& embeddings, const std::optional<Tensor>& values, const std::optional<Tensor>& mask,
            double alpha, int64_t steps, double temperature, double tolerance, double anchor, double anchor_share) {
  return run(embeddings, values.value_or(embeddings), mask,
             {alpha, steps, temperature, tolerance, anchor, anchor_share}, false);
}

Tensor walk_adjoint(const Tensor& gradient, const Tensor& embeddings, const std::optional<Tensor>& mask, double alpha,
                    int64_t steps, double temperature, double tolerance, double anchor, double anchor_share) {
  return run(embeddings, gradient, mask, {alpha, steps, temperature, tolerance, anchor, anchor_share}, true);
}

std::tuple<Tensor, Tensor> walk_with_info(const Tensor& embeddings, const std::optional<Tensor>& values,
                                          const std::optional<Tensor>& mask, double alpha, int64_t steps,
                                          double temperature, double tolerance, double anchor, double anchor_share) {
  std::vector<rwpm::WalkStats> stats;
  const Tensor result = run(embeddings, values.value_or(embeddings), mask,
                            {alpha, steps, temperature, tolerance, anchor, anchor_share}, false, &stats);
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

// Rises when the schema or the meaning of rwpm::walk changes: exported models, which call the operator and do not
// contain it, are checked against it before they run.
extern "C" __attribute__((visibility("default"))) int rwpm_op_abi(void) { return 1; }

RWPM_LIBRARY(m) {
  m.def(
      "walk(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> Tensor");
  m.def(
      "walk_adjoint(Tensor gradient, Tensor embeddings, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> Tensor");
  m.def(
      "walk_with_info(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0, float anchor=-1.0, float anchor_share=0.0) -> (Tensor, Tensor)");
}

RWPM_LIBRARY_IMPL(CPU, m) {
  m.impl("walk", TORCH_BOX(&walk));
  m.impl("walk_adjoint", TORCH_BOX(&walk_adjoint));
  m.impl("walk_with_info", TORCH_BOX(&walk_with_info));
}
