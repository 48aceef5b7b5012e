#include "cuda/dispatch.h"
#include "cuda/launch.h"

namespace rwpm::cuda {
namespace {

struct Device {
  int major, minor, shared;  // compute capability; bytes of shared memory that a block may have
};

cudaError_t current_device(Device& device) {
  int number;
  cudaError_t error = cudaGetDevice(&number);
  const auto ask = [&](int& value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, number);
  };
  ask(device.major, cudaDevAttrComputeCapabilityMajor);
  ask(device.minor, cudaDevAttrComputeCapabilityMinor);
  ask(device.shared, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return error;
}

const char* refusal(const Device& device, int channels, int width, Kernel kernel) {
  if (channels % 16 || width % 16) return "rows of keys and values must be multiples of 16 channels";
  if (kernel == Kernel::hopper || kernel == Kernel::hopper_pair) {
    if (device.major != 9) return "the Hopper kernel needs a GPU of compute capability 9.0";
    return hopper_takes(channels) ? nullptr : "the Hopper kernel takes embeddings of up to 272 channels";
  }
  if (device.major < 8 || device.major > 10) return "the kernels are built for compute capabilities 8.0 to 10.x";
  return ampere_takes(channels, width, device.shared) ? nullptr : "a block's shared memory holds no such rows";
}

}  // namespace

const char* refusal(int channels, int width, Kernel kernel) {
  Device device;
  const cudaError_t error = current_device(device);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  const char* reason = refusal(device, channels, width, kernel);
  if (reason && kernel == Kernel::automatic) reason = refusal(device, channels, width, Kernel::hopper_pair);
  return reason;
}

cudaError_t stream_step(const Step& step, Kernel kernel, cudaStream_t stream) {
  if (!step.batch || !step.padded || !step.width) return cudaSuccess;
  Device device;
  const cudaError_t error = current_device(device);
  if (error != cudaSuccess) return error;
  if (kernel == Kernel::automatic)
    kernel = refusal(device, step.channels, step.width, Kernel::hopper_pair) ? Kernel::ampere : Kernel::hopper_pair;
  if (refusal(device, step.channels, step.width, kernel)) return cudaErrorNotSupported;
  if (kernel == Kernel::ampere) return ampere_step(step, device.shared, stream);
  return hopper_step(step, kernel == Kernel::hopper_pair ? 2 : 1, stream);
}

}  // namespace rwpm::cuda
