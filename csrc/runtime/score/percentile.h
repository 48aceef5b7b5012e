// Percentiles of latencies and of score maps. Knows no torch.
#pragma once

#include <vector>

namespace rwpm::score {

/// The percentile of some numbers, between two of them by linear interpolation, as numpy.percentile does.
///
/// values: at least one, finite; reordered. percent: 0 to 100.
double percentile(std::vector<double>& values, double percent);

}  // namespace rwpm::score
