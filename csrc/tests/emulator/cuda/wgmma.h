// Stands in for csrc/cuda/wgmma.h: the same functions on the emulator, as the PTX manual defines the instructions. Each
// thread lists the products that it has issued; the last thread of a warpgroup to wait does the work of all.
#pragma once

#include "cuda/ptx.h"

namespace rwpm::cuda {

inline SyncGroup& this_warpgroup() { return this_block().warpgroups[size_t(this_thread().index / 128)]; }

// The fields of a matrix descriptor, and the elements of the matrix.
struct Descriptor {
  uint32_t start, leading, stride;
  int row_bytes;

  explicit Descriptor(uint64_t bits)
      : start(uint32_t(bits & 0x3fff) << 4),
        leading(uint32_t(bits >> 16 & 0x3fff) << 4),
        stride(uint32_t(bits >> 32 & 0x3fff) << 4),
        row_bytes(bits >> 62 == 1   ? 128
                  : bits >> 62 == 2 ? 64
                                    : 32) {
    require(bits >> 62 != 0 && (bits >> 46 & 0xffff & 0x3fff) == 0, "descriptor: bits that must be zero");
    // Elsewhere it would need the base offset, which says in which row of the swizzle it starts.
    require(start % uint32_t(8 * row_bytes) < uint32_t(row_bytes), "descriptor: not in the first row of a swizzle");
  }

  // K-major: groups of eight rows are a stride apart, rows follow each other; the 16 channels lie in one row.
  float kmajor(int row, int channel) const {
    return at(uint32_t(row / 8) * stride + uint32_t(row % 8 * row_bytes + channel * 2));
  }

  // MN-major: groups of eight rows are a stride apart, chunks of as many columns as a row holds the leading offset
  // apart.
  float mnmajor(int row, int column) const {
    const int chunk = row_bytes / 2;
    return at(uint32_t(column / chunk) * leading + uint32_t(row / 8) * stride +
              uint32_t(row % 8 * row_bytes + column % chunk * 2));
  }

 private:
  float at(uint32_t offset) const {
    return half_to_float(*shared_at<uint16_t>(swizzled(start + offset, row_bytes), 1));
  }
};

// Does product `index` of the oldest group of the calling warpgroup.
inline void run_wgmma(size_t index) {
  const size_t first = size_t(this_thread().index / 128 * 128);
  const auto of = [&](size_t thread) -> Wgmma& { return this_block().threads[first + thread].wgmma_groups[0][index]; };
  const Wgmma& one = of(0);
  const Descriptor a(one.a | uint64_t(one.a_registers ? 1 : 0) << 62), b(one.b);
  std::vector<float> left(64 * 16), right(size_t(16 * one.columns));
  for (size_t thread = 0; thread < 128; ++thread) {
    const Wgmma& p = of(thread);
    require(p.a == one.a && p.b == one.b && p.columns == one.columns, "wgmma: threads do not agree");
    if (!p.a_registers) continue;
    const int warp = int(thread) / 32, lane = int(thread) % 32;
    for (int i = 0; i < 8; ++i)
      left[size_t((warp * 16 + left_row(lane, i)) * 16 + left_column(lane, i))] =
          unpack_half(p.a_registers[i / 2], i % 2);
  }
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64 && !one.a_registers; ++row) left[size_t(row * 16 + k)] = a.kmajor(row, k);
    for (int n = 0; n < one.columns; ++n)
      right[size_t(k * one.columns + n)] = one.a_registers ? b.mnmajor(k, n) : b.kmajor(n, k);
  }
  for (size_t thread = 0; thread < 128; ++thread) {
    const Wgmma& p = of(thread);
    const int warp = int(thread) / 32, lane = int(thread) % 32;
    for (int i = 0; i < p.columns / 2; ++i) {
      const int row = warp * 16 + lane / 4 + (i % 4 >= 2 ? 8 : 0), column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float sum = p.add ? p.d[i] : 0;
      for (int k = 0; k < 16; ++k) sum += left[size_t(row * 16 + k)] * right[size_t(k * p.columns + column)];
      p.d[i] = sum;
    }
  }
}

// Does all committed groups but the last `keep`.
inline void finish_groups(size_t keep) {
  random_delay();
  synchronize(this_warpgroup(), [&] {
    const size_t first = size_t(this_thread().index / 128 * 128);
    auto& own = this_thread().wgmma_groups;
    while (own.size() > keep + 1) {
      for (size_t index = 0; index < own[0].size(); ++index) run_wgmma(index);
      for (size_t i = 0; i < 128; ++i) {
        auto& groups = this_block().threads[first + i].wgmma_groups;
        groups.erase(groups.begin());
      }
    }
  });
}

inline void wgmma_fence() { this_thread().wgmma_fenced = true; }

inline void wgmma_commit_group() {
  this_thread().wgmma_groups.emplace_back();
  if (!cluster->lazy) finish_groups(0);
}

template <int PENDING>
void wgmma_wait_group() {
  finish_groups(PENDING);
  this_thread().wgmma_fenced = false;  // registers may be touched from here on
}

template <int COUNT>
void keep_in_registers(float (&)[COUNT]) {}
template <int COUNT>
void keep_in_registers(uint32_t (&)[COUNT][4]) {}

inline uint32_t opaque(uint32_t x) { return x; }

template <int N>
void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool add) {
  require(this_thread().wgmma_fenced, "wgmma: no fence since its registers could be touched");
  this_thread().wgmma_groups.back().push_back({d, nullptr, a, b, N, add});
}

template <int N>
void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {
  require(this_thread().wgmma_fenced, "wgmma: no fence since its registers could be touched");
  this_thread().wgmma_groups.back().push_back({d, a, 0, b, N, true});
}

}  // namespace rwpm::cuda
