// Screening in bfloat16 with AMX tiles of 16 x 16 cosines.
#pragma once

#include "cpu/screen_common.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr const char* format = "bfloat16";
constexpr bool quantizes = true;
// Three standard deviations of a cosine by three products, times the square root of the channels: either pixel's second
// part is off by 2^-18 of a channel at most, and by 2^-18 / sqrt(3) in the mean.
constexpr float parts_error = 9.3e-6f;
constexpr int min_leading_pixels = 0;
constexpr int tile_pixels = 16, tile_channels = 32;
constexpr int key_tiles = 4, stripe = key_tiles * tile_pixels, unit = tile_pixels;
static_assert(lanes == 3 * tile_pixels && w == tile_pixels);

RWPM_INLINE int64_t padded_channels(int64_t channels) {
  return (channels + tile_channels - 1) / tile_channels * tile_channels;
}

// A panel is stored twice: as the left operand of tiles, [lanes][channels], and as the right one,
// [channels / 2][lanes][2]; and either twice, rounded to bfloat16 and what that leaves, rounded likewise. Channels are
// padded to whole tiles.
struct TilePanels {
  int64_t depth, size;
  uint16_t* panels;
  TilePanels(char* quantized, int64_t channels)
      : depth(padded_channels(channels)), size(depth * lanes), panels(reinterpret_cast<uint16_t*>(quantized)) {}
  explicit TilePanels(const QuantizedVectors& v) : TilePanels(const_cast<char*>(v.quantized), v.channels) {}

  // low: of what rounding leaves.
  uint16_t* left(int64_t pixel, bool low) const {
    return panels + (4 * (pixel / lanes) + low) * size + pixel % lanes * depth;
  }
  uint16_t* right(int64_t pixel, bool low) const {
    return panels + (4 * (pixel / lanes) + 2 + low) * size + pixel % lanes * 2;
  }
  int64_t left_bytes() const { return depth * int64_t(sizeof(uint16_t)); }  // of a row of a tile
  static constexpr int64_t right_bytes = lanes * 2 * sizeof(uint16_t);
};

int64_t quantized_bytes(int64_t channels) { return 4 * padded_channels(channels) * lanes * int64_t(sizeof(uint16_t)); }

// To the nearest bfloat16, ties to even, as a float32.
RWPM_INLINE float round_to_bfloat16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  __builtin_memcpy(&x, &bits, sizeof(bits));
  return x;
}

RWPM_INLINE uint16_t bfloat16_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return uint16_t(bits >> 16);
}

void quantize(const float* panel, int64_t channels, char* quantized, float* quant_scale, float* quant_error) {
  const TilePanels tiles(quantized, channels);
  float squares[lanes] = {};
  for (int64_t d = 0; d < tiles.depth; ++d) {
    for (int lane = 0; lane < lanes; ++lane) {
      const float x = d < channels ? panel[d * lanes + lane] : 0;
      const float high = round_to_bfloat16(x), low = round_to_bfloat16(x - high);
      const int64_t right = d / 2 * lanes * 2 + d % 2;
      tiles.left(lane, false)[d] = tiles.right(lane, false)[right] = bfloat16_bits(high);
      tiles.left(lane, true)[d] = tiles.right(lane, true)[right] = bfloat16_bits(low);
      squares[lane] += (x - high) * (x - high);
    }
  }
  for (int lane = 0; lane < lanes; ++lane) {
    quant_scale[lane] = 1;
    quant_error[lane] = quant_error_of(sqrt_upper_bound(squares[lane]));
  }
}

// A constant in memory: the compiler assumes that the instruction reads only the first bytes, and would not write the
// others of a local variable.
alignas(64) constexpr struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t row_count[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} tile_configuration;

struct TileGuard {
  TileGuard() { _tile_loadconfig(&tile_configuration); }
  ~TileGuard() { _tile_release(); }
};

constexpr int64_t tile_left_step = tile_channels;  // to a tile's next channels, in numbers
constexpr int64_t tile_right_step = tile_channels / 2 * lanes * 2;

// Two tiles of keys times two of queries: every operand is loaded once for two products.
RWPM_INLINE void multiply_two_by_two(const TilePanels& tiles, const uint16_t* key, const uint16_t* other_key,
                                     const uint16_t* query, float* cosine) {
  const int64_t left_bytes = tiles.left_bytes(), right_bytes = tiles.right_bytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t d = 0; d < tiles.depth; d += tile_channels) {
    _tile_loadd(4, key, left_bytes);
    _tile_loadd(6, query, right_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, query + tile_pixels * 2, right_bytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, other_key, left_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    key += tile_left_step;
    other_key += tile_left_step;
    query += tile_right_step;
  }
  _tile_stored(0, cosine, lanes * sizeof(float));
  _tile_stored(1, cosine + tile_pixels, lanes * sizeof(float));
  _tile_stored(2, cosine + tile_pixels * lanes, lanes * sizeof(float));
  _tile_stored(3, cosine + tile_pixels * lanes + tile_pixels, lanes * sizeof(float));
}

// Four tiles of keys times one of queries.
RWPM_INLINE void multiply_four_by_one(const TilePanels& tiles, const uint16_t* const (&keys)[key_tiles],
                                      const uint16_t* query, float* cosine) {
  const int64_t left_bytes = tiles.left_bytes(), right_bytes = tiles.right_bytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t d = 0; d < tiles.depth; d += tile_channels, query += tile_right_step) {
    _tile_loadd(7, query, right_bytes);
    _tile_loadd(4, keys[0] + d, left_bytes);
    _tile_dpbf16ps(0, 4, 7);
    _tile_loadd(5, keys[1] + d, left_bytes);
    _tile_dpbf16ps(1, 5, 7);
    _tile_loadd(6, keys[2] + d, left_bytes);
    _tile_dpbf16ps(2, 6, 7);
    _tile_loadd(4, keys[3] + d, left_bytes);
    _tile_dpbf16ps(3, 4, 7);
  }
  _tile_stored(0, cosine, lanes * sizeof(float));
  _tile_stored(1, cosine + tile_pixels * lanes, lanes * sizeof(float));
  _tile_stored(2, cosine + 2 * tile_pixels * lanes, lanes * sizeof(float));
  _tile_stored(3, cosine + 3 * tile_pixels * lanes, lanes * sizeof(float));
}

// Cosines of the keys [key, end), at most a stripe, with a panel of queries, off by the quantization error.
RWPM_INLINE void approximate_cosines(const QuantizedVectors& v, int64_t panel, int64_t key, int64_t end,
                                     float (&cosine)[stripe][lanes]) {
  const TilePanels tiles(v);
  const uint16_t* keys[key_tiles];
  for (int t = 0; t < key_tiles; ++t)  // beyond the end the last tile again, for results that nobody reads
    keys[t] = tiles.left(min(key + t * tile_pixels, (end - 1) / tile_pixels * tile_pixels), false);
  const uint16_t* const query = tiles.right(panel * lanes, false);
  multiply_two_by_two(tiles, keys[0], keys[1], query, cosine[0]);
  multiply_two_by_two(tiles, keys[2], keys[3], query, cosine[2 * tile_pixels]);
  multiply_four_by_one(tiles, keys, query + 2 * tile_pixels * 2, cosine[0] + 2 * tile_pixels);
}

struct ScreenUnits {
  static constexpr int max_refined = 1;

  // Cosines of a tile of keys and a tile of queries by three products, of the rounded numbers and of either with what
  // rounding left of the other: off by no more than 3 * 2^-18.
  template <int units>
  RWPM_INLINE static void refine_in_parts(const QuantizedVectors& v, int64_t panel, int n, const int64_t* keys,
                                          float (*cosine)[w]) {
    static_assert(units == 1);
    const TilePanels tiles(v);
    const int64_t left_bytes = tiles.left_bytes(), right_bytes = tiles.right_bytes, pixel = panel * lanes + n * w;
    const uint16_t *key = tiles.left(*keys, false), *low_key = tiles.left(*keys, true);
    const uint16_t *query = tiles.right(pixel, false), *low_query = tiles.right(pixel, true);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    for (int64_t d = 0; d < tiles.depth; d += tile_channels) {
      _tile_loadd(4, key, left_bytes);
      _tile_loadd(6, query, right_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, low_query, right_bytes);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, low_key, left_bytes);
      _tile_dpbf16ps(2, 5, 6);
      key += tile_left_step;
      low_key += tile_left_step;
      query += tile_right_step;
      low_query += tile_right_step;
    }
    alignas(alignment) float with_low_query[unit][w], with_low_key[unit][w];
    _tile_stored(0, cosine[0], w * sizeof(float));
    _tile_stored(1, with_low_query[0], w * sizeof(float));
    _tile_stored(2, with_low_key[0], w * sizeof(float));
    for (int m = 0; m < unit; ++m)
      store(cosine[m], load(cosine[m]) + (load(with_low_query[m]) + load(with_low_key[m])));
  }
};

// Six sums more than hide the latency. The operands are zero: others draw more power, which may lower the clock rate.
double quantized_multiply_adds(int64_t rounds) {
  const TileGuard guard;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
    _tile_dpbf16ps(4, 6, 7);
    _tile_dpbf16ps(5, 6, 7);
  }
  return double(rounds) * 6 * tile_pixels * tile_pixels * tile_channels;
}

}  // namespace
}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
