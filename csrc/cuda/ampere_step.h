// The exact step by the matrix instructions that every GPU since sm_80 has. A warp keeps the sums of 16 queries in
// registers. A tile's values are copied while its keys are multiplied, and the next tile's keys while its values are.
#pragma once

#include "cuda/fragments.h"

namespace rwpm::cuda {

// Halves from a row to the next in shared memory: 16 bytes more than a row holds, so that eight rows lie in different
// banks.
RWPM_CONSTEXPR int ampere_pitch(int channels) { return channels + 8; }

// Row and column, in a [16, 16] tile, of the address that a lane passes to ldmatrix_x4: for operands whose four [8, 8]
// matrices follow one another down the rows first, or along the columns first.
RWPM_CONSTEXPR int rows_first_row(int lane) { return lane / 8 % 2 * 8 + lane % 8; }
RWPM_CONSTEXPR int rows_first_column(int lane) { return lane / 16 * 8; }
RWPM_CONSTEXPR int columns_first_row(int lane) { return lane / 16 * 8 + lane % 8; }
RWPM_CONSTEXPR int columns_first_column(int lane) { return lane / 8 % 2 * 8; }

template <int WARPS, int KEYS, int WIDTH>
struct AmpereTile {
  static constexpr int rows = 16 * WARPS, threads = 32 * WARPS, keys = KEYS, width = WIDTH;
  static_assert(block_pixels % rows == 0 && block_pixels % KEYS == 0, "a tile lies in one block");

  static constexpr int shared_bytes(int channels) {
    return int(sizeof(Half)) * ((rows + KEYS) * ampere_pitch(channels) + KEYS * ampere_pitch(WIDTH)) +
           factor_count * KEYS * int(sizeof(float));
  }
};

// Starts copying rows of `count` channels into rows of `pitch`; channels from `available` on become zeros. A warp
// copies a row at a time.
template <int WARPS, int ROWS>
RWPM_DEVICE void copy_rows(uint32_t to, int pitch, const Half* from, int64_t stride, int count, int available) {
  const int lane = threadIdx.x % 32;
  for (int row = threadIdx.x / 32; row < ROWS; row += WARPS)
    for (int channel = lane * 8; channel < count; channel += 32 * 8)
      cp_async_16(to + uint32_t(row * pitch + channel) * 2, from + row * stride + (channel < available ? channel : 0),
                  channel < available);
}

// What a block of threads does: Tile::rows queries, WIDTH value channels from `first_channel` on for blockIdx.y = 0.
template <int WARPS, int KEYS, int WIDTH>
RWPM_DEVICE void ampere_step(const ExactStep& step, int first_channel, char* shared) {
  using Tile = AmpereTile<WARPS, KEYS, WIDTH>;
  const int batch = int(blockIdx.z), first_query = int(blockIdx.x) * Tile::rows;
  const int channel = first_channel + int(blockIdx.y) * WIDTH;
  if (step.streaming_blocks && !step.streaming_blocks[step.row(batch, first_query) / block_pixels]) return;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pitch = ampere_pitch(step.channels);
  constexpr int value_pitch = ampere_pitch(WIDTH);
  const uint32_t queries_at = cvta_to_shared(shared);
  const uint32_t keys_at = queries_at + Tile::rows * pitch * 2, values_at = keys_at + KEYS * pitch * 2;
  const uint32_t factors_at = values_at + KEYS * value_pitch * 2;
  const float* factors = reinterpret_cast<const float*>(shared + (factors_at - queries_at));

  const Half* keys = step.keys + step.row(batch, 0) * step.channels;
  const Half* values = step.source + step.row(batch, 0) * step.width + channel;
  const int available = step.width - channel;
  const auto load_keys = [&](int first) {
    copy_rows<WARPS, KEYS>(keys_at, pitch, keys + int64_t(first) * step.channels, step.channels, step.channels,
                           step.channels);
    cp_async_commit_group();
  };
  const auto load_values = [&](int first) {
    copy_rows<WARPS, KEYS>(values_at, value_pitch, values + int64_t(first) * step.width, step.width, WIDTH, available);
    const int factor = int(threadIdx.x) / (KEYS / 4), key = int(threadIdx.x) % (KEYS / 4) * 4;
    if (factor < (step.adjoint ? factor_count : 1)) {
      const float* from = factor == 0 ? step.inv_norm : factor == 1 ? step.row_max : step.inv_row_sum;
      cp_async_16(factors_at + uint32_t(factor * KEYS + key) * 4, from + step.row(batch, first + key), true);
    }
    cp_async_commit_group();
  };

  const RowPair rows = load_rows(step, batch, first_query + 16 * warp + lane / 4);
  // What this lane passes to ldmatrix for the first [16, 16] tile of each operand.
  const uint32_t query =
      queries_at + uint32_t((16 * warp + rows_first_row(lane)) * pitch + rows_first_column(lane)) * 2;
  const uint32_t key = keys_at + uint32_t(columns_first_row(lane) * pitch + columns_first_column(lane)) * 2;
  const uint32_t value = values_at + uint32_t(rows_first_row(lane) * value_pitch + rows_first_column(lane)) * 2;

  copy_rows<WARPS, Tile::rows>(queries_at, pitch, keys + int64_t(first_query) * step.channels, step.channels,
                               step.channels, step.channels);
  load_keys(0);
  float sum[WIDTH / 2] = {};
  for (int first = 0; first < step.padded; first += KEYS) {
    cp_async_wait_group_0();
    syncthreads();  // the keys have arrived, and the last tile's values are no longer needed
    load_values(first);
    float scores[KEYS / 2] = {};
    for (int k = 0; k < step.channels; k += 16) {
      uint32_t a[4], b[4];
      ldmatrix_x4(a, query + k * 2);
#pragma unroll
      for (int n = 0; n < KEYS / 16; ++n) {
        ldmatrix_x4(b, key + uint32_t(n * 16 * pitch + k) * 2);
        mma_m16n8k16(scores + n * 8, a, b[0], b[1]);
        mma_m16n8k16(scores + n * 8 + 4, a, b[2], b[3]);
      }
    }
    cp_async_wait_group_0();
    syncthreads();  // the values have arrived, and the keys are no longer needed
    if (first + KEYS < step.padded) load_keys(first + KEYS);
    const int warp_row = rows.first - lane / 4;
    make_weights<KEYS>(scores, step, rows, factors, first, first < warp_row + 16 && warp_row < first + KEYS, lane);
    uint32_t weights[KEYS / 16][4];
    pack_weights<KEYS>(weights, scores);
#pragma unroll
    for (int k = 0; k < KEYS / 16; ++k) {
#pragma unroll
      for (int n = 0; n < WIDTH / 16; ++n) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, value + uint32_t(k * 16 * value_pitch + n * 16) * 2);
        mma_m16n8k16(sum + n * 8, weights[k], b[0], b[1]);
        mma_m16n8k16(sum + n * 8 + 4, weights[k], b[2], b[3]);
      }
    }
  }
  store_target<WIDTH>(sum, step, batch, rows, channel, lane);
}

}  // namespace rwpm::cuda
