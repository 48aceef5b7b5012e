// How tiles lie in shared memory for the copy engine and for wgmma: chunks of 64 channels, 128 bytes a row, and a last
// one of 16 or 32. In a chunk the 16-byte pieces of a row are exchanged by the swizzle of the row's length. No thread
// sees that: the copy engine writes and wgmma reads the pattern, which depends on the address alone and repeats every
// eight rows, so that chunks must begin at such multiples.
#pragma once

#include "cuda/step.h"

namespace rwpm::cuda {

constexpr int chunk_channels = 64;
constexpr int chunk_row = 128;  // bytes

RWPM_CONSTEXPR uint32_t whole_swizzles(uint32_t bytes) { return (bytes + 1023) / 1024 * 1024; }

// wgmma's matrix descriptor: in 16 bytes the start, the leading and the stride offset; then the swizzle.
RWPM_CONSTEXPR uint64_t descriptor(uint32_t start, uint32_t leading, uint32_t stride, int row_bytes) {
  const uint64_t swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
  return uint64_t(start >> 4 & 0x3fff) | uint64_t(leading >> 4 & 0x3fff) << 16 | uint64_t(stride >> 4 & 0x3fff) << 32 |
         swizzle << 62;
}

// Rows of channels that are summed over (K-major): eight rows further is the stride; the leading offset is not read.
RWPM_CONSTEXPR uint64_t summed_channels(uint32_t start, int row_bytes) {
  return descriptor(start, 16, uint32_t(8 * row_bytes), row_bytes);
}

// Rows that are summed over, of channels that are columns of the result (MN-major): eight rows further is the stride,
// the next chunk of channels the leading offset.
RWPM_CONSTEXPR uint64_t summed_rows(uint32_t start, int row_bytes, uint32_t next_chunk) {
  return descriptor(start, next_chunk, uint32_t(8 * row_bytes), row_bytes);
}

// How far a descriptor moves by bytes.
RWPM_CONSTEXPR uint64_t moved(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }

}  // namespace rwpm::cuda
