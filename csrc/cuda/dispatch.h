// The exact step on NVIDIA GPUs: which kernels can run it, and its launch.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/step.h"

namespace rwpm::cuda {

enum class Kernel {
  automatic,    // the fastest of those below that the device and the step's sizes allow
  ampere,       // sm_80 and later
  hopper,       // sm_90a
  hopper_pair,  // sm_90a, in clusters of two blocks that share their tiles
};

// Why the current device cannot run a step of `channels` and `width` by this kernel; null when it can.
const char* unsupported_reason(int channels, int width, Kernel kernel);

// Launches one transition on a stream of the current device, without synchronizing. Returns cudaErrorNotSupported where
// `unsupported_reason` has a reason.
cudaError_t launch_exact_step(const ExactStep& step, Kernel kernel, cudaStream_t stream);

// --- The two families of kernels, for `launch_exact_step` to choose from.

// Whether a family has a kernel for a step of these sizes, with `shared_bytes` of shared memory for a block.
bool ampere_supports(int channels, int width, int shared_bytes);
bool hopper_supports(int channels);

cudaError_t launch_ampere(const ExactStep& step, int shared_bytes, cudaStream_t stream);
cudaError_t launch_hopper(const ExactStep& step, int cluster_size, cudaStream_t stream);

}  // namespace rwpm::cuda
