#include "exif.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace rwpm::score {

namespace {

// Numbers of a TIFF file, in the file's byte order; 0 beyond its end.
class Tiff {
 public:
  Tiff(const uint8_t* data, size_t size) : data_(data), size_(size), big_endian_(size > 0 && data[0] == 'M') {}
  uint32_t word(size_t at) const { return number(at, 2); }
  uint32_t long_word(size_t at) const { return number(at, 4); }

 private:
  uint32_t number(size_t at, size_t bytes) const {
    if (at > size_ || size_ - at < bytes) return 0;
    uint32_t value = 0;
    for (size_t k = 0; k < bytes; ++k) value = value << 8 | data_[big_endian_ ? at + k : at + bytes - 1 - k];
    return value;
  }

  const uint8_t* data_;
  size_t size_;
  bool big_endian_;
};

}  // namespace

int exif_orientation(const uint8_t* data, size_t size) {
  if (size < 8 || (std::memcmp(data, "II*\0", 4) && std::memcmp(data, "MM\0*", 4))) return 1;
  constexpr uint32_t of_32_bits = 4;
  const Tiff tiff(data, size);
  const size_t directory = tiff.long_word(4);
  const uint32_t entries = tiff.word(directory);
  for (uint32_t k = 0; k < entries; ++k) {
    const size_t entry = directory + 2 + 12 * k;  // tag, type, count, value
    if (tiff.word(entry) != 0x0112) continue;
    // The standard has 16 bits for it, some writers take 32.
    const uint32_t orientation = tiff.word(entry + 2) == of_32_bits ? tiff.long_word(entry + 8) : tiff.word(entry + 8);
    return orientation >= 1 && orientation <= 8 ? int(orientation) : 1;
  }
  return 1;
}

Photo upright(Photo photo, int orientation) {
  if (orientation == 1) return photo;
  const bool transposed = orientation >= 5;
  // Of a pixel of the upright photo: whether its row and column are counted from the other end in the stored one.
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  Photo turned{photo.height, photo.width, std::vector<uint8_t>(photo.pixels.size())};
  if (transposed) std::swap(turned.height, turned.width);
  uint8_t* to = turned.pixels.data();
  for (int64_t y = 0; y < turned.height; ++y)
    for (int64_t x = 0; x < turned.width; ++x, to += 3) {
      int64_t row = transposed ? x : y, column = transposed ? y : x;
      if (transposed ? from_right : from_bottom) row = photo.height - 1 - row;
      if (transposed ? from_bottom : from_right) column = photo.width - 1 - column;
      std::copy_n(&photo.pixels[3 * (row * photo.width + column)], 3, to);
    }
  return turned;
}

}  // namespace rwpm::score
