#include "percentile.h"

#include <algorithm>
#include <cmath>

namespace rwpm::score {

double percentile(std::vector<double>& values, double percent) {
  const double place = percent / 100 * double(values.size() - 1);
  const auto below = values.begin() + std::ptrdiff_t(place);
  std::nth_element(values.begin(), below, values.end());
  const double fraction = place - std::floor(place);
  if (fraction == 0) return *below;
  return *below + fraction * (*std::min_element(below + 1, values.end()) - *below);
}

}  // namespace rwpm::score
