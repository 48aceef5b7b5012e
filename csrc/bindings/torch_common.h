// Shared by the torch operators: argument checks of tensors, and tensors as plain matrices.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "walk.h"

// The namespace of the operators, torch.ops.<namespace>. A build may choose another one, as builds for the kernels hub
// do by TORCH_EXTENSION_NAME, so that two of them live in one process.
#ifndef RWPM_NAMESPACE
#ifdef TORCH_EXTENSION_NAME
#define RWPM_NAMESPACE TORCH_EXTENSION_NAME
#else
#define RWPM_NAMESPACE rwpm
#endif
#endif

// Torch's macros paste the namespace as they find it, so it has to be expanded before.
#define RWPM_EXPAND(macro, ...) macro(__VA_ARGS__)
#define RWPM_LIBRARY(m) RWPM_EXPAND(STABLE_TORCH_LIBRARY, RWPM_NAMESPACE, m)
#define RWPM_LIBRARY_FRAGMENT(m) RWPM_EXPAND(STABLE_TORCH_LIBRARY_FRAGMENT, RWPM_NAMESPACE, m)
#define RWPM_LIBRARY_IMPL(key, m) RWPM_EXPAND(STABLE_TORCH_LIBRARY_IMPL, RWPM_NAMESPACE, key, m)

namespace rwpm::ops {

using namespace rwpm::arguments;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::vector<int64_t> shape(const Tensor& t) {
  const auto sizes = t.sizes();
  return std::vector<int64_t>(sizes.data(), sizes.data() + sizes.size());
}

// The name of a dtype in Python.
inline std::string name(ScalarType type) {
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

inline void check_floating(const char* argument, const Tensor& t) {
  const ScalarType type = t.scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
            type == ScalarType::BFloat16,
        argument, ": expected dtype float32, float64, float16 or bfloat16, got ", name(type));
}

inline void check_mask(const std::optional<Tensor>& mask, const Tensor& embeddings) {
  if (!mask) return;
  check_mask_shape(shape(*mask), shape(embeddings));
  check(mask->scalar_type() == ScalarType::Bool, "mask: expected dtype bool, got ", name(mask->scalar_type()));
  check(mask->is_cpu(), "mask: expected the embeddings' device cpu, got another device");
}

// View of a batch entry, or of a tensor of rank 2.
template <typename T>
rwpm::MatrixView<T> matrix_view(const Tensor& t, int64_t batch = 0) {
  const int64_t offset = t.dim() == 3 ? batch * t.stride(0) : 0;
  return {static_cast<const T*>(t.const_data_ptr()) + offset, t.stride(t.dim() - 2), t.stride(t.dim() - 1)};
}

inline const rwpm::ParallelFor parallel_for = [](int64_t count, const rwpm::RangeBody& body) {
  torch::stable::parallel_for(0, count, 1, body);
};

}  // namespace rwpm::ops
