// What a graph tells about a similar one, such as that of a video's next frame: where the thresholds of its rows turned
// out to lie, and the leading directions. With hints a graph is built without the bounds and samples that thresholds
// take otherwise, and each row drops about as much as it may. They decide what is looked for first, never what holds in
// the end: the mass that a row dropped is bounded as without them, and rows over budget go through another pass.
#pragma once

#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/filter_pass.h"

namespace rwpm::cpu {

// Thresholds are logits in base 2 less the log2 of the row's sum over its own panel: as the camera moves, that follows
// what a pixel shows. Not finite where nothing is known.
struct Hints {
  Buffer<float> screen, keep;  // [N] by pixel, or by row
  Buffer<float> directions;    // [D][leading_channels] as find_leading_directions makes them; or empty: none

  // Of the rows that are these pixels, or the reverse.
  Hints of_rows(const Vector<int64_t>& pixels, Memory* memory) const;
  void set_pixels(const Vector<int64_t>& pixels, const Hints& rows);
};

// log2 of each row's sum of exp2(scale * cosine) over its own panel: [padded].
Buffer<float> own_panel_sums(const BuildContext& context, const QuantizedGraph& graph);

// Sets the thresholds of all rows with a hint. Returns which panels have a row without one, [panels].
Vector<char> set_hinted_thresholds(const BuildContext& context, const Hints& hints, const Buffer<float>& own_sums,
                                   QuantizedGraph& graph);

// What a row dropped, as shares of its mass.
struct RowOutcome {
  float log_sum;         // log2 of the sum over what it kept
  float keep_threshold;  // log2 of the share from which on it kept pairs
  double dropped;        // by refined pairs that it did not keep
  double room;           // for them, beside what screening and rounding take of the tolerance
};

// Notes the hints of a row. screen_share: log2 of the share below which screening may reject pairs.
void note_outcome(const RowOutcome& outcome, float own_sum, float screen_share, int64_t row, Hints& hints);

}  // namespace rwpm::cpu
