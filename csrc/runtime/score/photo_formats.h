// The decoders behind read_photo, one a file. Each takes a whole file and its path, which is for messages only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "photo.h"

namespace rwpm::score {

using Bytes = std::vector<uint8_t>;

Photo decode_ppm(const Bytes& file, const std::string& path);
#ifdef RWPM_WITH_PNG
Photo decode_png(const Bytes& file, const std::string& path);
#endif
#ifdef RWPM_WITH_JPEG
Photo decode_jpeg(const Bytes& file, const std::string& path);
#endif

/// Makes a photo whose pixels are still to be filled. Throws std::runtime_error for no pixel, or more than max_pixels.
Photo empty_photo(int64_t height, int64_t width, const std::string& path);

}  // namespace rwpm::score
