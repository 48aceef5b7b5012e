// float16 as its 16 bits, for compilers without such a type.
#pragma once

#include <cstdint>
#include <cstring>

namespace rwpm::onnxruntime {

inline float from_half(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, magnitude = half & 0x7fff;
  float x;
  if (magnitude < 0x400) {  // zero or subnormal, a multiple of 2^-24
    x = float(magnitude) * 0x1p-24f;
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(x));
    bits |= sign;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
  }
  // The exponent's bias changes from 15 to 127; infinity and NaN keep all of its bits set.
  const uint32_t bits = sign | ((magnitude << 13) + (magnitude < 0x7c00 ? (112u << 23) : (224u << 23)));
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Rounds to the nearest, halves to even; infinite from 65520 on.
inline uint16_t to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(x));
  const auto sign = uint16_t(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return uint16_t(sign | 0x7e00);   // NaN
  if (bits >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65520
  if (bits < 0x38800000) {  // below 2^-14: adding 0.5 rounds to a multiple of 2^-24, and leaves it in the low bits
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof(bits));
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof(bits));
    return uint16_t(sign | (bits - 0x3f000000));
  }
  return uint16_t(sign | ((bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13));
}

}  // namespace rwpm::onnxruntime
