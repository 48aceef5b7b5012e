#include "../overlay.h"

#include "../picture.h"
#include "tests.h"

namespace rwpm::score::tests {

namespace {

// Red above blue in a pixel: how far it is from gray toward yellow, orange or red.
int warmth(const Photo& picture, int64_t pixel) {
  return int(picture.pixels[3 * pixel]) - int(picture.pixels[3 * pixel + 2]);
}

}  // namespace

void test_overlay() {
  const int64_t height = 20, width = 50, pixels = height * width;
  const Photo gray{height, width, std::vector<uint8_t>(3 * pixels, 100)};
  std::vector<float> score(pixels);
  for (int64_t k = 0; k < pixels; ++k) score[k] = float(k);

  const Photo by_percentiles = overlay(gray, score.data(), std::nullopt);
  expect(by_percentiles.height == height && by_percentiles.width == width, "size of the overlay");
  expect(warmth(by_percentiles, 0) == 0 && warmth(by_percentiles, 9) == 0, "nothing below the 1st percentile");
  expect(warmth(by_percentiles, 300) > 0 && warmth(by_percentiles, 600) > warmth(by_percentiles, 300),
         "more with the score");
  const auto is_alarm = [](const Photo& picture, int64_t k) {  // more blue than green, as no other color
    return picture.pixels[3 * k + 2] > picture.pixels[3 * k + 1];
  };
  expect(is_alarm(by_percentiles, pixels - 1) && !is_alarm(by_percentiles, pixels - 2),
         "red from the 99.9th percentile");

  const Photo by_threshold = overlay(gray, score.data(), 500);
  expect(is_alarm(by_threshold, 501) && is_alarm(by_threshold, 999) && !is_alarm(by_threshold, 500),
         "red above the threshold");
  const Photo all_above = overlay(gray, score.data(), -1);
  expect(is_alarm(all_above, 0), "a threshold below every score");

  const std::vector<float> flat(pixels, 3);
  expect(overlay(gray, flat.data(), std::nullopt).pixels == gray.pixels, "a flat map stays gray");
  const TemporaryFile file(std::string("overlay") + picture_suffix);
  write_picture(file.path, by_threshold);
  expect(read_photo(file.path).pixels == by_threshold.pixels, "a picture that is written and read");
  expect_error([&] { write_picture("no/such/folder/a" + std::string(picture_suffix), gray); },
               {"no/such/folder", "cannot be written"});
}

}  // namespace rwpm::score::tests
