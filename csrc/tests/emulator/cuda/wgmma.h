// The instructions of cuda/wgmma.h as the PTX manual defines them. Each thread keeps its own list of the products it
// has asked for; the last thread of a warpgroup to wait does the work of all.
#pragma once

#include "cuda/ptx.h"

namespace rwpm::cuda {

inline Meeting& warpgroup() { return block().warpgroups[size_t(self().number / 128)]; }

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
    // Else the base offset would tell in which row of the pattern it starts.
    require(start % uint32_t(8 * row_bytes) < uint32_t(row_bytes), "descriptor: not in the first row of a swizzle");
  }

  // K-major: groups of eight rows are a stride apart, rows follow each other; the 16 channels lie in one row.
  float of_channels(int row, int channel) const {
    return at(uint32_t(row / 8) * stride + uint32_t(row % 8 * row_bytes + channel * 2));
  }

  // MN-major: eight rows are a stride apart, pieces as long as a row are the leading offset apart.
  float of_rows(int row, int column) const {
    const int piece = row_bytes / 2;
    return at(uint32_t(column / piece) * leading + uint32_t(row / 8) * stride +
              uint32_t(row % 8 * row_bytes + column % piece * 2));
  }

 private:
  float at(uint32_t offset) const {
    return float_of_half(*shared_at<uint16_t>(swizzled(start + offset, row_bytes), 1));
  }
};

inline void multiply_group(size_t number) {
  const size_t first = size_t(self().number / 128 * 128);
  const auto of = [&](size_t thread) -> GroupProduct& { return block().threads[first + thread].products[0][number]; };
  const GroupProduct& one = of(0);
  const Descriptor a(one.a | uint64_t(one.registers ? 1 : 0) << 62), b(one.b);
  std::vector<float> left(64 * 16), right(size_t(16 * one.columns));
  for (size_t thread = 0; thread < 128; ++thread) {
    const GroupProduct& p = of(thread);
    require(p.a == one.a && p.b == one.b && p.columns == one.columns, "wgmma: threads do not agree");
    if (!p.registers) continue;
    const int warp = int(thread) / 32, lane = int(thread) % 32;
    for (int i = 0; i < 8; ++i)
      left[size_t((warp * 16 + left_row(lane, i)) * 16 + left_column(lane, i))] = half_of(p.registers[i / 2], i % 2);
  }
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64 && !one.registers; ++row) left[size_t(row * 16 + k)] = a.of_channels(row, k);
    for (int n = 0; n < one.columns; ++n)
      right[size_t(k * one.columns + n)] = one.registers ? b.of_rows(k, n) : b.of_channels(n, k);
  }
  for (size_t thread = 0; thread < 128; ++thread) {
    const GroupProduct& p = of(thread);
    const int warp = int(thread) / 32, lane = int(thread) % 32;
    for (int i = 0; i < p.columns / 2; ++i) {
      const int row = warp * 16 + lane / 4 + (i % 4 >= 2 ? 8 : 0), column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float sum = p.add ? p.d[i] : 0;
      for (int k = 0; k < 16; ++k) sum += left[size_t(row * 16 + k)] * right[size_t(k * p.columns + column)];
      p.d[i] = sum;
    }
  }
}

// Does all groups but the last `keep`, of which the open one, not committed yet, is none.
inline void finish_products(size_t keep) {
  stall();
  meet(warpgroup(), [&] {
    const size_t first = size_t(self().number / 128 * 128);
    auto& mine = self().products;
    while (mine.size() > keep + 1) {
      for (size_t number = 0; number < mine[0].size(); ++number) multiply_group(number);
      for (size_t i = 0; i < 128; ++i) {
        auto& groups = block().threads[first + i].products;
        groups.erase(groups.begin());
      }
    }
  });
}

inline void fence_products() { self().products_fenced = true; }

inline void commit_products() {
  self().products.emplace_back();
  if (!cluster->lazy) finish_products(0);
}

template <int PENDING>
void wait_for_products() {
  finish_products(PENDING);
  self().products_fenced = false;  // registers may be touched from here on
}

template <int COUNT>
void settle(float (&)[COUNT]) {}
template <int COUNT>
void settle(uint32_t (&)[COUNT][4]) {}

inline uint32_t made_here(uint32_t x) { return x; }

template <int N>
void multiply_channels(float (&d)[N / 2], uint64_t a, uint64_t b, bool add) {
  require(self().products_fenced, "wgmma: no fence since its registers could be touched");
  self().products.back().push_back({d, nullptr, a, b, N, add});
}

template <int N>
void multiply_rows(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {
  require(self().products_fenced, "wgmma: no fence since its registers could be touched");
  self().products.back().push_back({d, a, 0, b, N, true});
}

}  // namespace rwpm::cuda
