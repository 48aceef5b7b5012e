// Class logits to an anomaly score and a segmentation in the photo's size, in one pass over the photo: logits are
// enlarged a row at a time and never stored in full.
#pragma once

#include <cstdint>

#include "score.h"
#include "walk.h"

namespace rwpm {

struct ScoreMapProblem {
  int64_t classes;     // K, 1 to 256
  int64_t map_height;  // h
  int64_t map_width;   // w
  const float* logits;
  int64_t class_stride;  // in elements, as the two others
  int64_t row_stride;
  int64_t column_stride;
  // The map is enlarged to this size by bilinear interpolation, with sources as in torch's float32 kernels ...
  int64_t enlarged_height;
  int64_t enlarged_width;
  bool align_corners;
  // ... and this much of it is scored, from the top left: the rest is padding.
  int64_t height;  // H
  int64_t width;   // W
  Score score;
  // outputs
  float* score_map;       // [H, W], contiguous; NaN where a logit is not finite
  uint8_t* segmentation;  // [H, W], contiguous: the likeliest class, the first of equal ones
};

// The same bits at any number of threads. Throws std::bad_alloc, and std::invalid_argument as walk() does.
void score_map(const ScoreMapProblem& problem, const ParallelFor& parallel_for);

}  // namespace rwpm
