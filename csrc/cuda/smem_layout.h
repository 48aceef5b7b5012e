// How tiles lie in shared memory for TMA (the copy engine) and wgmma: in chunks of 64 channels with rows of 128 bytes,
// and a last chunk of 16 or 32 channels. Within a chunk the 16-byte pieces of a row are permuted by the swizzle mode of
// the row's length. Threads need not know the permutation: TMA writes it and wgmma reads it. It depends on the address
// alone and repeats every eight rows, so that chunks must begin at such multiples.
#pragma once

#include "cuda/step.h"

namespace rwpm::cuda {

constexpr int chunk_channels = 64;
constexpr int chunk_row_bytes = 128;

// Rounds a size up to whole repeats of the longest swizzle, eight rows of 128 bytes.
RWPM_CONSTEXPR uint32_t align_swizzle(uint32_t bytes) { return (bytes + 1023) / 1024 * 1024; }

// wgmma's matrix descriptor: start address, leading and stride byte offset, in units of 16 bytes; then the swizzle
// mode.
RWPM_CONSTEXPR uint64_t matrix_descriptor(uint32_t start, uint32_t leading, uint32_t stride, int row_bytes) {
  const uint64_t swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
  return uint64_t(start >> 4 & 0x3fff) | uint64_t(leading >> 4 & 0x3fff) << 16 | uint64_t(stride >> 4 & 0x3fff) << 32 |
         swizzle << 62;
}

// K-major: rows whose channels are summed over. The stride offset is eight rows; the leading offset is not read.
RWPM_CONSTEXPR uint64_t kmajor_descriptor(uint32_t start, int row_bytes) {
  return matrix_descriptor(start, 16, uint32_t(8 * row_bytes), row_bytes);
}

// MN-major: rows that are summed over, whose channels are columns of the result. The stride offset is eight rows, the
// leading offset the next chunk of channels.
RWPM_CONSTEXPR uint64_t mnmajor_descriptor(uint32_t start, int row_bytes, uint32_t next_chunk) {
  return matrix_descriptor(start, next_chunk, uint32_t(8 * row_bytes), row_bytes);
}

// The descriptor of a matrix that starts `bytes` further on.
RWPM_CONSTEXPR uint64_t advance(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }

}  // namespace rwpm::cuda
