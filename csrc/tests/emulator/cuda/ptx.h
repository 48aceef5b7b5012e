// Stands in for csrc/cuda/ptx.h: the same functions on the emulator, as the PTX manual defines the instructions. What a
// GPU would fault, hang or go wrong at is an error. Shared addresses count from the beginning of a block's shared
// memory, which is aligned to 1024 bytes.
#pragma once

#include <cmath>
#include <limits>

#include "cuda/step.h"
#include "emulator.h"

#define RWPM_DEVICE inline

// A tensor [batch, pixels, channels], and the size of the boxes that are copied from it: what cuTensorMapEncodeTiled
// takes.
struct CUtensorMap {
  const uint16_t* tensor;
  int channels, pixels, batch;
  int box_channels, box_pixels;
};

namespace rwpm::cuda {

using namespace rwpm::emulator;

inline float half_to_float(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const float sign = h >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? std::nanf("") : sign * std::numeric_limits<float>::infinity();
  return sign * (exponent ? std::ldexp(float(1024 + fraction), exponent - 25) : std::ldexp(float(fraction), -24));
}

inline uint16_t float_to_half(float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::fabs(x);
  if (std::isnan(x)) return 0x7fff;
  if (size >= 65520.0f) return sign | 0x7c00;
  if (size == 0) return sign;
  const int exponent = std::max(std::ilogb(size), -14);
  const int scaled = int(std::nearbyint(std::ldexp(size, 10 - exponent)));  // ties to even; 2048 becomes a carry
  return uint16_t(sign + ((exponent + 14) << 10) + scaled);
}

template <typename T>
T* shared_at(uint32_t address, size_t count, const Block& b = this_block()) {
  require(address + count * sizeof(T) <= b.shared_bytes, "shared memory: beyond what the block has");
  return reinterpret_cast<T*>(b.shared + address);
}

inline uint32_t cvta_to_shared(const void* pointer) {
  return uint32_t(static_cast<const char*>(pointer) - this_block().shared);
}

// A thread's earlier proxy fences do not order what it observes by a wait.
inline void expire_proxy_fence() { this_thread().proxy_fenced = false; }

inline void syncthreads() {
  synchronize(this_block().all, [] {});
  expire_proxy_fence();
  random_delay();
}

inline int shfl_sync_lane0(int x) { return x; }

inline float ex2_approx(float x) { return std::exp2(x); }
inline float fmin(float a, float b) { return std::fmin(a, b); }
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }

inline uint32_t cvt_rn_f16x2_f32(float first, float second) {
  return float_to_half(first) | uint32_t(float_to_half(second)) << 16;
}

inline void cvt_f32_f16x2(uint32_t halves, float& first, float& second) {
  first = half_to_float(uint16_t(halves));
  second = half_to_float(uint16_t(halves >> 16));
}

// --- sm_80. Copies are done at the wait for them if lazy, else at once.

inline void cp_async_16(uint32_t to, const void* from, bool valid) {
  require(to % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0, "cp.async: not aligned");
  const auto copy = [=, target = shared_at<char>(to, 16)] {
    if (valid)
      std::memcpy(target, from, 16);
    else
      std::memset(target, 0, 16);
  };
  if (cluster->lazy)
    this_thread().copies.push_back(copy);
  else
    copy();
}

inline void cp_async_commit_group() {
  this_thread().copy_groups.push_back(std::move(this_thread().copies));
  this_thread().copies.clear();
}

inline void cp_async_wait_group_0() {
  for (auto& group : this_thread().copy_groups)
    for (auto& copy : group) copy();
  this_thread().copy_groups.clear();
}

inline SyncGroup& this_warp() { return this_block().warps[size_t(this_thread().index / 32)]; }

// What a lane of the calling warp passes to the instruction.
template <typename T>
T* operand(int lane) {
  return static_cast<T*>(const_cast<void*>(this_block().threads[size_t(this_thread().index / 32 * 32 + lane)].operand));
}

struct LdmatrixOperand {
  uint32_t* to;
  uint32_t row;
};

// PTX ISA, ldmatrix: lanes 8 m .. 8 m + 7 pass the rows of matrix m; lane l gets of each matrix columns 2 (l % 4) and
// 2 (l % 4) + 1 of row l / 4, or, transposed, rows 2 (l % 4) and 2 (l % 4) + 1 of column l / 4.
inline void ldmatrix(uint32_t (&m)[4], uint32_t row, bool transposed) {
  require(row % 16 == 0, "ldmatrix: not aligned");
  LdmatrixOperand own = {m, row};
  this_thread().operand = &own;
  synchronize(this_warp(), [&] {
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t element[8][8];
      for (int r = 0; r < 8; ++r)
        std::memcpy(element[r], shared_at<char>(operand<LdmatrixOperand>(matrix * 8 + r)->row, 16), 16);
      for (int lane = 0; lane < 32; ++lane) {
        const int major = lane / 4, minor = lane % 4 * 2;
        const uint32_t low = transposed ? element[minor][major] : element[major][minor];
        const uint32_t high = transposed ? element[minor + 1][major] : element[major][minor + 1];
        operand<LdmatrixOperand>(lane)->to[matrix] = low | high << 16;
      }
    }
  });
}

inline void ldmatrix_x4(uint32_t (&m)[4], uint32_t row) { ldmatrix(m, row, false); }
inline void ldmatrix_x4_trans(uint32_t (&m)[4], uint32_t row) { ldmatrix(m, row, true); }

struct MmaOperand {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

inline float unpack_half(uint32_t pair, int which) { return half_to_float(uint16_t(pair >> 16 * which)); }

// Row and column in a [16, 16] left operand of element i, 0..7, of a lane (PTX ISA, mma.m16n8k16 and wgmma).
inline int left_row(int lane, int i) { return lane / 4 + (i / 2 % 2 ? 8 : 0); }
inline int left_column(int lane, int i) { return lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0); }

inline void mma_m16n8k16(float* d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MmaOperand own = {d, a, {b0, b1}};
  this_thread().operand = &own;
  synchronize(this_warp(), [] {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const MmaOperand& p = *operand<MmaOperand>(lane);
      for (int i = 0; i < 8; ++i) left[left_row(lane, i)][left_column(lane, i)] = unpack_half(p.a[i / 2], i % 2);
      for (int i = 0; i < 4; ++i)
        right[lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0)][lane / 4] = unpack_half(p.b[i / 2], i % 2);
    }
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
        float sum = operand<MmaOperand>(lane)->d[i];
        for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
        operand<MmaOperand>(lane)->d[i] = sum;
      }
  });
}

// --- sm_90.

inline Mbarrier& barrier_at(uint32_t address, Block& b = this_block()) {
  require(b.barriers.count(address) == 1, "mbarrier: used before it was initialized");
  return b.barriers.at(address);
}

inline void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
  require(barrier % 8 == 0, "mbarrier: not aligned");
  require(arrivals > 0 && arrivals < 1 << 20, "mbarrier: invalid number of arrivals");
  require(!this_block().barriers.count(barrier), "mbarrier: initialized twice");
  shared_at<uint64_t>(barrier, 1);
  this_block().barriers[barrier] = {int(arrivals), int(arrivals)};
  this_block().barriers_visible = false;
}

inline void fence_mbarrier_init() { this_block().barriers_visible = true; }
inline void fence_proxy_async() { this_thread().proxy_fenced = true; }

inline void arrive(Mbarrier& barrier) {
  require(barrier.pending > 0, "mbarrier: more arrivals than expected");
  --barrier.pending;
  barrier.complete_phase_if_done();
  ++cluster->progress;
}

inline void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
  barrier_at(barrier).pending_bytes += bytes;
  arrive(barrier_at(barrier));
}

inline void mbarrier_arrive_cluster(uint32_t barrier, uint32_t rank) {
  Block& target = *cluster->blocks.at(rank);
  require(!target.ended(), "mbarrier: its block has ended");
  require(target.barriers_visible, "mbarrier: not made visible to the cluster");
  arrive(barrier_at(barrier, target));
  random_delay();
}

inline void mbarrier_wait_parity(uint32_t barrier, uint32_t parity) {
  random_delay();
  // A parity cannot tell phases that are two apart: each thread must wait for every phase in turn.
  const auto last = this_thread().last_phase.find(barrier);
  const int64_t phase = last == this_thread().last_phase.end() ? -int64_t(parity) : last->second + 1;
  require((phase & 1) == parity, "mbarrier: a wait for another phase than the next");
  wait_until([&] { return (barrier_at(barrier).phase & 1) != parity; });
  require(barrier_at(barrier).phase == phase + 1, "mbarrier: two phases completed since the last wait");
  this_thread().last_phase[barrier] = phase;
  expire_proxy_fence();
}

inline void copy_later(std::function<void()> run) {
  cluster->pending_copies.push_back({cluster->random_below(6), std::move(run)});
}

// Where a copy to a block writes.
inline char* copy_target(uint32_t to, uint32_t bytes, const Block& b) {
  for (const auto& [barrier, state] : b.barriers)
    require(barrier + 8 <= to || to + bytes <= barrier, "copy: over an mbarrier");
  return shared_at<char>(to, bytes, b);
}

inline void complete_tx(uint32_t barrier, Block& b, uint32_t bytes) {
  require(b.barriers_visible, "mbarrier: not made visible to TMA");
  Mbarrier& state = barrier_at(barrier, b);
  state.pending_bytes -= bytes;
  state.complete_phase_if_done();
}

// The swizzle by which TMA writes and wgmma reads: bits 4.. of an address are exclusive-or-ed with bits 7.., three of
// them where a row is 128 bytes, two at 64, one at 32.
inline uint32_t swizzled(uint32_t address, int row_bytes) {
  const uint32_t bits = row_bytes == 128 ? 7 : row_bytes == 64 ? 3 : 1;
  return address ^ (address >> 7 & bits) << 4;
}

// The requirements of cuTensorMapEncodeTiled (cuda.h).
inline void check_map(const CUtensorMap& map) {
  require(reinterpret_cast<uintptr_t>(map.tensor) % 16 == 0 && map.channels % 8 == 0, "tensor map: not aligned");
  require(map.channels > 0 && map.pixels > 0 && map.batch > 0, "tensor map: empty");
  require(map.box_channels == 16 || map.box_channels == 32 || map.box_channels == 64, "tensor map: no such swizzle");
  require(map.box_pixels > 0 && map.box_pixels <= 256, "tensor map: too large a box");
}

inline void cp_async_bulk_tensor_3d_multicast(uint32_t to, const CUtensorMap* map, uint32_t barrier, uint16_t blocks,
                                              int channel, int pixel, int batch) {
  check_map(*map);
  const int row_bytes = map->box_channels * 2;
  require(to % uint32_t(8 * row_bytes) == 0, "copy of a box: not at a whole swizzle");
  require(blocks >> cluster->blocks.size() == 0, "copy of a box: to a block that is not in the cluster");
  for (auto& b : cluster->blocks) {
    if (!(blocks >> b->rank & 1)) continue;
    copy_later([=, target = b.get(), map = *map] {
      char* const box = copy_target(to, uint32_t(map.box_pixels * row_bytes), *target);
      for (int row = 0; row < map.box_pixels; ++row)
        for (int c = 0; c < map.box_channels; ++c) {
          const bool inside = pixel + row < map.pixels && channel + c < map.channels;
          const int64_t offset = (int64_t(batch) * map.pixels + pixel + row) * map.channels + channel + c;
          const uint32_t place = swizzled(to + uint32_t(row * row_bytes + c * 2), row_bytes) - to;
          reinterpret_cast<uint16_t*>(box + place)[0] = inside ? map.tensor[offset] : 0;
        }
      require(!target->ended(), "copy of a box: its block has ended");
      complete_tx(barrier, *target, uint32_t(map.box_pixels * row_bytes));
    });
  }
}

inline uint32_t cluster_ctarank() { return this_block().rank; }
inline uint32_t cluster_nctarank() { return uint32_t(cluster->blocks.size()); }

inline void cp_async_bulk_tensor_3d(uint32_t to, const CUtensorMap* map, uint32_t barrier, int channel, int pixel,
                                    int batch) {
  cp_async_bulk_tensor_3d_multicast(to, map, barrier, uint16_t(1u << cluster_ctarank()), channel, pixel, batch);
}

// What it loads is read by threads, in another proxy than that of a later copy over it: hence the fence.
inline void cp_async_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  require(to % 16 == 0 && bytes % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0, "bulk copy: not aligned");
  require(this_thread().proxy_fenced, "bulk copy: no fence between the proxies since the last wait");
  copy_later([=, target = &this_block()] {
    std::memcpy(copy_target(to, bytes, *target), from, bytes);
    complete_tx(barrier, *target, bytes);
  });
}

inline void barrier_cluster_arrive_wait() {
  synchronize(cluster->all, [] {});
  expire_proxy_fence();
}

template <int REGISTERS>
void setmaxnreg_inc() {
  static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0, "setmaxnreg: no such number");
  const int more = REGISTERS - this_thread().registers;
  require(more >= 0, "setmaxnreg: fewer than it has");
  wait_until([&] { return this_block().free_registers >= more; });
  this_block().free_registers -= more;
  this_thread().registers = REGISTERS;
}

template <int REGISTERS>
void setmaxnreg_dec() {
  static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0, "setmaxnreg: no such number");
  require(REGISTERS <= this_thread().registers, "setmaxnreg: more than it has");
  this_block().free_registers += this_thread().registers - REGISTERS;
  this_thread().registers = REGISTERS;
}

}  // namespace rwpm::cuda
