#include "overlay.h"

#include <algorithm>

#include "percentile.h"

namespace rwpm::score {

namespace {

struct Color {
  double red, green, blue;
};
constexpr Color yellow{255, 235, 60}, orange{255, 130, 0}, alarm{225, 0, 40};
constexpr double strongest_below = 0.55, strongest = 0.75;  // share of the color in a pixel below 1, and from 1 on
constexpr double low_percent = 1, high_percent = 99.9;      // as rwpm_fast.viz draws maps

}  // namespace

Photo overlay(const Photo& photo, const float* score, std::optional<double> threshold) {
  const int64_t pixels = photo.height * photo.width;
  std::vector<double> scores(score, score + pixels);
  const double low = percentile(scores, low_percent);
  const double high = threshold ? *threshold : percentile(scores, high_percent);
  const double scale = high > low ? 1 / (high - low) : 0;

  Photo picture{photo.height, photo.width, std::vector<uint8_t>(photo.pixels.size())};
  for (int64_t k = 0; k < pixels; ++k) {
    const uint8_t* const from = &photo.pixels[3 * k];
    const double gray = 0.299 * from[0] + 0.587 * from[1] + 0.114 * from[2];  // luma of BT.601
    // A flat map without a threshold has low = high: nothing stands out, so nothing is colored.
    const double position = std::clamp((score[k] - low) * scale, 0.0, 1.0);
    const bool is_alarm = threshold ? score[k] > *threshold : scale > 0 && score[k] >= high;
    const double share = is_alarm ? strongest : strongest_below * position;
    const Color color = is_alarm ? alarm
                                 : Color{yellow.red + position * (orange.red - yellow.red),
                                         yellow.green + position * (orange.green - yellow.green),
                                         yellow.blue + position * (orange.blue - yellow.blue)};
    const auto mix = [&](double of_color) { return uint8_t(gray + share * (of_color - gray) + 0.5); };
    uint8_t* const to = &picture.pixels[3 * k];
    to[0] = mix(color.red);
    to[1] = mix(color.green);
    to[2] = mix(color.blue);
  }
  return picture;
}

}  // namespace rwpm::score
