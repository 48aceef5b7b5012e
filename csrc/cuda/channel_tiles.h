// How value channels are cut into what one block carries.
#pragma once

namespace rwpm::cuda {

// `count` blocks side by side, of `width` channels each, from channel `first` on.
struct Panel {
  int first, count, width;
};

// Widths are 32, 64, 128, 256 and 288. The last panel may be wider than what is left: 16 -> 32; 272 -> 288;
// 304 -> 256, 64; 528 -> 256, 288. Returns how many of `panels` there are, at most 2.
inline int panels_of(int width, Panel (&panels)[2]) {
  int whole = width / 256;
  const int rest = width % 256;
  int count = 0;
  if (whole && rest && rest <= 32) {
    if (whole > 1) panels[count++] = {0, whole - 1, 256};
    panels[count++] = {(whole - 1) * 256, 1, 288};
    return count;
  }
  whole += rest > 128;
  if (whole) panels[count++] = {0, whole, 256};
  if (rest && rest <= 128) panels[count++] = {whole * 256, 1, rest <= 32 ? 32 : rest <= 64 ? 64 : 128};
  return count;
}

}  // namespace rwpm::cuda
