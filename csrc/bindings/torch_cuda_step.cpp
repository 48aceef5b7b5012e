// The torch operators of the exact step on NVIDIA GPUs: checks around rwpm::cuda::launch_exact_step. A library of their
// own, because it needs symbols that a torch without CUDA lacks.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings/torch_common.h"
#include "cuda/dispatch.h"

namespace {

using namespace rwpm::ops;
using rwpm::cuda::Half;
using rwpm::cuda::Kernel;
using torch::stable::accelerator::DeviceGuard;

Kernel kernel_of(const std::string& name) {
  if (name == "auto") return Kernel::automatic;
  if (name == "ampere") return Kernel::ampere;
  if (name == "hopper") return Kernel::hopper;
  check(name == "hopper_pair", "kernel: expected one of auto, ampere, hopper, hopper_pair, got '", name, "'");
  return Kernel::hopper_pair;
}

// Checks that a tensor is as the kernels read it: contiguous, aligned, on the device of the keys.
void check_packed(const char* argument, const Tensor& t, ScalarType type, const std::vector<int64_t>& expected,
                  const Tensor& keys) {
  check(t.scalar_type() == type, argument, ": expected dtype ", name(type), ", got ", name(t.scalar_type()));
  check(shape(t) == expected, argument, ": expected shape [", list(expected), "], got [", list(shape(t)), "]");
  check(t.is_contiguous(), argument, ": expected a contiguous tensor");
  check(t.is_cuda() && t.get_device_index() == keys.get_device_index(), argument,
        ": expected the keys' device, got another");
  check(reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0, argument, ": expected memory aligned to 16 bytes");
}

template <typename T>
const T* read(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

void exact_step(const Tensor& keys, const Tensor& inv_norm, const Tensor& row_max, const Tensor& inv_row_sum,
                const Tensor& alpha, const std::optional<Tensor>& streaming_blocks, const Tensor& start,
                const Tensor& source, Tensor target, double scale, bool adjoint, const std::string& kernel) {
  check(keys.dim() == 3 && keys.size(1) % rwpm::cuda::block_pixels == 0 && keys.size(1) <= (1 << 30),
        "keys: expected shape [B, padded, D] with pixels padded to a multiple of ", rwpm::cuda::block_pixels, ", got [",
        list(shape(keys)), "]");
  check(source.dim() == 3, "source: expected shape [B, padded, C], got [", list(shape(source)), "]");
  const int64_t batch = keys.size(0), padded = keys.size(1), width = source.size(2);
  check(batch <= 65535, "keys: expected a batch of up to 65535, got ", batch);
  check_packed("keys", keys, ScalarType::Half, shape(keys), keys);
  check_packed("inv_norm", inv_norm, ScalarType::Float, {batch, padded}, keys);
  check_packed("row_max", row_max, ScalarType::Float, {batch, padded}, keys);
  check_packed("inv_row_sum", inv_row_sum, ScalarType::Float, {batch, padded}, keys);
  check_packed("alpha", alpha, ScalarType::Float, {batch, padded}, keys);
  if (streaming_blocks)
    check_packed("streaming_blocks", *streaming_blocks, ScalarType::Char, {batch, padded / rwpm::cuda::block_pixels},
                 keys);
  check_packed("start", start, ScalarType::Half, {batch, padded, width}, keys);
  check_packed("source", source, ScalarType::Half, {batch, padded, width}, keys);
  check_packed("target", target, ScalarType::Half, {batch, padded, width}, keys);

  rwpm::cuda::ExactStep step = {};
  step.keys = read<Half>(keys);
  step.inv_norm = read<float>(inv_norm);
  step.row_max = read<float>(row_max);
  step.inv_row_sum = read<float>(inv_row_sum);
  step.alpha = read<float>(alpha);
  step.streaming_blocks = streaming_blocks ? read<int8_t>(*streaming_blocks) : nullptr;
  step.start = read<Half>(start);
  step.source = read<Half>(source);
  step.target = static_cast<Half*>(target.mutable_data_ptr());
  step.batch = int(batch);
  step.padded = int(padded);
  step.channels = int(keys.size(2));
  step.width = int(width);
  step.scale = float(scale);
  step.adjoint = adjoint;

  const DeviceGuard guard(keys.get_device_index());
  void* stream = nullptr;
  check(aoti_torch_get_current_cuda_stream(keys.get_device_index(), &stream) == AOTI_TORCH_SUCCESS,
        "exact_step: torch reports no current stream");
  const Kernel chosen = kernel_of(kernel);
  const char* reason = rwpm::cuda::unsupported_reason(step.channels, step.width, chosen);
  check(!reason, "exact_step: ", reason ? reason : "");
  const cudaError_t error = rwpm::cuda::launch_exact_step(step, chosen, static_cast<cudaStream_t>(stream));
  check(error == cudaSuccess, "exact_step: ", cudaGetErrorString(error));
}

std::string exact_step_unsupported_reason(const Tensor& keys, const Tensor& source, const std::string& kernel) {
  const DeviceGuard guard(keys.get_device_index());
  const int channels = int(keys.size(keys.dim() - 1)), width = int(source.size(source.dim() - 1));
  const char* reason = rwpm::cuda::unsupported_reason(channels, width, kernel_of(kernel));
  return reason ? reason : "";
}

}  // namespace

RWPM_LIBRARY_FRAGMENT(m) {
  m.def(
      "exact_step(Tensor keys, Tensor inv_norm, Tensor row_max, Tensor inv_row_sum, Tensor alpha, "
      "Tensor? streaming_blocks, Tensor start, Tensor source, Tensor(a!) target, float scale, bool adjoint, str "
      "kernel) "
      "-> ()");
  m.def("exact_step_unsupported_reason(Tensor keys, Tensor source, str kernel) -> str");
}

RWPM_LIBRARY_IMPL(CUDA, m) {
  m.impl("exact_step", TORCH_BOX(&exact_step));
  m.impl("exact_step_unsupported_reason", TORCH_BOX(&exact_step_unsupported_reason));
}
