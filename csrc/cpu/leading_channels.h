// Few channels whose products bound the cosines of embeddings from above: coordinates along the directions in which the
// embeddings of a graph are largest, and the norm of the rest. Embeddings of a road network lie close to few
// directions: most pairs are rejected by a fifth of the multiplications.
#pragma once

#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "walk.h"

namespace rwpm::cpu {

// Of them all, the norm included: whole words of 8-bit integers, rows of the micro-kernel and tiles. On maps of road
// networks with 259 channels 32 and 64 reject as many pairs for their cost.
constexpr int64_t leading_channels = 48;

// Directions of large embeddings, [D][leading_channels] with zeros in the last column, by subspace iteration. panels:
// of embeddings as the kernels read them, [panel][D][lanes]. similar: the directions of a similar graph, from which
// few pixels suffice; or empty. Any finite numbers will do, they cost time only.
Buffer<float> find_leading_directions(const SparseKernels& kernels, const float* panels, int64_t pixels,
                                      int64_t channels, const Buffer<float>& similar, Memory* memory);

// [panel][leading_channels][lanes] along directions that were found of the same panels, or of others; zero beyond N.
Buffer<float> make_leading_channels(const SparseKernels& kernels, const float* panels, int64_t pixels, int64_t channels,
                                    const Buffer<float>& directions, const ParallelFor& parallel_for, Memory* memory);

}  // namespace rwpm::cpu
