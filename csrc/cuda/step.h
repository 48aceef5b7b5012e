// One exact transition by streaming as plain pointers and sizes: for every pixel i of a block that streams
//   target_i = alpha * sum_{j != i} S_ij source_j + (1 - alpha) * start_i,
//   S_ij = exp2(min(scale * cosine_ij - largest_i, 0)) * inverse_sum_i,   cosine_ij = key_i . key_j inverse_i
//   inverse_j,
// or S_ji in its place if adjoint. Weights are rounded to float16 after a lift, forward before the product with
// inverse_sum. A pixel that is not valid has a largest of inf or an inverse of 0, and a source of 0.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RWPM_CONSTEXPR __host__ __device__ constexpr
#else
#define RWPM_CONSTEXPR constexpr
#endif

namespace rwpm::cuda {

constexpr int block_pixels = 128;  // pixels are padded to whole blocks
constexpr int lift = 15;           // log2 of what weights are multiplied by, so that small ones keep their digits

using Half = uint16_t;  // the bits of a float16

struct Step {
  const Half* keys;          // [batch, padded, channels]
  const float* inverse;      // [batch, padded] 1 / norm of a row of keys
  const float* largest;      // [batch, padded] logit of a row, and inf where there is none
  const float* inverse_sum;  // [batch, padded] 1 / sum of exp2(logit - largest), in [0, 1]
  const int8_t* streams;     // [batch, padded / block_pixels], null: every block streams
  const Half* start;         // [batch, padded, width]
  const Half* source;        // [batch, padded, width]
  Half* target;              // [batch, padded, width]; blocks that do not stream are left as they are
  int batch, padded;
  int channels, width;  // multiples of 16
  float scale, alpha;
  bool adjoint;

  RWPM_CONSTEXPR int64_t row(int entry, int pixel) const { return int64_t(entry) * padded + pixel; }
};

}  // namespace rwpm::cuda
