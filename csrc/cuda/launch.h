// What the two families of kernels offer to the one that chooses.
#pragma once

#include "cuda/dispatch.h"

namespace rwpm::cuda {

// Whether they can take steps of so many channels and values, where a block may have `shared` bytes.
bool ampere_takes(int channels, int width, int shared);
bool hopper_takes(int channels);

cudaError_t ampere_step(const Step& step, int shared, cudaStream_t stream);
// By clusters of so many blocks.
cudaError_t hopper_step(const Step& step, int cluster, cudaStream_t stream);

}  // namespace rwpm::cuda
