// Screening in float32: the cosines are those that rows are selected by.
#pragma once

#include "cpu/screen_common.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr const char* format = "float32";
constexpr bool quantizes = false;
constexpr float parts_error = 0;
constexpr int min_leading_pixels = 2048;
constexpr int stripe = rows, unit = group_rows;
struct TileGuard {};

int64_t quantized_bytes(int64_t) { return 0; }

void quantize(const float*, int64_t, char*, float* quant_scale, float* quant_error) {
  for (int lane = 0; lane < lanes; ++lane) {
    quant_scale[lane] = 1;
    quant_error[lane] = cosine_rounding / 2;
  }
}

RWPM_INLINE void approximate_cosines(const QuantizedVectors& v, int64_t panel, int64_t key, int64_t,
                                     float (&cosine)[stripe][lanes]) {
  exact_cosines<columns>(v, panel, key, 0, cosine[0]);
}

// Several units of one vector of queries at a time, or where the cache does not feed that fast enough one of the panel.
struct ScreenUnits {
  static constexpr bool whole_panel = vector_bytes < 64;
  static constexpr int vectors = whole_panel ? columns : 1, max_count = whole_panel ? 1 : 4;

  template <int units>
  RWPM_INLINE static void approximate(const QuantizedVectors& v, int64_t panel, int n, const int64_t* keys,
                                      float (*cosine)[vectors * w]) {
    if constexpr (whole_panel)
      exact_cosines<columns>(v, panel, *keys, n, cosine[0]);
    else
      exact_group_cosines<units>(v, panel, n, keys, cosine);
  }
};

double quantized_multiply_adds(int64_t rounds) { return multiply_adds<float>(rounds); }

}  // namespace
}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
