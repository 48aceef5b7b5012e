#include "photo.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <stdexcept>

#include "photo_formats.h"

namespace rwpm::score {

namespace {

Bytes read_file(const std::string& path) {
  const auto fail = [&](int reason) { throw std::runtime_error(path + ": cannot be read: " + std::strerror(reason)); };
  struct stat status;
  if (stat(path.c_str(), &status)) fail(errno);
  if (!S_ISREG(status.st_mode)) fail(S_ISDIR(status.st_mode) ? EISDIR : ESPIPE);
  std::ifstream file(path, std::ios::binary);
  Bytes bytes(status.st_size);
  if (!file || !file.read(reinterpret_cast<char*>(bytes.data()), status.st_size)) fail(errno);
  return bytes;
}

bool begins_with(const Bytes& file, std::initializer_list<uint8_t> magic) {
  return file.size() >= magic.size() && std::equal(magic.begin(), magic.end(), file.begin());
}

[[noreturn]] [[maybe_unused]] void not_built(const std::string& path, const char* format, const char* library) {
  throw std::runtime_error(path + ": is a " + format + " file, which this program was built without; build it with " +
                           library + ", or convert the photo to PPM");
}

// Reads the next number of a PPM header; white space and comments before it are skipped.
int64_t ppm_number(const Bytes& file, size_t& at, const std::string& path) {
  while (at < file.size() && (std::isspace(file[at]) || file[at] == '#')) {
    if (file[at] == '#')
      while (at < file.size() && file[at] != '\n') ++at;
    else
      ++at;
  }
  int64_t number = 0;
  const size_t first = at;
  while (at < file.size() && std::isdigit(file[at]) && number < max_pixels) number = 10 * number + (file[at++] - '0');
  if (at == first) throw std::runtime_error(path + ": is cut off, or no PPM file: expected width, height and 255");
  return number;
}

}  // namespace

Photo empty_photo(int64_t height, int64_t width, const std::string& path) {
  if (height < 1 || width < 1 || height > max_pixels / width)
    throw std::runtime_error(path + ": expected 1 to " + std::to_string(max_pixels) + " pixels, got " +
                             std::to_string(width) + "x" + std::to_string(height));
  return {height, width, Bytes(3 * height * width)};
}

Photo decode_ppm(const Bytes& file, const std::string& path) {
  size_t at = 2;  // after "P6"
  const int64_t width = ppm_number(file, at, path), height = ppm_number(file, at, path);
  const int64_t largest = ppm_number(file, at, path);
  if (largest != 255)
    throw std::runtime_error(path + ": expected a PPM file of 8 bits (largest value 255), got a largest value of " +
                             std::to_string(largest));
  ++at;  // one character separates the header from the pixels
  Photo photo = empty_photo(height, width, path);
  if (file.size() < at || file.size() - at < photo.pixels.size())
    throw std::runtime_error(path + ": is cut off: expected " + std::to_string(photo.pixels.size()) +
                             " bytes of pixels, got " + std::to_string(file.size() - std::min(at, file.size())));
  std::copy_n(file.begin() + at, photo.pixels.size(), photo.pixels.begin());
  return photo;
}

Photo read_photo(const std::string& path) {
  const Bytes file = read_file(path);
  if (begins_with(file, {0x89, 'P', 'N', 'G'})) {
#ifdef RWPM_WITH_PNG
    return decode_png(file, path);
#else
    not_built(path, "PNG", "libpng");
#endif
  }
  if (begins_with(file, {0xff, 0xd8, 0xff})) {
#ifdef RWPM_WITH_JPEG
    return decode_jpeg(file, path);
#else
    not_built(path, "JPEG", "libjpeg");
#endif
  }
  if (begins_with(file, {'P', '6'})) return decode_ppm(file, path);
  throw std::runtime_error(path + ": expected a photo as PNG, JPEG or binary PPM (P6), got another kind of file");
}

}  // namespace rwpm::score
