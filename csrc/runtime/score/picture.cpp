#include "picture.h"

#include <cstdio>

#ifdef RWPM_WITH_PNG
#include <png.h>
#endif

#include "whole_file.h"

namespace rwpm::score {

#ifdef RWPM_WITH_PNG

const char* const picture_suffix = ".png";

void write_picture(const std::string& path, const Photo& picture) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = png_uint_32(picture.width);
  image.height = png_uint_32(picture.height);
  image.format = PNG_FORMAT_RGB;
  image.flags = PNG_IMAGE_FLAG_FAST;  // compresses a little less, in a fraction of the time
  write_whole(path, [&](std::FILE* file) {
    return png_image_write_to_stdio(&image, file, 0, picture.pixels.data(), 0, nullptr) != 0;
  });
}

#else

const char* const picture_suffix = ".ppm";

void write_picture(const std::string& path, const Photo& picture) {
  write_whole(path, [&](std::FILE* file) {
    return std::fprintf(file, "P6\n%lld %lld\n255\n", static_cast<long long>(picture.width),
                        static_cast<long long>(picture.height)) > 0 &&
           std::fwrite(picture.pixels.data(), 1, picture.pixels.size(), file) == picture.pixels.size();
  });
}

#endif

}  // namespace rwpm::score
