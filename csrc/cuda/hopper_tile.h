// Sizes of a block of the Hopper kernel: its tile, its layout of shared memory, and the boxes that TMA loads into it.
#pragma once

#include "cuda/fragments.h"
#include "cuda/smem_layout.h"

namespace rwpm::cuda {

// The boxes that TMA takes from a tensor [batch, padded, channels].
struct Box {
  const Half* tensor;
  int channels;
  int box_channels, box_pixels;
};

constexpr int map_count = 6;  // of TensorMaps

struct TensorMaps {
  CUtensorMap query, query_tail, key, key_tail, value, value_tail;
};

// Up to CHANNELS channels of embeddings: TMA fills the rest with zeros. WIDE value channels in whole chunks, and TAIL,
// 0 or 32, in one more.
template <int CHANNELS, int KEYS, int WIDE, int TAIL>
struct HopperTile {
  static constexpr int rows = block_pixels, threads = 3 * 128, stages = 2;
  static constexpr int channels = CHANNELS, keys = KEYS, wide = WIDE, tail = TAIL, width = WIDE + TAIL;
  static constexpr int key_chunks = CHANNELS / chunk_channels, key_tail = CHANNELS % chunk_channels;
  static_assert(key_chunks > 0 && (key_tail == 0 || key_tail == 16) && (TAIL == 0 || TAIL == 32), "no such chunks");

  // Whether a thread's registers, up to 240, hold the scores of two tiles in addition to sums and weights, so that the
  // next tile's scores can be computed while one tile's scores are turned into weights.
  static constexpr bool overlap_keys = 2 * KEYS / 2 + KEYS / 4 + width / 2 <= 192;

  // A warp that has released the keys of tile n - stages has finished the weights of the tile before that: with one
  // more stage, factors need no barriers of their own.
  static constexpr int factor_stages = stages + 1;
  // Bytes, and offsets in shared memory; the queries are at 0.
  static constexpr uint32_t query_bytes = rows * CHANNELS * 2;
  static constexpr uint32_t key_bytes = KEYS * CHANNELS * 2, value_bytes = KEYS * width * 2;
  static constexpr uint32_t factor_bytes = factor_count * KEYS * 4;
  static constexpr uint32_t keys_offset = align_swizzle(query_bytes), key_stage_bytes = align_swizzle(key_bytes);
  static constexpr uint32_t values_offset = keys_offset + stages * key_stage_bytes,
                            value_stage_bytes = align_swizzle(value_bytes);
  static constexpr uint32_t factors_offset = values_offset + stages * value_stage_bytes;
  static constexpr uint32_t barriers_offset = factors_offset + factor_stages * factor_bytes;
  static constexpr uint32_t shared_bytes = barriers_offset + (1 + 4 * stages) * 8;
  static_assert(shared_bytes <= 232448, "more than a block of sm_90 may have");

  // In the order of TensorMaps.
  static void boxes(const ExactStep& step, Box (&boxes)[map_count]) {
    const int key_last = key_tail ? key_tail : chunk_channels, value_last = TAIL ? TAIL : chunk_channels;
    boxes[0] = {step.keys, step.channels, chunk_channels, rows};
    boxes[1] = {step.keys, step.channels, key_last, rows};
    boxes[2] = {step.keys, step.channels, chunk_channels, KEYS};
    boxes[3] = {step.keys, step.channels, key_last, KEYS};
    boxes[4] = {step.source, step.width, chunk_channels, KEYS};
    boxes[5] = {step.source, step.width, value_last, KEYS};
  }
};

}  // namespace rwpm::cuda
