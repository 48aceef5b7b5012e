#include "../exif.h"

#include <string>
#include <utility>

#include "tests.h"

namespace rwpm::score::tests {

std::string exif_data(int orientation, bool big_endian) {
  const auto number = [&](uint32_t value, int bytes) {
    std::string text(bytes, '\0');
    for (int k = 0; k < bytes; ++k, value >>= 8) text[big_endian ? bytes - 1 - k : k] = char(value);
    return text;
  };
  const auto tag = [&](uint32_t name, uint32_t value) {
    constexpr uint32_t of_16_bits = 3;
    return number(name, 2) + number(of_16_bits, 2) + number(1, 4) + number(value, 2) + number(0, 2);
  };
  constexpr uint32_t image_width = 0x0100, orientation_tag = 0x0112;
  return (big_endian ? "MM" : "II") + number(42, 2) + number(8, 4) + number(2, 2) + tag(image_width, 3) +
         tag(orientation_tag, uint32_t(orientation)) + number(0, 4);
}

namespace {

int orientation(const std::string& data) {
  return exif_orientation(reinterpret_cast<const uint8_t*>(data.data()), data.size());
}

// A photo of 2 rows and 3 columns whose pixels have these names.
Photo named(const std::string& names, int64_t height, int64_t width) {
  Photo photo{height, width, {}};
  for (const char name : names) photo.pixels.insert(photo.pixels.end(), 3, uint8_t(name));
  return photo;
}

}  // namespace

void test_exif() {
  for (const bool big_endian : {false, true})
    for (int k = 1; k <= 8; ++k) expect(orientation(exif_data(k, big_endian)) == k, "orientation of both byte orders");
  std::string of_32_bits = exif_data(6, true);  // its second tag begins at byte 22
  of_32_bits[25] = 4;
  std::swap(of_32_bits[31], of_32_bits[33]);
  expect(orientation(of_32_bits) == 6, "an orientation of 32 bits");
  expect(orientation(exif_data(9)) == 1, "an orientation that is none");
  for (size_t size = 0; size < exif_data(6).size() - 8; ++size)
    expect(orientation(exif_data(6).substr(0, size)) == 1, "EXIF data that are cut off");

  // How viewers show a photo stored as "abc/def": the standard says which side its row 0 and its column 0 are.
  const char* const shown[] = {"abcdef", "cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda", "cfbead"};
  for (int k = 1; k <= 8; ++k) {
    const Photo turned = upright(named("abcdef", 2, 3), k);
    const Photo wanted = k <= 4 ? named(shown[k - 1], 2, 3) : named(shown[k - 1], 3, 2);
    expect(turned.height == wanted.height && turned.width == wanted.width && turned.pixels == wanted.pixels,
           "a photo turned upright from orientation " + std::to_string(k));
  }
}

}  // namespace rwpm::score::tests
