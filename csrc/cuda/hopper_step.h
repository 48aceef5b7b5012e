// The step on sm_90a: a producer thread brings tiles by the copy engine, two warpgroups of 64 queries each multiply
// them by wgmma. While a warpgroup makes weights of a tile's products, the last tile's weights multiply their values.
// Blocks of a cluster, neighbors in their queries, share every tile: each brings its part to all of them.
#pragma once

#include "cuda/hopper_tile.h"
#include "cuda/wgmma.h"

namespace rwpm::cuda {

template <typename Tile>
class HopperStep {
  static constexpr int stages = Tile::stages, KEYS = Tile::keys, WIDE = Tile::wide, TAIL = Tile::tail;

  const Step& step;
  const Maps& maps;
  char* const shared;
  const uint32_t base, rank, size;
  const int batch, begin, channel, tiles;

 public:
  RWPM_DEVICE HopperStep(const Step& step, int first_channel, const Maps& maps, char* shared)
      : step(step),
        maps(maps),
        shared(shared),
        base(shared_address(shared)),
        rank(cluster_rank()),
        size(cluster_size()),
        batch(int(blockIdx.z)),
        begin(int(blockIdx.x) * Tile::rows),
        channel(first_channel + int(blockIdx.y) * Tile::width),
        tiles((step.padded + KEYS - 1) / KEYS) {}

  RWPM_DEVICE void run() {
    bool any = false;
    for (uint32_t i = 0; i < size; ++i) any |= streams(begin + (int(i) - int(rank)) * Tile::rows);
    if (!any) return;  // the same in all blocks of the cluster
    // Where the last tile goes beyond the pixels nobody brings factors, which must be finite.
    for (uint32_t i = threadIdx.x; i < Tile::factor_stages * Tile::factor_bytes / 4; i += Tile::threads)
      reinterpret_cast<float*>(shared + Tile::factors_at)[i] = 0;
    fence_proxies();
    if (threadIdx.x == 0) {
      barrier_init(query_full(), 1);
      for (int stage = 0; stage < stages; ++stage) {
        barrier_init(key_full(stage), 1);
        barrier_init(value_full(stage), 1);
        barrier_init(key_empty(stage), 8 * size);
        barrier_init(value_empty(stage), 8 * size);
      }
      fence_barriers();
    }
    if (size > 1)
      sync_cluster();
    else
      sync_block();
    if (threadIdx.x < 128) {
      give_registers<24>();
      if (threadIdx.x == 0) produce();
    } else {
      take_registers<240>();
      consume();
    }
    if (size > 1) sync_cluster();  // none may leave while others write to it
  }

 private:
  RWPM_DEVICE uint32_t query_full() const { return base + Tile::barriers_at; }
  RWPM_DEVICE uint32_t key_full(int stage) const { return query_full() + 8 + stage * 32; }
  RWPM_DEVICE uint32_t value_full(int stage) const { return key_full(stage) + 8; }
  RWPM_DEVICE uint32_t key_empty(int stage) const { return key_full(stage) + 16; }
  RWPM_DEVICE uint32_t value_empty(int stage) const { return key_full(stage) + 24; }
  RWPM_DEVICE uint32_t keys_at(int stage) const { return base + Tile::keys_at + stage * Tile::key_stage; }
  RWPM_DEVICE uint32_t values_at(int stage) const { return base + Tile::values_at + stage * Tile::value_stage; }
  RWPM_DEVICE uint32_t factors_at(int tile) const {
    return Tile::factors_at + uint32_t(tile % Tile::factor_stages) * Tile::factor_bytes;
  }

  RWPM_DEVICE bool streams(int pixel) const {
    return pixel < step.padded && (!step.streams || step.streams[step.row(batch, pixel) / block_pixels]);
  }

  // A tile's box number `chunk`: to this block, or to all by the one whose turn it is.
  RWPM_DEVICE void bring(uint32_t to, const CUtensorMap* map, uint32_t barrier, int chunk, int channel,
                         int pixel) const {
    if (size == 1)
      copy_box(to, map, barrier, channel, pixel, batch);
    else if (uint32_t(chunk) % size == rank)
      copy_box_to_all(to, map, barrier, uint16_t((1u << size) - 1), channel, pixel, batch);
  }

  RWPM_DEVICE void bring_keys(int tile) const {
    const int stage = tile % stages, first = tile * KEYS;
    const uint32_t to = keys_at(stage), full = key_full(stage);
    barrier_wait(key_empty(stage), uint32_t(tile / stages + 1) & 1);
    fence_proxies();  // threads have read the factors that lay there
    const int left = step.padded - first;
    const uint32_t factor_bytes = uint32_t(left < KEYS ? left : KEYS) * 4;
    barrier_expect(full, Tile::key_bytes + factor_bytes * (step.adjoint ? factor_count : 1));
    for (int c = 0; c < Tile::key_chunks; ++c)
      bring(to + c * KEYS * chunk_row, &maps.key, full, c, c * chunk_channels, first);
    if (Tile::key_tail)
      bring(to + Tile::key_chunks * KEYS * chunk_row, &maps.key_tail, full, Tile::key_chunks,
            Tile::key_chunks * chunk_channels, first);
    const uint32_t factors = base + factors_at(tile);
    copy_bytes(factors, step.inverse + step.row(batch, first), factor_bytes, full);
    if (!step.adjoint) return;
    copy_bytes(factors + KEYS * 4, step.largest + step.row(batch, first), factor_bytes, full);
    copy_bytes(factors + 2 * KEYS * 4, step.inverse_sum + step.row(batch, first), factor_bytes, full);
  }

  RWPM_DEVICE void bring_values(int tile) const {
    const int stage = tile % stages, first = tile * KEYS;
    const uint32_t to = values_at(stage), full = value_full(stage);
    barrier_wait(value_empty(stage), uint32_t(tile / stages + 1) & 1);
    barrier_expect(full, Tile::value_bytes);
    for (int c = 0; c < WIDE / chunk_channels; ++c)
      bring(to + c * KEYS * chunk_row, &maps.value, full, c, channel + c * chunk_channels, first);
    if (TAIL) bring(to + KEYS * WIDE * 2, &maps.value_tail, full, WIDE / chunk_channels, channel + WIDE, first);
  }

  RWPM_DEVICE void produce() const {
    constexpr int chunks = Tile::key_chunks;
    barrier_expect(query_full(), Tile::query_bytes);
    for (int c = 0; c < chunks; ++c)
      copy_box(base + c * Tile::rows * chunk_row, &maps.query, query_full(), c * chunk_channels, begin, batch);
    if (Tile::key_tail)
      copy_box(base + chunks * Tile::rows * chunk_row, &maps.query_tail, query_full(), chunks * chunk_channels, begin,
               batch);
    // Keys run one tile ahead of the values, as they are used.
    for (int tile = 0; tile <= tiles; ++tile) {
      if (tile < tiles) bring_keys(tile);
      if (tile > 0) bring_values(tile - 1);
    }
  }

  // Starts x = queries times keys of a tile.
  RWPM_DEVICE void multiply_keys(int tile, int group, float (&x)[KEYS / 2]) const {
    const int stage = tile % stages;
    barrier_wait(key_full(stage), uint32_t(tile / stages) & 1);
    fence_products();
    const uint32_t queries_at = made_here(base);
    const uint64_t query = summed_channels(queries_at + group * 64 * chunk_row, chunk_row);
    const uint64_t key = summed_channels(keys_at(stage), chunk_row);
#pragma unroll
    for (int k = 0; k < Tile::key_chunks * 4; ++k) {
      const uint32_t piece = k % 4 * 32;
      multiply_channels<KEYS>(x, moved(query, k / 4 * Tile::rows * chunk_row + piece),
                              moved(key, k / 4 * KEYS * chunk_row + piece), k > 0);
    }
    if constexpr (Tile::key_tail > 0) {
      constexpr int row = Tile::key_tail * 2, chunks = Tile::key_chunks;
      multiply_channels<KEYS>(x, summed_channels(queries_at + chunks * Tile::rows * chunk_row + group * 64 * row, row),
                              summed_channels(keys_at(stage) + chunks * KEYS * chunk_row, row), true);
    }
    commit_products();
  }

  // What a thread holds beside the products of a tile.
  struct Sums {
    float wide[WIDE ? WIDE / 2 : 1] = {}, tail[TAIL ? TAIL / 2 : 1] = {};
    uint32_t weights[KEYS / 16][4];
  };

  // Starts sums += weights times values of a tile.
  RWPM_DEVICE void multiply_values(int tile, Sums& sums) const {
    const int stage = tile % stages;
    barrier_wait(value_full(stage), uint32_t(tile / stages) & 1);
    settle(sums.weights);
    fence_products();
    const uint64_t value = summed_rows(values_at(stage), chunk_row, KEYS * chunk_row);
    const uint64_t value_tail = summed_rows(values_at(stage) + KEYS * WIDE * 2, TAIL * 2, 16);
#pragma unroll
    for (int k = 0; k < KEYS / 16; ++k) {
      if constexpr (WIDE > 0) multiply_rows<WIDE>(sums.wide, sums.weights[k], moved(value, k * 16 * chunk_row));
      if constexpr (TAIL > 0) multiply_rows<TAIL>(sums.tail, sums.weights[k], moved(value_tail, k * 16 * TAIL * 2));
    }
    commit_products();
  }

  // A warp needs a stage no more, in any block that brings to this one.
  RWPM_DEVICE void give_back(uint32_t empty, int lane) const {
    if (uint32_t(lane) < size) barrier_arrive(empty, uint32_t(lane));
  }

  RWPM_DEVICE void weigh_tile(float (&x)[KEYS / 2], const Rows& rows, int tile, int group, int lane) const {
    const int first = tile * KEYS, own = begin + group * 64;
    const float* factors = reinterpret_cast<const float*>(shared + factors_at(tile));
    weigh<KEYS>(x, step, rows, factors, first, first < own + 64 && own < first + KEYS, lane);
  }

  RWPM_DEVICE void keys_done(int tile, int lane, float (&x)[KEYS / 2]) const {
    settle(x);
    give_back(key_empty(tile % stages), lane);
  }

  // One tile of its products x, while those of the next are made.
  RWPM_DEVICE void take_tile(int tile, const Rows& rows, int group, int lane, float (&x)[KEYS / 2],
                             float (&next)[KEYS / 2], Sums& sums) const {
    multiply_keys(tile + 1, group, next);
    weigh_tile(x, rows, tile, group, lane);
    wait_for_products<1>();  // of the last tile's values, which read the weights
    settle(x);
    if (tile > 0) give_back(value_empty((tile - 1) % stages), lane);
    pack_weights<KEYS>(sums.weights, x);
    multiply_values(tile, sums);
    wait_for_products<1>();
    keys_done(tile + 1, lane, next);
  }

  RWPM_DEVICE void take_last_tile(const Rows& rows, int group, int lane, float (&x)[KEYS / 2], Sums& sums) const {
    weigh_tile(x, rows, tiles - 1, group, lane);
    wait_for_products<0>();
    settle(x);
    if (tiles > 1) give_back(value_empty((tiles - 2) % stages), lane);
    pack_weights<KEYS>(sums.weights, x);
    multiply_values(tiles - 1, sums);
  }

  RWPM_DEVICE void beside_next_keys(const Rows& rows, int group, int lane, Sums& sums) const {
    float x[KEYS / 2], next[KEYS / 2];
    multiply_keys(0, group, x);
    wait_for_products<0>();
    keys_done(0, lane, x);
    int tile = 0;
    for (; tile + 2 < tiles; tile += 2) {
      take_tile(tile, rows, group, lane, x, next, sums);
      take_tile(tile + 1, rows, group, lane, next, x, sums);
    }
    if (tile + 1 < tiles) {
      take_tile(tile, rows, group, lane, x, next, sums);
      take_last_tile(rows, group, lane, next, sums);
    } else {
      take_last_tile(rows, group, lane, x, sums);
    }
  }

  RWPM_DEVICE void beside_last_values(const Rows& rows, int group, int lane, Sums& sums) const {
    {
      float x[KEYS / 2];
      multiply_keys(0, group, x);
      wait_for_products<0>();
      keys_done(0, lane, x);
      weigh_tile(x, rows, 0, group, lane);
      pack_weights<KEYS>(sums.weights, x);
    }
    for (int tile = 1; tile < tiles; ++tile) {
      float x[KEYS / 2];
      multiply_keys(tile, group, x);
      multiply_values(tile - 1, sums);
      wait_for_products<1>();
      keys_done(tile, lane, x);
      weigh_tile(x, rows, tile, group, lane);
      wait_for_products<0>();
      settle(x);  // weights are read until here: no packing before
      give_back(value_empty((tile - 1) % stages), lane);
      pack_weights<KEYS>(sums.weights, x);
    }
    multiply_values(tiles - 1, sums);
  }

  RWPM_DEVICE void consume() const {
    const int group = uniform(int(threadIdx.x) / 128 - 1);
    const int warp = int(threadIdx.x) / 32 % 4, lane = int(threadIdx.x) % 32;
    Rows rows = rows_of(step, batch, begin + group * 64 + warp * 16 + lane / 4);
    Sums sums;
    barrier_wait(query_full(), 0);
    if constexpr (Tile::two_products)
      beside_next_keys(rows, group, lane, sums);
    else
      beside_last_values(rows, group, lane, sums);
    wait_for_products<0>();
    settle(sums.wide);
    settle(sums.tail);
    rows.there &= streams(begin);
    if constexpr (WIDE > 0) store_step<WIDE>(sums.wide, step, batch, rows, channel, lane);
    if constexpr (TAIL > 0) store_step<TAIL>(sums.tail, step, batch, rows, channel + WIDE, lane);
  }
};

}  // namespace rwpm::cuda
