#include "cuda/dispatch.h"

namespace rwpm::cuda {
namespace {

struct Device {
  int major, minor;  // compute capability
  int shared_bytes;  // shared memory that a block may have
};

cudaError_t current_device(Device& device) {
  int number;
  cudaError_t error = cudaGetDevice(&number);
  const auto get = [&](int& value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, number);
  };
  get(device.major, cudaDevAttrComputeCapabilityMajor);
  get(device.minor, cudaDevAttrComputeCapabilityMinor);
  get(device.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return error;
}

const char* unsupported_reason(const Device& device, int channels, int width, Kernel kernel) {
  if (channels % 16 || width % 16) return "rows of keys and values must be multiples of 16 channels";
  if (kernel == Kernel::hopper || kernel == Kernel::hopper_pair) {
    if (device.major != 9) return "the Hopper kernel needs a GPU of compute capability 9.0";
    return hopper_supports(channels) ? nullptr : "the Hopper kernel takes embeddings of up to 272 channels";
  }
  if (device.major < 8 || device.major > 10) return "the kernels are built for compute capabilities 8.0 to 10.x";
  return ampere_supports(channels, width, device.shared_bytes) ? nullptr : "a block's shared memory holds no such rows";
}

}  // namespace

const char* unsupported_reason(int channels, int width, Kernel kernel) {
  Device device;
  const cudaError_t error = current_device(device);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  const char* reason = unsupported_reason(device, channels, width, kernel);
  if (reason && kernel == Kernel::automatic) reason = unsupported_reason(device, channels, width, Kernel::hopper_pair);
  return reason;
}

cudaError_t launch_exact_step(const ExactStep& step, Kernel kernel, cudaStream_t stream) {
  if (!step.batch || !step.padded || !step.width) return cudaSuccess;
  Device device;
  const cudaError_t error = current_device(device);
  if (error != cudaSuccess) return error;
  if (kernel == Kernel::automatic)
    kernel = unsupported_reason(device, step.channels, step.width, Kernel::hopper_pair) ? Kernel::ampere
                                                                                        : Kernel::hopper_pair;
  if (unsupported_reason(device, step.channels, step.width, kernel)) return cudaErrorNotSupported;
  if (kernel == Kernel::ampere) return launch_ampere(step, device.shared_bytes, stream);
  return launch_hopper(step, kernel == Kernel::hopper_pair ? 2 : 1, stream);
}

}  // namespace rwpm::cuda
