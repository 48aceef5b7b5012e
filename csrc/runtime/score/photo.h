// Photos of files. Knows no torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rwpm::score {

/// A picture in RGB, 8 bits a channel.
struct Photo {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3], contiguous
};

/// Pixels that a file may claim to have, as a guard of memory: 16384 x 16384.
constexpr int64_t max_pixels = int64_t(1) << 28;

/// Reads a photo as rwpm_fast.io.images.read_image(path, upright=True) does: gray is repeated in the three channels,
/// an alpha channel is dropped, 16 bits a channel are scaled to 8, and the photo is turned as its EXIF orientation
/// says.
///
/// The format follows from the content: PNG and JPEG where the build has libpng and libjpeg, binary PPM (P6, 8 bits)
/// always.
///
/// Throws std::runtime_error: the file cannot be read, is of another kind, or is cut off; the message names it.
///
///     const Photo photo = read_photo("frame.png");
Photo read_photo(const std::string& path);

}  // namespace rwpm::score
