// The torch operators on the CPU: schemas, argument checks, dtypes and batches around rwpm::walk. The only file here
// that knows torch, and only its stable ABI, so that one binary serves torch 2.11 and every later version.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "walk.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A setting as Python prints it: the shortest text that reads back as the same number.
std::string text(double x) {
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), x).ptr);
}

// Thrown bare, because STD_TORCH_CHECK would put the place in this file before the user's message.
template <typename... Parts>
void check(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

std::string list(const std::vector<int64_t>& sizes) {
  std::ostringstream out;
  for (size_t i = 0; i < sizes.size(); ++i) out << (i ? ", " : "") << sizes[i];
  return out.str();
}

std::vector<int64_t> shape(const Tensor& t) {
  const auto sizes = t.sizes();
  return std::vector<int64_t>(sizes.data(), sizes.data() + sizes.size());
}

// Another name of a dtype than torch's own would not help who reads the message.
std::string name(ScalarType type) {
  std::string lower = torch::headeronly::toString(type);
  if (lower == "Float") return "torch.float32";
  if (lower == "Double") return "torch.float64";
  if (lower == "Half") return "torch.float16";
  if (lower == "Long") return "torch.int64";
  if (lower == "Int") return "torch.int32";
  if (lower == "Short") return "torch.int16";
  if (lower == "Char") return "torch.int8";
  if (lower == "Byte") return "torch.uint8";
  if (lower == "ComplexFloat") return "torch.complex64";
  if (lower == "ComplexDouble") return "torch.complex128";
  if (lower == "ComplexHalf") return "torch.complex32";
  for (char& c : lower) c = char(std::tolower(c));
  return "torch." + lower;
}

void check_floating(const char* argument, const Tensor& t) {
  const ScalarType type = t.scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
            type == ScalarType::BFloat16,
        argument, ": expected dtype float32, float64, float16 or bfloat16, got ", name(type));
}

struct Settings {
  double alpha;
  int64_t steps;
  double temperature, tolerance;
};

void check_arguments(const Tensor& embeddings, const std::optional<Tensor>& values, const std::optional<Tensor>& mask,
                     const Settings& settings) {
  const auto [alpha, steps, temperature, tolerance] = settings;
  check(alpha >= 0 && alpha <= 1, "alpha: expected a number in [0, 1], got ", text(alpha));
  check(steps >= 0, "steps: expected 0 or more transitions, got ", steps);
  check(temperature > 0 && std::isfinite(temperature), "temperature: expected a positive finite number, got ",
        text(temperature));
  check(tolerance >= 0 && tolerance < 1, "tolerance: expected a number in [0, 1), got ", text(tolerance));

  const std::vector<int64_t> of_embeddings = shape(embeddings);
  check(embeddings.dim() == 2 || embeddings.dim() == 3, "embeddings: expected shape [N, D] or [B, N, D], got [",
        list(of_embeddings), "]");
  check_floating("embeddings", embeddings);
  std::vector<int64_t> pixels = of_embeddings;
  pixels.pop_back();
  if (values) {
    std::vector<int64_t> of_values = shape(*values);
    const std::string got = list(of_values);
    if (!of_values.empty()) of_values.pop_back();
    check(values->dim() == embeddings.dim() && of_values == pixels, "values: expected shape [", list(pixels),
          ", C] to match embeddings [", list(of_embeddings), "], got [", got, "]");
    check_floating("values", *values);
    check(values->is_cpu(), "values: expected the embeddings' device cpu, got another device");
  }
  if (mask) {
    check(shape(*mask) == pixels, "mask: expected shape [", list(pixels), "] to match embeddings [",
          list(of_embeddings), "], got [", list(shape(*mask)), "]");
    check(mask->scalar_type() == ScalarType::Bool, "mask: expected dtype bool, got ", name(mask->scalar_type()));
    check(mask->is_cpu(), "mask: expected the embeddings' device cpu, got another device");
  }
}

template <typename T>
rwpm::Matrix<T> matrix(const Tensor& t, int64_t batch) {
  const int64_t offset = t.dim() == 3 ? batch * t.stride(0) : 0;
  return {static_cast<const T*>(t.const_data_ptr()) + offset, t.stride(t.dim() - 2), t.stride(t.dim() - 1)};
}

template <typename T>
Tensor run(ScalarType type, const Tensor& embeddings_in, const Tensor& values_in, const std::optional<Tensor>& mask,
           const Settings& settings, bool adjoint) {
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
  problem.adjoint = adjoint;
  const rwpm::ParallelFor parallel_for = [](int64_t count, const rwpm::RangeBody& body) {
    torch::stable::parallel_for(0, count, 1, body);
  };
  const int64_t batches = rank == 3 ? embeddings.size(0) : 1;
  for (int64_t batch = 0; batch < batches; ++batch) {
    problem.embeddings = matrix<T>(embeddings, batch);
    problem.values = matrix<T>(values, batch);
    if (mask) {
      const rwpm::Matrix<bool> m =
          rank == 3
              ? rwpm::Matrix<bool>{static_cast<const bool*>(mask->const_data_ptr()), mask->stride(0), mask->stride(1)}
              : rwpm::Matrix<bool>{static_cast<const bool*>(mask->const_data_ptr()), 0, mask->stride(0)};
      problem.mask = m.data + batch * m.row_stride;
      problem.mask_stride = m.column_stride;
    }
    problem.result = static_cast<T*>(result.mutable_data_ptr()) + batch * problem.pixels * problem.value_channels;
    rwpm::walk(problem, parallel_for);
  }
  return torch::stable::to(result, values_in.scalar_type());
}

Tensor run(const Tensor& embeddings, const Tensor& values, const std::optional<Tensor>& mask, const Settings& settings,
           bool adjoint) {
  check_arguments(embeddings, values, mask, settings);
  if (embeddings.scalar_type() == ScalarType::Double || values.scalar_type() == ScalarType::Double)
    return run<double>(ScalarType::Double, embeddings, values, mask, settings, adjoint);
  return run<float>(ScalarType::Float, embeddings, values, mask, settings, adjoint);
}

Tensor walk(const Tensor& embeddings, const std::optional<Tensor>& values, const std::optional<Tensor>& mask,
            double alpha, int64_t steps, double temperature, double tolerance) {
  return run(embeddings, values.value_or(embeddings), mask, {alpha, steps, temperature, tolerance}, false);
}

Tensor walk_adjoint(const Tensor& gradient, const Tensor& embeddings, const std::optional<Tensor>& mask, double alpha,
                    int64_t steps, double temperature, double tolerance) {
  return run(embeddings, gradient, mask, {alpha, steps, temperature, tolerance}, true);
}

}  // namespace

STABLE_TORCH_LIBRARY(rwpm, m) {
  m.def(
      "walk(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0) -> Tensor");
  m.def(
      "walk_adjoint(Tensor gradient, Tensor embeddings, Tensor? mask=None, *, float alpha=0.99, int steps=20, "
      "float temperature=0.01, float tolerance=0.0) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(rwpm, CPU, m) {
  m.impl("walk", TORCH_BOX(&walk));
  m.impl("walk_adjoint", TORCH_BOX(&walk_adjoint));
}
