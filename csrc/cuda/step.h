// One exact transition by streaming as plain pointers and sizes: for every pixel i of a block that streams
//   target_i = alpha * sum_{j != i} w_ij source_j + (1 - alpha) * start_i,   w_ij = exp2(min(scale * cosine_ij - L_i, 1)),
// where cosine_ij = (key_i . key_j) * inverse_i * inverse_j and L = log_sum; adjoint: L_j in place of L_i. Weights are
// rounded to float16 after a lift by 2^14. A pixel that is not valid has an inverse of 0 or a log sum of inf, and a
// source of 0.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RWPM_CONSTEXPR __host__ __device__ constexpr
#else
#define RWPM_CONSTEXPR constexpr
#endif

namespace rwpm::cuda {

constexpr int block_pixels = 128;  // pixels are padded to whole blocks
constexpr int lift = 14;           // log2 of what weights are multiplied by, so that small ones are normal in float16

using Half = uint16_t;  // the bits of a float16

struct Step {
  const Half* keys;       // [batch, padded, channels]
  const float* inverse;   // [batch, padded]
  const float* log_sum;   // [batch, padded]
  const int8_t* streams;  // [batch, padded / block_pixels], null: every block streams
  const Half* start;      // [batch, padded, width]
  const Half* source;     // [batch, padded, width]
  Half* target;           // [batch, padded, width]; blocks that do not stream are left as they are
  int batch, padded;
  int channels, width;  // multiples of 16
  float scale, alpha;
  bool adjoint;

  RWPM_CONSTEXPR int64_t row(int entry, int pixel) const { return int64_t(entry) * padded + pixel; }
};

}  // namespace rwpm::cuda
