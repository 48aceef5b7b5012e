// What a block of the Hopper kernel carries: sizes, places in shared memory, and what the copy engine brings there.
#pragma once

#include "cuda/fragments.h"
#include "cuda/smem_layout.h"

namespace rwpm::cuda {

// Boxes that the copy engine takes of a table [batch, padded, channels].
struct Box {
  const Half* table;
  int channels;
  int box_channels, box_pixels;
};

constexpr int map_count = 6;

struct Maps {
  CUtensorMap query, query_tail, key, key_tail, value, value_tail;
};

// CHANNELS of embeddings, or fewer: the copy engine fills the rest with zeros. WIDE value channels in whole chunks, and
// TAIL, 0 or 32, in one more.
template <int CHANNELS, int KEYS, int WIDE, int TAIL>
struct HopperTile {
  static constexpr int rows = block_pixels, threads = 3 * 128, stages = 2;
  static constexpr int channels = CHANNELS, keys = KEYS, wide = WIDE, tail = TAIL, width = WIDE + TAIL;
  static constexpr int key_chunks = CHANNELS / chunk_channels, key_tail = CHANNELS % chunk_channels;
  static_assert(key_chunks > 0 && (key_tail == 0 || key_tail == 16) && (TAIL == 0 || TAIL == 32), "no such chunks");

  // Whether a thread's registers, up to 240, hold the products of two tiles beside sums and weights.
  static constexpr bool two_products = 2 * KEYS / 2 + KEYS / 4 + width / 2 <= 192;

  // A warp that has given back the keys of tile n - stages has made the weights of the tile before that: with one more
  // stage, factors need no barriers of their own.
  static constexpr int factor_stages = stages + 1;
  // Bytes, and offsets in shared memory; the queries come first.
  static constexpr uint32_t query_bytes = rows * CHANNELS * 2;
  static constexpr uint32_t key_bytes = KEYS * CHANNELS * 2, value_bytes = KEYS * width * 2;
  static constexpr uint32_t factor_bytes = factor_count * KEYS * 4;
  static constexpr uint32_t keys_at = whole_swizzles(query_bytes), key_stage = whole_swizzles(key_bytes);
  static constexpr uint32_t values_at = keys_at + stages * key_stage, value_stage = whole_swizzles(value_bytes);
  static constexpr uint32_t factors_at = values_at + stages * value_stage;
  static constexpr uint32_t barriers_at = factors_at + factor_stages * factor_bytes;
  static constexpr uint32_t shared_bytes = barriers_at + (1 + 4 * stages) * 8;
  static_assert(shared_bytes <= 232448, "more than a block of sm_90 may have");

  // In the order of Maps.
  static void boxes(const Step& step, Box (&boxes)[map_count]) {
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
