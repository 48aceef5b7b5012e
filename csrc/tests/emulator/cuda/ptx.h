// The instructions of cuda/ptx.h as the PTX manual defines them, for tests/emulator.h. Shared addresses count from the
// beginning of a block's shared memory, which lies at a multiple of 1024.
#pragma once

#include <cmath>
#include <limits>

#include "cuda/step.h"
#include "emulator.h"

#define RWPM_DEVICE inline

// A tensor [batch, pixels, channels], and the box that is copied of it: what cuTensorMapEncodeTiled is told.
struct CUtensorMap {
  const uint16_t* table;
  int channels, pixels, batch;
  int box_channels, box_pixels;
};

namespace rwpm::cuda {

using namespace rwpm::emulator;

inline float float_of_half(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const float sign = h >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? std::nanf("") : sign * std::numeric_limits<float>::infinity();
  return sign * (exponent ? std::ldexp(float(1024 + fraction), exponent - 25) : std::ldexp(float(fraction), -24));
}

inline uint16_t half_of_float(float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::fabs(x);
  if (std::isnan(x)) return 0x7fff;
  if (size >= 65520.0f) return sign | 0x7c00;
  if (size == 0) return sign;
  const int exponent = std::max(std::ilogb(size), -14);
  const int scaled = int(std::nearbyint(std::ldexp(size, 10 - exponent)));  // ties to even; 2048 carries on by itself
  return uint16_t(sign + ((exponent + 14) << 10) + scaled);
}

template <typename T>
T* shared_at(uint32_t address, size_t count, const Block& b = block()) {
  require(address + count * sizeof(T) <= b.shared_bytes, "shared memory: beyond what the block has");
  return reinterpret_cast<T*>(b.shared + address);
}

inline uint32_t shared_address(const void* pointer) {
  return uint32_t(static_cast<const char*>(pointer) - block().shared);
}

// What a thread has learned by waiting, its fences of before do not order.
inline void learned() { self().proxies_fenced = false; }

inline void sync_block() {
  meet(block().all, [] {});
  learned();
  stall();
}

inline int uniform(int x) { return x; }

inline float exp2_approximate(float x) { return std::exp2(x); }
inline float smaller(float a, float b) { return std::fmin(a, b); }
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }

inline uint32_t pack_halves(float first, float second) {
  return half_of_float(first) | uint32_t(half_of_float(second)) << 16;
}

inline void unpack_halves(uint32_t halves, float& first, float& second) {
  first = float_of_half(uint16_t(halves));
  second = float_of_half(uint16_t(halves >> 16));
}

// --- sm_80. Copies are done at the wait for them, or at once.

inline void copy_16(uint32_t to, const void* from, bool there) {
  require(to % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0, "copy_16: not aligned");
  const auto copy = [=, target = shared_at<char>(to, 16)] {
    if (there)
      std::memcpy(target, from, 16);
    else
      std::memset(target, 0, 16);
  };
  if (cluster->lazy)
    self().open.push_back(copy);
  else
    copy();
}

inline void commit_copies() {
  self().groups.push_back(std::move(self().open));
  self().open.clear();
}

inline void wait_for_copies() {
  for (auto& group : self().groups)
    for (auto& copy : group) copy();
  self().groups.clear();
}

// What the 32 lanes of the calling warp brought.
template <typename T>
T* operand(int lane) {
  return static_cast<T*>(const_cast<void*>(block().threads[size_t(self().number / 32 * 32 + lane)].operand));
}

struct Matrices {
  uint32_t* to;
  uint32_t row;
};

// PTX ISA, ldmatrix: lanes 8 m .. 8 m + 7 point to the rows of matrix m; lane l gets of each matrix columns 2 (l % 4)
// and the next of row l / 4, or, transposed, rows 2 (l % 4) and the next of column l / 4.
inline void load_matrices_of_warp(uint32_t (&m)[4], uint32_t row, bool transposed) {
  require(row % 16 == 0, "ldmatrix: not aligned");
  Matrices mine = {m, row};
  self().operand = &mine;
  meet(block().warps[size_t(self().number / 32)], [&] {
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t element[8][8];
      for (int r = 0; r < 8; ++r)
        std::memcpy(element[r], shared_at<char>(operand<Matrices>(matrix * 8 + r)->row, 16), 16);
      for (int lane = 0; lane < 32; ++lane) {
        const int major = lane / 4, minor = lane % 4 * 2;
        const uint32_t low = transposed ? element[minor][major] : element[major][minor];
        const uint32_t high = transposed ? element[minor + 1][major] : element[major][minor + 1];
        operand<Matrices>(lane)->to[matrix] = low | high << 16;
      }
    }
  });
}

inline void load_matrices(uint32_t (&m)[4], uint32_t row) { load_matrices_of_warp(m, row, false); }
inline void load_matrices_transposed(uint32_t (&m)[4], uint32_t row) { load_matrices_of_warp(m, row, true); }

struct WarpProduct {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

inline float half_of(uint32_t pair, int which) { return float_of_half(uint16_t(pair >> 16 * which)); }

// Row and column in a [16, 16] left operand of element i, 0..7, of a lane (PTX ISA, mma.m16n8k16 and wgmma).
inline int left_row(int lane, int i) { return lane / 4 + (i / 2 % 2 ? 8 : 0); }
inline int left_column(int lane, int i) { return lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0); }

inline void multiply_warp(float* d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  WarpProduct mine = {d, a, {b0, b1}};
  self().operand = &mine;
  meet(block().warps[size_t(self().number / 32)], [] {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const WarpProduct& p = *operand<WarpProduct>(lane);
      for (int i = 0; i < 8; ++i) left[left_row(lane, i)][left_column(lane, i)] = half_of(p.a[i / 2], i % 2);
      for (int i = 0; i < 4; ++i) right[lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0)][lane / 4] = half_of(p.b[i / 2], i % 2);
    }
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
        float sum = operand<WarpProduct>(lane)->d[i];
        for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
        operand<WarpProduct>(lane)->d[i] = sum;
      }
  });
}

// --- sm_90.

inline Barrier& barrier_at(uint32_t address, Block& b = block()) {
  require(b.barriers.count(address) == 1, "mbarrier: used before it was made");
  return b.barriers.at(address);
}

inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
  require(barrier % 8 == 0, "mbarrier: not aligned");
  require(arrivals > 0 && arrivals < 1 << 20 && !block().barriers.count(barrier), "mbarrier: not to be made so");
  shared_at<uint64_t>(barrier, 1);
  block().barriers[barrier] = {int(arrivals), int(arrivals)};
  block().barriers_known = false;
}

inline void fence_barriers() { block().barriers_known = true; }
inline void fence_proxies() { self().proxies_fenced = true; }

inline void arrive(Barrier& barrier) {
  require(barrier.pending > 0, "mbarrier: more arrivals than expected");
  --barrier.pending;
  barrier.settle();
  ++cluster->progress;
}

inline void barrier_expect(uint32_t barrier, uint32_t bytes) {
  barrier_at(barrier).bytes += bytes;
  arrive(barrier_at(barrier));
}

inline void barrier_arrive(uint32_t barrier, uint32_t rank) {
  Block& there = *cluster->blocks.at(rank);
  require(!there.ended(), "mbarrier: its block has ended");
  require(there.barriers_known, "mbarrier: not made known to the cluster");
  arrive(barrier_at(barrier, there));
  stall();
}

inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  stall();
  // A parity tells a phase from the one before and the one after: whoever misses two has lost count.
  const auto last = self().waited.find(barrier);
  const int64_t phase = last == self().waited.end() ? -int64_t(parity) : last->second + 1;
  require((phase & 1) == parity, "mbarrier: a wait for another phase than the next");
  wait_until([&] { return (barrier_at(barrier).phase & 1) != parity; });
  require(barrier_at(barrier).phase == phase + 1, "mbarrier: two phases on since the last wait");
  self().waited[barrier] = phase;
  learned();
}

inline void later(std::function<void()> run) { cluster->late.push_back({cluster->pick(6), std::move(run)}); }

// Where a copy goes, of a block.
inline char* target_of(uint32_t to, uint32_t bytes, const Block& b) {
  for (const auto& [barrier, state] : b.barriers)
    require(barrier + 8 <= to || to + bytes <= barrier, "copy: over an mbarrier");
  return shared_at<char>(to, bytes, b);
}

inline void arrived(uint32_t barrier, Block& b, uint32_t bytes) {
  require(b.barriers_known, "mbarrier: not made known to the copy engine");
  Barrier& at = barrier_at(barrier, b);
  at.bytes -= bytes;
  at.settle();
}

// The pattern in which the copy engine writes and wgmma reads: bits 4.. of an address are exclusive-or-ed with
// bits 7.., three of them where a row is 128 bytes, two at 64, one at 32.
inline uint32_t swizzled(uint32_t address, int row_bytes) {
  const uint32_t bits = row_bytes == 128 ? 7 : row_bytes == 64 ? 3 : 1;
  return address ^ (address >> 7 & bits) << 4;
}

// cuda.h, cuTensorMapEncodeTiled: what a map must keep to.
inline void check_map(const CUtensorMap& map) {
  require(reinterpret_cast<uintptr_t>(map.table) % 16 == 0 && map.channels % 8 == 0, "tensor map: not aligned");
  require(map.channels > 0 && map.pixels > 0 && map.batch > 0, "tensor map: empty");
  require(map.box_channels == 16 || map.box_channels == 32 || map.box_channels == 64, "tensor map: no such swizzle");
  require(map.box_pixels > 0 && map.box_pixels <= 256, "tensor map: too large a box");
}

inline void copy_box_to_all(uint32_t to, const CUtensorMap* map, uint32_t barrier, uint16_t blocks, int channel,
                            int pixel, int batch) {
  check_map(*map);
  const int row_bytes = map->box_channels * 2;
  require(to % uint32_t(8 * row_bytes) == 0, "copy of a box: not at a whole swizzle");
  require(blocks >> cluster->blocks.size() == 0, "copy of a box: to a block that is not in the cluster");
  for (auto& b : cluster->blocks) {
    if (!(blocks >> b->rank & 1)) continue;
    later([=, target = b.get(), map = *map] {
      char* const box = target_of(to, uint32_t(map.box_pixels * row_bytes), *target);
      for (int row = 0; row < map.box_pixels; ++row)
        for (int c = 0; c < map.box_channels; ++c) {
          const bool inside = pixel + row < map.pixels && channel + c < map.channels;
          const int64_t at = (int64_t(batch) * map.pixels + pixel + row) * map.channels + channel + c;
          const uint32_t place = swizzled(to + uint32_t(row * row_bytes + c * 2), row_bytes) - to;
          reinterpret_cast<uint16_t*>(box + place)[0] = inside ? map.table[at] : 0;
        }
      require(!target->ended(), "copy of a box: its block has ended");
      arrived(barrier, *target, uint32_t(map.box_pixels * row_bytes));
    });
  }
}

inline uint32_t cluster_rank() { return block().rank; }
inline uint32_t cluster_size() { return uint32_t(cluster->blocks.size()); }

inline void copy_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int channel, int pixel, int batch) {
  copy_box_to_all(to, map, barrier, uint16_t(1u << cluster_rank()), channel, pixel, batch);
}

// Threads read by themselves what it brings, in another proxy than that of the copy which comes after.
inline void copy_bytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  require(to % 16 == 0 && bytes % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0, "bulk copy: not aligned");
  require(self().proxies_fenced, "bulk copy: no fence between the proxies since the last wait");
  later([=, target = &block()] {
    std::memcpy(target_of(to, bytes, *target), from, bytes);
    arrived(barrier, *target, bytes);
  });
}

inline void sync_cluster() {
  meet(cluster->all, [] {});
  learned();
}

template <int REGISTERS>
void take_registers() {
  static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0, "setmaxnreg: no such number");
  const int more = REGISTERS - self().registers;
  require(more >= 0, "setmaxnreg: fewer than it has");
  wait_until([&] { return block().free_registers >= more; });
  block().free_registers -= more;
  self().registers = REGISTERS;
}

template <int REGISTERS>
void give_registers() {
  static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0, "setmaxnreg: no such number");
  require(REGISTERS <= self().registers, "setmaxnreg: more than it has");
  block().free_registers += self().registers - REGISTERS;
  self().registers = REGISTERS;
}

}  // namespace rwpm::cuda
