// The exact step on sm_90a: a producer thread loads tiles by TMA, two consumer warpgroups of 64 queries each multiply
// them by wgmma. While a warpgroup turns one tile's scores into weights, the previous tile's weights multiply their
// values. The blocks of a cluster, which have adjacent queries, share every tile: each loads a part of it into all.
#pragma once

#include "cuda/hopper_tile.h"
#include "cuda/wgmma.h"

namespace rwpm::cuda {

template <typename Tile>
class HopperKernel {
  static constexpr int stages = Tile::stages, KEYS = Tile::keys, WIDE = Tile::wide, TAIL = Tile::tail;

  const ExactStep& step;
  const TensorMaps& maps;
  char* const shared;
  const uint32_t base, cluster_rank, cluster_size;
  const int batch, first_query, channel, tiles;

 public:
  RWPM_DEVICE HopperKernel(const ExactStep& step, int first_channel, const TensorMaps& maps, char* shared)
      : step(step),
        maps(maps),
        shared(shared),
        base(cvta_to_shared(shared)),
        cluster_rank(cluster_ctarank()),
        cluster_size(cluster_nctarank()),
        batch(int(blockIdx.z)),
        first_query(int(blockIdx.x) * Tile::rows),
        channel(first_channel + int(blockIdx.y) * Tile::width),
        tiles((step.padded + KEYS - 1) / KEYS) {}

  RWPM_DEVICE void run() {
    bool any = false;
    for (uint32_t i = 0; i < cluster_size; ++i) any |= streams(first_query + (int(i) - int(cluster_rank)) * Tile::rows);
    if (!any) return;  // the same in all blocks of the cluster
    // Where the last tile reaches beyond the pixels no factors are loaded; they must be finite.
    for (uint32_t i = threadIdx.x; i < Tile::factor_stages * Tile::factor_bytes / 4; i += Tile::threads)
      reinterpret_cast<float*>(shared + Tile::factors_offset)[i] = 0;
    fence_proxy_async();
    if (threadIdx.x == 0) {
      mbarrier_init(query_full(), 1);
      for (int stage = 0; stage < stages; ++stage) {
        mbarrier_init(key_full(stage), 1);
        mbarrier_init(value_full(stage), 1);
        mbarrier_init(key_empty(stage), 8 * cluster_size);
        mbarrier_init(value_empty(stage), 8 * cluster_size);
      }
      fence_mbarrier_init();
    }
    if (cluster_size > 1)
      barrier_cluster_arrive_wait();
    else
      syncthreads();
    if (threadIdx.x < 128) {
      setmaxnreg_dec<24>();
      if (threadIdx.x == 0) produce();
    } else {
      setmaxnreg_inc<240>();
      consume();
    }
    if (cluster_size > 1) barrier_cluster_arrive_wait();  // no block may exit while others write to it
  }

 private:
  RWPM_DEVICE uint32_t query_full() const { return base + Tile::barriers_offset; }
  RWPM_DEVICE uint32_t key_full(int stage) const { return query_full() + 8 + stage * 32; }
  RWPM_DEVICE uint32_t value_full(int stage) const { return key_full(stage) + 8; }
  RWPM_DEVICE uint32_t key_empty(int stage) const { return key_full(stage) + 16; }
  RWPM_DEVICE uint32_t value_empty(int stage) const { return key_full(stage) + 24; }
  RWPM_DEVICE uint32_t keys_at(int stage) const { return base + Tile::keys_offset + stage * Tile::key_stage_bytes; }
  RWPM_DEVICE uint32_t values_at(int stage) const {
    return base + Tile::values_offset + stage * Tile::value_stage_bytes;
  }
  RWPM_DEVICE uint32_t factors_offset(int tile) const {
    return Tile::factors_offset + uint32_t(tile % Tile::factor_stages) * Tile::factor_bytes;
  }

  RWPM_DEVICE bool streams(int pixel) const {
    return pixel < step.padded &&
           (!step.streaming_blocks || step.streaming_blocks[step.row(batch, pixel) / block_pixels]);
  }

  // Loads box number `chunk` of a tile: to this block, or to the whole cluster by the block whose turn it is.
  RWPM_DEVICE void issue_load(uint32_t to, const CUtensorMap* map, uint32_t barrier, int chunk, int channel,
                              int pixel) const {
    if (cluster_size == 1)
      cp_async_bulk_tensor_3d(to, map, barrier, channel, pixel, batch);
    else if (uint32_t(chunk) % cluster_size == cluster_rank)
      cp_async_bulk_tensor_3d_multicast(to, map, barrier, uint16_t((1u << cluster_size) - 1), channel, pixel, batch);
  }

  RWPM_DEVICE void load_keys(int tile) const {
    const int stage = tile % stages, first = tile * KEYS;
    const uint32_t to = keys_at(stage), full = key_full(stage);
    mbarrier_wait_parity(key_empty(stage), uint32_t(tile / stages + 1) & 1);
    fence_proxy_async();  // threads have read the factors that were there
    const int left = step.padded - first;
    const uint32_t factor_bytes = uint32_t(left < KEYS ? left : KEYS) * 4;
    mbarrier_arrive_expect_tx(full, Tile::key_bytes + factor_bytes * (step.adjoint ? factor_count : 1));
    for (int c = 0; c < Tile::key_chunks; ++c)
      issue_load(to + c * KEYS * chunk_row_bytes, &maps.key, full, c, c * chunk_channels, first);
    if (Tile::key_tail)
      issue_load(to + Tile::key_chunks * KEYS * chunk_row_bytes, &maps.key_tail, full, Tile::key_chunks,
                 Tile::key_chunks * chunk_channels, first);
    const uint32_t factors = base + factors_offset(tile);
    cp_async_bulk(factors, step.inv_norm + step.row(batch, first), factor_bytes, full);
    if (!step.adjoint) return;
    cp_async_bulk(factors + KEYS * 4, step.row_max + step.row(batch, first), factor_bytes, full);
    cp_async_bulk(factors + 2 * KEYS * 4, step.inv_row_sum + step.row(batch, first), factor_bytes, full);
  }

  RWPM_DEVICE void load_values(int tile) const {
    const int stage = tile % stages, first = tile * KEYS;
    const uint32_t to = values_at(stage), full = value_full(stage);
    mbarrier_wait_parity(value_empty(stage), uint32_t(tile / stages + 1) & 1);
    mbarrier_arrive_expect_tx(full, Tile::value_bytes);
    for (int c = 0; c < WIDE / chunk_channels; ++c)
      issue_load(to + c * KEYS * chunk_row_bytes, &maps.value, full, c, channel + c * chunk_channels, first);
    if (TAIL) issue_load(to + KEYS * WIDE * 2, &maps.value_tail, full, WIDE / chunk_channels, channel + WIDE, first);
  }

  RWPM_DEVICE void produce() const {
    constexpr int chunks = Tile::key_chunks;
    mbarrier_arrive_expect_tx(query_full(), Tile::query_bytes);
    for (int c = 0; c < chunks; ++c)
      cp_async_bulk_tensor_3d(base + c * Tile::rows * chunk_row_bytes, &maps.query, query_full(), c * chunk_channels,
                              first_query, batch);
    if (Tile::key_tail)
      cp_async_bulk_tensor_3d(base + chunks * Tile::rows * chunk_row_bytes, &maps.query_tail, query_full(),
                              chunks * chunk_channels, first_query, batch);
    // Keys are loaded one tile ahead of the values, in the order of their use.
    for (int tile = 0; tile <= tiles; ++tile) {
      if (tile < tiles) load_keys(tile);
      if (tile > 0) load_values(tile - 1);
    }
  }

  // Starts scores = queries times keys of a tile.
  RWPM_DEVICE void multiply_keys(int tile, int group, float (&scores)[KEYS / 2]) const {
    const int stage = tile % stages;
    mbarrier_wait_parity(key_full(stage), uint32_t(tile / stages) & 1);
    wgmma_fence();
    const uint32_t queries_at = opaque(base);
    const uint64_t query = kmajor_descriptor(queries_at + group * 64 * chunk_row_bytes, chunk_row_bytes);
    const uint64_t key = kmajor_descriptor(keys_at(stage), chunk_row_bytes);
#pragma unroll
    for (int k = 0; k < Tile::key_chunks * 4; ++k) {
      const uint32_t column_bytes = k % 4 * 32;
      wgmma_ss<KEYS>(scores, advance(query, k / 4 * Tile::rows * chunk_row_bytes + column_bytes),
                     advance(key, k / 4 * KEYS * chunk_row_bytes + column_bytes), k > 0);
    }
    if constexpr (Tile::key_tail > 0) {
      constexpr int row_bytes = Tile::key_tail * 2, chunks = Tile::key_chunks;
      wgmma_ss<KEYS>(
          scores,
          kmajor_descriptor(queries_at + chunks * Tile::rows * chunk_row_bytes + group * 64 * row_bytes, row_bytes),
          kmajor_descriptor(keys_at(stage) + chunks * KEYS * chunk_row_bytes, row_bytes), true);
    }
    wgmma_commit_group();
  }

  // What a thread holds in addition to the scores of a tile: its sums, and the weights that multiply the values.
  struct Accumulators {
    float wide[WIDE ? WIDE / 2 : 1] = {}, tail[TAIL ? TAIL / 2 : 1] = {};
    uint32_t weights[KEYS / 16][4];
  };

  // Starts sums += weights times values of a tile.
  RWPM_DEVICE void multiply_values(int tile, Accumulators& sums) const {
    const int stage = tile % stages;
    mbarrier_wait_parity(value_full(stage), uint32_t(tile / stages) & 1);
    keep_in_registers(sums.weights);
    wgmma_fence();
    const uint64_t value = mnmajor_descriptor(values_at(stage), chunk_row_bytes, KEYS * chunk_row_bytes);
    const uint64_t value_tail = mnmajor_descriptor(values_at(stage) + KEYS * WIDE * 2, TAIL * 2, 16);
#pragma unroll
    for (int k = 0; k < KEYS / 16; ++k) {
      if constexpr (WIDE > 0) wgmma_rs<WIDE>(sums.wide, sums.weights[k], advance(value, k * 16 * chunk_row_bytes));
      if constexpr (TAIL > 0) wgmma_rs<TAIL>(sums.tail, sums.weights[k], advance(value_tail, k * 16 * TAIL * 2));
    }
    wgmma_commit_group();
  }

  // A warp no longer needs a stage: arrives at its empty barrier in every block that loads to this one.
  RWPM_DEVICE void release_stage(uint32_t empty, int lane) const {
    if (uint32_t(lane) < cluster_size) mbarrier_arrive_cluster(empty, uint32_t(lane));
  }

  RWPM_DEVICE void make_tile_weights(float (&scores)[KEYS / 2], const RowPair& rows, int tile, int group,
                                     int lane) const {
    const int first = tile * KEYS, group_row = first_query + group * 64;
    const float* factors = reinterpret_cast<const float*>(shared + factors_offset(tile));
    make_weights<KEYS>(scores, step, rows, factors, first, first < group_row + 64 && group_row < first + KEYS, lane);
  }

  // After the wait for the product of a tile's keys: its scores may be read, its stage be loaded again.
  RWPM_DEVICE void finish_keys(int tile, int lane, float (&scores)[KEYS / 2]) const {
    keep_in_registers(scores);
    release_stage(key_empty(tile % stages), lane);
  }

  // Adds one tile to the sums, given its scores, while the scores of the next tile are computed.
  RWPM_DEVICE void process_tile(int tile, const RowPair& rows, int group, int lane, float (&scores)[KEYS / 2],
                                float (&next_scores)[KEYS / 2], Accumulators& sums) const {
    multiply_keys(tile + 1, group, next_scores);
    make_tile_weights(scores, rows, tile, group, lane);
    wgmma_wait_group<1>();  // for the previous tile's values, whose product reads the weights
    keep_in_registers(scores);
    if (tile > 0) release_stage(value_empty((tile - 1) % stages), lane);
    pack_weights<KEYS>(sums.weights, scores);
    multiply_values(tile, sums);
    wgmma_wait_group<1>();
    finish_keys(tile + 1, lane, next_scores);
  }

  RWPM_DEVICE void process_last_tile(const RowPair& rows, int group, int lane, float (&scores)[KEYS / 2],
                                     Accumulators& sums) const {
    make_tile_weights(scores, rows, tiles - 1, group, lane);
    wgmma_wait_group<0>();
    keep_in_registers(scores);
    if (tiles > 1) release_stage(value_empty((tiles - 2) % stages), lane);
    pack_weights<KEYS>(sums.weights, scores);
    multiply_values(tiles - 1, sums);
  }

  // The main loop where registers hold the scores of two tiles: while a tile's weights are made, the products of the
  // next tile's keys and of the previous tile's values run.
  RWPM_DEVICE void mainloop_overlap_keys(const RowPair& rows, int group, int lane, Accumulators& sums) const {
    float scores[KEYS / 2], next_scores[KEYS / 2];
    multiply_keys(0, group, scores);
    wgmma_wait_group<0>();
    finish_keys(0, lane, scores);
    int tile = 0;
    for (; tile + 2 < tiles; tile += 2) {
      process_tile(tile, rows, group, lane, scores, next_scores, sums);
      process_tile(tile + 1, rows, group, lane, next_scores, scores, sums);
    }
    if (tile + 1 < tiles) {
      process_tile(tile, rows, group, lane, scores, next_scores, sums);
      process_last_tile(rows, group, lane, next_scores, sums);
    } else {
      process_last_tile(rows, group, lane, scores, sums);
    }
  }

  // The main loop where registers hold the scores of one tile: while its weights are made, only the product of the
  // previous tile's values runs.
  RWPM_DEVICE void mainloop_overlap_values(const RowPair& rows, int group, int lane, Accumulators& sums) const {
    {
      float scores[KEYS / 2];
      multiply_keys(0, group, scores);
      wgmma_wait_group<0>();
      finish_keys(0, lane, scores);
      make_tile_weights(scores, rows, 0, group, lane);
      pack_weights<KEYS>(sums.weights, scores);
    }
    for (int tile = 1; tile < tiles; ++tile) {
      float scores[KEYS / 2];
      multiply_keys(tile, group, scores);
      multiply_values(tile - 1, sums);
      wgmma_wait_group<1>();
      finish_keys(tile, lane, scores);
      make_tile_weights(scores, rows, tile, group, lane);
      wgmma_wait_group<0>();
      keep_in_registers(scores);  // the product with the values reads the packed weights until here
      release_stage(value_empty((tile - 1) % stages), lane);
      pack_weights<KEYS>(sums.weights, scores);
    }
    multiply_values(tiles - 1, sums);
  }

  RWPM_DEVICE void consume() const {
    const int group = shfl_sync_lane0(int(threadIdx.x) / 128 - 1);
    const int warp = int(threadIdx.x) / 32 % 4, lane = int(threadIdx.x) % 32;
    RowPair rows = load_rows(step, batch, first_query + group * 64 + warp * 16 + lane / 4);
    Accumulators sums;
    mbarrier_wait_parity(query_full(), 0);
    if constexpr (Tile::overlap_keys)
      mainloop_overlap_keys(rows, group, lane, sums);
    else
      mainloop_overlap_values(rows, group, lane, sums);
    wgmma_wait_group<0>();
    keep_in_registers(sums.wide);
    keep_in_registers(sums.tail);
    rows.valid &= streams(first_query);
    if constexpr (WIDE > 0) store_target<WIDE>(sums.wide, step, batch, rows, channel, lane);
    if constexpr (TAIL > 0) store_target<TAIL>(sums.tail, step, batch, rows, channel + WIDE, lane);
  }
};

}  // namespace rwpm::cuda
