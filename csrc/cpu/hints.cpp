#include "cpu/hints.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rwpm::cpu {
namespace {

// A row is to drop this part of what it may: between frames what it drops changes by up to the rest.
constexpr double aimed_part = 0.4;
// By how much a threshold may change from frame to frame, in bits.
constexpr double max_rise = 2, max_fall = 4;
// The dropped mass grows more slowly than the threshold.
constexpr double fall_factor = 1.5;
// Hints beyond are not believed, so that thresholds stay finite.
constexpr float max_hint = 200;

constexpr float unknown = std::numeric_limits<float>::quiet_NaN();

}  // namespace

Hints Hints::of_rows(const Vector<int64_t>& pixels, Memory* memory) const {
  const int64_t rows = pixels.size();
  Hints hints = {Buffer<float>(rows, memory), Buffer<float>(rows, memory), Buffer<float>(directions.size(), memory)};
  for (int64_t i = 0; i < rows; ++i) {
    hints.screen[i] = screen[pixels[i]];
    hints.keep[i] = keep[pixels[i]];
  }
  std::copy_n(directions.get(), directions.size(), hints.directions.get());
  return hints;
}

void Hints::set_pixels(const Vector<int64_t>& pixels, const Hints& rows) {
  std::fill_n(screen.get(), screen.size(), unknown);
  std::fill_n(keep.get(), keep.size(), unknown);
  for (int64_t i = 0; i < int64_t(pixels.size()); ++i) {
    screen[pixels[i]] = rows.screen[i];
    keep[pixels[i]] = rows.keep[i];
  }
}

Buffer<float> own_panel_sums(const BuildContext& context, const QuantizedGraph& graph) {
  const FilterArgs args = graph.args();
  Buffer<float> sums(context.padded(), context.memory);
  context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      context.kernels.local_log_sum(args, panel, &panel, 1, &sums[panel * context.kernels.lanes]);
  });
  return sums;
}

Vector<char> set_hinted_thresholds(const BuildContext& context, const Hints& hints, const Buffer<float>& own_sums,
                                   QuantizedGraph& graph) {
  const auto believed = [](float hint) { return std::abs(hint) <= max_hint; };  // false for NaN
  const int64_t vector = context.kernels.vector;
  Vector<char> unknown_rows(context.panels(), context.memory);
  // The lowest of a vector of pixels serves them all: screening asks for the lowest anyway, and as the camera moves a
  // pixel's own moves to a neighbor.
  for (int64_t begin = 0; begin < context.pixels; begin += vector) {
    const int64_t end = std::min(begin + vector, context.pixels);
    float screen = infinity, keep = infinity;
    for (int64_t i = begin; i < end; ++i)
      if (believed(hints.screen[i]) && believed(hints.keep[i])) {
        screen = std::min(screen, hints.screen[i]);
        keep = std::min(keep, hints.keep[i]);
      }
    for (int64_t i = begin; i < end; ++i) {
      if (screen == infinity || !std::isfinite(own_sums[i])) {
        unknown_rows[i / context.kernels.lanes] = 1;
        continue;
      }
      graph.screen_threshold[i] = (own_sums[i] + screen) / graph.scale;
      graph.keep_threshold[i] = std::max(graph.screen_threshold[i], (own_sums[i] + keep) / graph.scale);
    }
  }
  return unknown_rows;
}

void note_outcome(const RowOutcome& outcome, float own_sum, float screen_share, int64_t row, Hints& hints) {
  const double aim = aimed_part * outcome.room;
  double change = -max_fall;
  if (aim > 0) {
    const double bits = outcome.dropped > 0 ? std::log2(aim / outcome.dropped) : max_rise;
    change = bits > 0 ? std::min(bits, max_rise) : std::max(bits * fall_factor, -max_fall);
  }
  hints.screen[row] = outcome.log_sum + screen_share - own_sum;
  hints.keep[row] = outcome.log_sum + outcome.keep_threshold + float(change) - own_sum;
}

}  // namespace rwpm::cpu
