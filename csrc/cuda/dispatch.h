// Launches of the streaming step.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/step.h"

namespace rwpm::cuda {

enum class Kernel {
  automatic,    // the fastest of those below that the device has and that takes the step
  ampere,       // sm_80 and later
  hopper,       // sm_90a
  hopper_pair,  // the same, blocks in pairs that share their tiles
};

// Null, or why the current device cannot take a step of such `channels` and `width` by such a kernel.
const char* refusal(int channels, int width, Kernel kernel);

// Launches one transition on a stream of the current device, which waits for nothing. Refuses, with
// cudaErrorNotSupported, what `refusal` refuses.
cudaError_t stream_step(const Step& step, Kernel kernel, cudaStream_t stream);

}  // namespace rwpm::cuda
