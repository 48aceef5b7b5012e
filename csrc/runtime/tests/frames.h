/* Frames for the tests of the C library, and the walk by its definition in plain loops. */
#ifndef RWPM_TESTS_FRAMES_H
#define RWPM_TESTS_FRAMES_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rwpm.h"

#ifndef FRAME_HEIGHT
#define FRAME_HEIGHT 30
#define FRAME_WIDTH 40
#endif
enum {
  HEIGHT = FRAME_HEIGHT,
  WIDTH = FRAME_WIDTH,
  PIXELS = HEIGHT * WIDTH,
  CHANNELS = 24,
  VALUES = 3,
  DIRECTIONS = 40
};

static int failures = 0;

static inline void expect(int ok, const char* what) {
  if (ok) return;
  ++failures;
  printf("FAILED: %s\n", what);
}

/* In [-1, 1). */
static inline float draw(uint64_t* state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (float)(*state >> 40) / (float)(1 << 23) - 1;
}

typedef struct {
  float embeddings[PIXELS * CHANNELS], values[PIXELS * VALUES];
  bool mask[PIXELS];
} frame;

/* Squares of pixels that share a direction, with noise; as in the map of a road network, but small. */
static inline void fill_frame(uint64_t seed, float noise, frame* f) {
  float directions[DIRECTIONS * CHANNELS];
  uint64_t state = seed * 977 + 1;
  for (int k = 0; k < DIRECTIONS * CHANNELS; ++k) directions[k] = draw(&state);
  for (int i = 0; i < PIXELS; ++i) {
    const int direction = (i / WIDTH / 5 * (WIDTH / 5) + i % WIDTH / 5 + (int)seed) * 7 % DIRECTIONS;
    for (int d = 0; d < CHANNELS; ++d)
      f->embeddings[i * CHANNELS + d] = directions[direction * CHANNELS + d] + noise * draw(&state);
    for (int c = 0; c < VALUES; ++c) f->values[i * VALUES + c] = draw(&state);
    f->mask[i] = draw(&state) < 0.8f;
  }
}

/* The walk of a frame whose numbers are finite; mask may be NULL. expected: [PIXELS * VALUES]. */
static inline void walk_by_definition(const frame* f, const bool* mask, const rwpm_settings* s, double* expected) {
  static int pixel[PIXELS];
  static double q[PIXELS * CHANNELS], log_sum[PIXELS], sorted[PIXELS], alpha[PIXELS], from[PIXELS * VALUES];
  double* const weight = malloc(sizeof(double) * PIXELS * PIXELS);
  int n = 0;
  for (int i = 0; i < PIXELS; ++i)
    if (!mask || mask[i]) pixel[n++] = i;
  for (int k = 0; k < PIXELS * VALUES; ++k) expected[k] = f->values[k];
  for (int i = 0; i < n; ++i) {
    double squares = 0;
    for (int d = 0; d < CHANNELS; ++d) squares += pow((double)f->embeddings[pixel[i] * CHANNELS + d], 2);
    for (int d = 0; d < CHANNELS; ++d) q[i * CHANNELS + d] = f->embeddings[pixel[i] * CHANNELS + d] / sqrt(squares);
  }
  for (int i = 0; i < n; ++i) {
    double* const row = weight + i * n;
    double largest = -1, sum = 0;
    for (int j = 0; j < n; ++j) {
      row[j] = 0;
      for (int d = 0; d < CHANNELS; ++d) row[j] += q[i * CHANNELS + d] * q[j * CHANNELS + d];
      if (j != i && row[j] > largest) largest = row[j];
    }
    for (int j = 0; j < n; ++j) sum += row[j] = j == i ? 0 : exp((row[j] - largest) / s->temperature);
    for (int j = 0; j < n; ++j) row[j] /= sum;
    log_sum[i] = sorted[i] = largest / s->temperature + log(sum);
  }
  for (int i = 1; i < n; ++i) /* few enough for insertion */
    for (int j = i; j > 0 && sorted[j] < sorted[j - 1]; --j) {
      const double x = sorted[j];
      sorted[j] = sorted[j - 1];
      sorted[j - 1] = x;
    }
  for (int i = 0; i < n; ++i) {
    const double logit = s->anchor_share > 0 ? sorted[(int)ceil(s->anchor_share * n) - 1] : s->anchor / s->temperature;
    const int anchored = s->anchor_share > 0 || s->anchor > -1;
    alpha[i] = anchored ? s->alpha / (1 + exp(logit - log_sum[i])) : s->alpha;
  }
  for (int64_t t = 0; t < s->steps; ++t) {
    for (int k = 0; k < n * VALUES; ++k) from[k] = expected[pixel[k / VALUES] * VALUES + k % VALUES];
    for (int i = 0; i < n; ++i)
      for (int c = 0; c < VALUES; ++c) {
        double sum = 0;
        for (int j = 0; j < n; ++j) sum += weight[i * n + j] * from[j * VALUES + c];
        expected[pixel[i] * VALUES + c] = alpha[i] * sum + (1 - alpha[i]) * f->values[pixel[i] * VALUES + c];
      }
  }
  free(weight);
}

/* The largest difference. */
static inline double difference(const float* walked, const double* expected) {
  double largest = 0;
  for (int k = 0; k < PIXELS * VALUES; ++k) {
    const double d = fabs(walked[k] - expected[k]);
    if (!(d <= largest)) largest = d; /* NaN too */
  }
  return largest;
}

#endif
