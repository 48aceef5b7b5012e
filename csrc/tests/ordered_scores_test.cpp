// Sorted scores against std::sort, and counts above thresholds against counting one by one.
#include "cpu/ordered_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "expect.h"

namespace {

using rwpm::tests::expect;

std::vector<float> sorted(const std::vector<float>& scores) {
  std::vector<float> result(scores.size()), spare(scores.size());
  rwpm::cpu::sort_scores(scores.data(), int64_t(scores.size()), result.data(), spare.data());
  return result;
}

// Of every magnitude and sign, with ties.
std::vector<float> random_scores(int64_t count, unsigned seed, bool tied) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> scores;
  for (int64_t i = 0; i < count; ++i) {
    const float score = normal(random) * std::exp(20 * normal(random));
    scores.push_back(tied ? std::round(normal(random) * 4) : score);
  }
  return scores;
}

void expect_sorted(const std::string& what, std::vector<float> scores) {
  const std::vector<float> result = sorted(scores);
  std::sort(scores.begin(), scores.end());
  expect(result == scores, what + ": sorted");
}

void expect_counts(const std::string& what, const std::vector<float>& scores, const std::vector<float>& thresholds) {
  std::vector<int64_t> at_or_above(thresholds.size(), 5), above(thresholds.size(), 7);  // counts are added
  rwpm::cpu::count_above(scores.data(), int64_t(scores.size()), thresholds.data(), int64_t(thresholds.size()),
                         at_or_above.data(), above.data());
  for (size_t i = 0; i < thresholds.size(); ++i) {
    const float threshold = thresholds[i];
    const auto equal = std::count(scores.begin(), scores.end(), threshold);
    const auto more = std::count_if(scores.begin(), scores.end(), [=](float score) { return score > threshold; });
    expect(at_or_above[i] == 5 + more + equal && above[i] == 7 + more, what + ": threshold " + std::to_string(i));
  }
}

}  // namespace

int main() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float tiny = std::numeric_limits<float>::denorm_min();
  expect_sorted("none", {});
  expect_sorted("one", {1.5f});
  expect_sorted("extremes", {infinity, -tiny, 0.0f, 3e38f, -infinity, tiny, -3e38f});
  const std::vector<float> zeros = sorted({0.0f, -0.0f});
  expect(std::signbit(zeros[0]) && !std::signbit(zeros[1]), "-0 comes before 0");
  for (const bool tied : {false, true}) {
    const std::string what = tied ? "tied" : "distinct";
    expect_sorted(what, random_scores(100000, 1, tied));
    const std::vector<float> scores = sorted(random_scores(500, 2, tied));
    std::vector<float> thresholds = sorted(random_scores(300, 3, tied));
    thresholds.insert(thresholds.end(), {scores.back(), infinity});
    std::sort(thresholds.begin(), thresholds.end());
    expect_counts(what, scores, thresholds);
    expect_counts(what + ", no scores", {}, thresholds);
    expect_counts(what + ", no thresholds", scores, {});
  }
  return rwpm::tests::outcome();
}
