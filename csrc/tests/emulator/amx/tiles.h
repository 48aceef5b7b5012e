// AMX tiles in software: included before a source that uses the intrinsics, which it replaces under their names, so
// that the kernels run where the processor has AVX-512 but no tiles.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace rwpm::emulator::amx {

constexpr int tile_count = 8, max_rows = 16, max_row_bytes = 64;

struct Tile {
  int rows, row_bytes;
  alignas(64) uint8_t content[max_rows][max_row_bytes];
};

inline thread_local Tile tiles[tile_count];

// The 64 bytes of a configuration: palette, start row, 14 reserved; bytes of a row, 16 numbers; rows, 16 numbers.
inline void load_configuration(const void* configuration) {
  const auto* const bytes = static_cast<const uint8_t*>(configuration);
  for (int t = 0; t < tile_count; ++t) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * t, sizeof(row_bytes));
    tiles[t] = {bytes[48 + t], row_bytes, {}};
  }
}

inline void release() { std::memset(tiles, 0, sizeof(tiles)); }

inline void zero(int t) { std::memset(tiles[t].content, 0, sizeof(tiles[t].content)); }

inline void load(int t, const void* base, int64_t stride) {
  zero(t);
  for (int row = 0; row < tiles[t].rows; ++row)
    std::memcpy(tiles[t].content[row], static_cast<const uint8_t*>(base) + row * stride, tiles[t].row_bytes);
}

inline void store(int t, void* base, int64_t stride) {
  for (int row = 0; row < tiles[t].rows; ++row)
    std::memcpy(static_cast<uint8_t*>(base) + row * stride, tiles[t].content[row], tiles[t].row_bytes);
}

inline float from_bfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float x;
  std::memcpy(&x, &wide, sizeof(x));
  return x;
}

// sums[m][n] += a[m][2 k] b[k][2 n] + a[m][2 k + 1] b[k][2 n + 1], float32 of products of bfloat16.
inline void multiply_add_bfloat16(int sums, int a, int b) {
  for (int m = 0; m < tiles[sums].rows; ++m) {
    float sum[max_row_bytes / sizeof(float)];
    std::memcpy(sum, tiles[sums].content[m], sizeof(sum));
    uint16_t left[max_row_bytes / sizeof(uint16_t)], right[max_row_bytes / sizeof(uint16_t)];
    std::memcpy(left, tiles[a].content[m], sizeof(left));
    for (int k = 0; k < tiles[a].row_bytes / 4; ++k) {
      std::memcpy(right, tiles[b].content[k], sizeof(right));
      for (int n = 0; n < tiles[sums].row_bytes / 4; ++n)
        for (int part = 0; part < 2; ++part)
          sum[n] += from_bfloat16(left[2 * k + part]) * from_bfloat16(right[2 * n + part]);
    }
    std::memcpy(tiles[sums].content[m], sum, sizeof(sum));
  }
}

}  // namespace rwpm::emulator::amx

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(configuration) rwpm::emulator::amx::load_configuration(configuration)
#define _tile_release() rwpm::emulator::amx::release()
#define _tile_zero(t) rwpm::emulator::amx::zero(t)
#define _tile_loadd(t, base, stride) rwpm::emulator::amx::load(t, base, stride)
#define _tile_stored(t, base, stride) rwpm::emulator::amx::store(t, base, stride)
#define _tile_dpbf16ps(sums, a, b) rwpm::emulator::amx::multiply_add_bfloat16(sums, a, b)
#define __AMX_BF16__ 1
