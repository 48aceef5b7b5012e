// How value channels are cut into tiles, each of which one block of threads accumulates.
#pragma once

namespace rwpm::cuda {

// `count` adjacent tiles of `width` channels each, from channel `first` on.
struct ChannelTiles {
  int first, count, width;
};

// Covers `width` channels by tiles of 32, 64, 128, 256 or 288 channels; the last may reach beyond the end: 16 -> 32;
// 272 -> 288; 304 -> 256, 64; 528 -> 256, 288. Returns how many of `runs` are filled, at most 2.
inline int channel_tiles(int width, ChannelTiles (&runs)[2]) {
  int whole = width / 256;
  const int rest = width % 256;
  int count = 0;
  if (whole && rest && rest <= 32) {
    if (whole > 1) runs[count++] = {0, whole - 1, 256};
    runs[count++] = {(whole - 1) * 256, 1, 288};
    return count;
  }
  whole += rest > 128;
  if (whole) runs[count++] = {0, whole, 256};
  if (rest && rest <= 128) runs[count++] = {whole * 256, 1, rest <= 32 ? 32 : rest <= 64 ? 64 : 128};
  return count;
}

}  // namespace rwpm::cuda
