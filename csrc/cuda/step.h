// One exact transition of the walk as plain pointers and sizes: for every pixel i of a block that streams
//   target_i = alpha_i * sum_{j != i} S_ij source_j + (1 - alpha_i) * start_i,
//   S_ij = exp2(min(scale * cosine_ij - row_max_i, 0)) * inv_row_sum_i,
//   cosine_ij = key_i . key_j inv_norm_i inv_norm_j,
// with S_ji in place of S_ij if adjoint. Weights are multiplied by 2^weight_shift and rounded to float16; without
// adjoint this comes before the multiplication by inv_row_sum. An invalid pixel has a row_max of inf or an inv_norm of
// 0, and a source of 0.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RWPM_CONSTEXPR __host__ __device__ constexpr
#else
#define RWPM_CONSTEXPR constexpr
#endif

namespace rwpm::cuda {

constexpr int block_pixels = 128;  // pixels are padded to whole blocks
constexpr int weight_shift = 15;   // log2 of the factor that keeps the digits of small weights in float16

using Half = uint16_t;  // the bits of a float16

struct ExactStep {
  const Half* keys;                // [batch, padded, channels]
  const float* inv_norm;           // [batch, padded] 1 / norm of a row of keys
  const float* row_max;            // [batch, padded] largest logit of a row; inf where a row has none
  const float* inv_row_sum;        // [batch, padded] 1 / sum of exp2(logit - row_max), in [0, 1]
  const float* alpha;              // [batch, padded] in [0, 1]
  const int8_t* streaming_blocks;  // [batch, padded / block_pixels] nonzero: compute this block; null: compute all
  const Half* start;               // [batch, padded, width]
  const Half* source;              // [batch, padded, width]
  Half* target;                    // [batch, padded, width]; other blocks are left as they are
  int batch, padded;
  int channels, width;  // multiples of 16
  float scale;
  bool adjoint;

  RWPM_CONSTEXPR int64_t row(int entry, int pixel) const { return int64_t(entry) * padded + pixel; }
};

}  // namespace rwpm::cuda
