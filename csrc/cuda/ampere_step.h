// The step on the matrix instructions that every GPU since sm_80 has. A warp keeps 16 queries' sums in registers; while
// it multiplies the keys of a tile the tile's values are on their way, and while it multiplies those, the next keys.
#pragma once

#include "cuda/fragments.h"

namespace rwpm::cuda {

// Rows in shared memory are longer by 16 bytes than what they hold, so that eight of them lie in different banks.
RWPM_CONSTEXPR int ampere_pitch(int channels) { return channels + 8; }

// Row and column of the element of a [16, 16] tile that a lane points load_matrices to, for operands whose four
// matrices follow one another down the rows first, or along the columns first.
RWPM_CONSTEXPR int down(int lane) { return lane / 8 % 2 * 8 + lane % 8; }
RWPM_CONSTEXPR int across(int lane) { return lane / 16 * 8; }
RWPM_CONSTEXPR int across_down(int lane) { return lane / 16 * 8 + lane % 8; }
RWPM_CONSTEXPR int across_first(int lane) { return lane / 8 % 2 * 8; }

template <int WARPS, int KEYS, int WIDTH>
struct AmpereTile {
  static constexpr int rows = 16 * WARPS, threads = 32 * WARPS, keys = KEYS, width = WIDTH;
  static_assert(block_pixels % rows == 0 && block_pixels % KEYS == 0, "a tile lies in one block");

  static constexpr int shared_bytes(int channels) {
    return int(sizeof(Half)) * ((rows + KEYS) * ampere_pitch(channels) + KEYS * ampere_pitch(WIDTH)) +
           factor_count * KEYS * int(sizeof(float));
  }
};

// Rows of `count` channels, of which the first `there` exist, into rows of `pitch`; a warp takes a row.
template <int WARPS, int ROWS>
RWPM_DEVICE void copy_rows(uint32_t to, int pitch, const Half* from, int64_t stride, int count, int there) {
  const int lane = threadIdx.x % 32;
  for (int row = threadIdx.x / 32; row < ROWS; row += WARPS)
    for (int channel = lane * 8; channel < count; channel += 32 * 8)
      copy_16(to + uint32_t(row * pitch + channel) * 2, from + row * stride + (channel < there ? channel : 0),
              channel < there);
}

template <int WARPS, int KEYS, int WIDTH>
RWPM_DEVICE void ampere_step(const Step& step, int first_channel, char* shared) {
  using Tile = AmpereTile<WARPS, KEYS, WIDTH>;
  const int batch = int(blockIdx.z), begin = int(blockIdx.x) * Tile::rows;
  const int channel = first_channel + int(blockIdx.y) * WIDTH;
  if (step.streams && !step.streams[step.row(batch, begin) / block_pixels]) return;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pitch = ampere_pitch(step.channels);
  constexpr int value_pitch = ampere_pitch(WIDTH);
  const uint32_t query_at = shared_address(shared);
  const uint32_t key_at = query_at + Tile::rows * pitch * 2, value_at = key_at + KEYS * pitch * 2;
  const uint32_t factor_at = value_at + KEYS * value_pitch * 2;
  const float* factors = reinterpret_cast<const float*>(shared + (factor_at - query_at));

  const Half* keys = step.keys + step.row(batch, 0) * step.channels;
  const Half* values = step.source + step.row(batch, 0) * step.width + channel;
  const int there = step.width - channel;
  const auto load_keys = [&](int first) {
    copy_rows<WARPS, KEYS>(key_at, pitch, keys + int64_t(first) * step.channels, step.channels, step.channels,
                           step.channels);
    commit_copies();
  };
  const auto load_values = [&](int first) {
    copy_rows<WARPS, KEYS>(value_at, value_pitch, values + int64_t(first) * step.width, step.width, WIDTH, there);
    const int factor = int(threadIdx.x) / (KEYS / 4), piece = int(threadIdx.x) % (KEYS / 4) * 4;
    if (factor < (step.adjoint ? factor_count : 1)) {
      const float* from = factor == 0 ? step.inverse : factor == 1 ? step.largest : step.inverse_sum;
      copy_16(factor_at + uint32_t(factor * KEYS + piece) * 4, from + step.row(batch, first + piece), true);
    }
    commit_copies();
  };

  const Rows rows = rows_of(step, batch, begin + 16 * warp + lane / 4);
  const uint32_t query = query_at + uint32_t((16 * warp + down(lane)) * pitch + across(lane)) * 2;
  const uint32_t key = key_at + uint32_t(across_down(lane) * pitch + across_first(lane)) * 2;
  const uint32_t value = value_at + uint32_t(down(lane) * value_pitch + across(lane)) * 2;

  copy_rows<WARPS, Tile::rows>(query_at, pitch, keys + int64_t(begin) * step.channels, step.channels, step.channels,
                               step.channels);
  load_keys(0);
  float sum[WIDTH / 2] = {};
  for (int first = 0; first < step.padded; first += KEYS) {
    wait_for_copies();
    sync_block();  // keys are there, and the last tile's values no longer needed
    load_values(first);
    float x[KEYS / 2] = {};
    for (int k = 0; k < step.channels; k += 16) {
      uint32_t a[4], b[4];
      load_matrices(a, query + k * 2);
#pragma unroll
      for (int n = 0; n < KEYS / 16; ++n) {
        load_matrices(b, key + uint32_t(n * 16 * pitch + k) * 2);
        multiply_warp(x + n * 8, a, b[0], b[1]);
        multiply_warp(x + n * 8 + 4, a, b[2], b[3]);
      }
    }
    wait_for_copies();
    sync_block();  // values are there, and the keys no longer needed
    if (first + KEYS < step.padded) load_keys(first + KEYS);
    const int own = rows.first - lane / 4;
    weigh<KEYS>(x, step, rows, factors, first, first < own + 16 && own < first + KEYS, lane);
    uint32_t weights[KEYS / 16][4];
    pack_weights<KEYS>(weights, x);
#pragma unroll
    for (int k = 0; k < KEYS / 16; ++k) {
#pragma unroll
      for (int n = 0; n < WIDTH / 16; ++n) {
        uint32_t b[4];
        load_matrices_transposed(b, value + uint32_t(k * 16 * value_pitch + n * 16) * 2);
        multiply_warp(sum + n * 8, weights[k], b[0], b[1]);
        multiply_warp(sum + n * 8 + 4, weights[k], b[2], b[3]);
      }
    }
  }
  store_step<WIDTH>(sum, step, batch, rows, channel, lane);
}

}  // namespace rwpm::cuda
