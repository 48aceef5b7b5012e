// The sparse transition matrix against dense rows: nothing that matters is missed, and what a row dropped is within
// both the tolerance and what the row says of itself.
#include "cpu/transition.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/buffer.h"
#include "cpu/isa.h"
#include "cpu/threads.h"

namespace {

using rwpm::cpu::Buffer;
using rwpm::cpu::Transition;
using rwpm::tests::expect;

struct Case {
  std::string name;
  int64_t pixels, channels;
  double temperature, tolerance;
  double noise = 0.5;
  int64_t run = 7;  // pixels in a row that share a direction
  int64_t directions = 60;
};

// Unit vectors, neighbours alike, as in a road network's map.
Buffer<float> unit_rows(const Case& c, int64_t stride) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> centres(c.directions * c.channels);
  for (float& x : centres) x = normal(random);
  Buffer<float> units(c.pixels * stride);
  for (int64_t i = 0; i < c.pixels; ++i) {
    double squares = 0;
    const int64_t direction = i / c.run * 7919 % c.directions;
    for (int64_t d = 0; d < stride; ++d) {
      units[i * stride + d] =
          d < c.channels ? centres[direction * c.channels + d] + float(c.noise) * normal(random) : 0;
      squares += std::pow(double(units[i * stride + d]), 2);
    }
    for (int64_t d = 0; d < stride; ++d) units[i * stride + d] /= float(std::sqrt(squares));
  }
  return units;
}

void test(const Case& c) {
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const int64_t stride = rwpm::cpu::ceil_div(c.channels, kernels.vector) * kernels.vector;
  const Buffer<float> units = unit_rows(c, stride);
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  const auto compile = [&](int64_t threads) {
    return rwpm::cpu::compile_transition(units.get(), c.pixels, c.channels, stride, float(scale), c.tolerance, 0.15,
                                         rwpm::parallel_for_threads(threads));
  };
  const std::optional<Transition> t = compile(1), other = compile(3);
  expect(t && other, c.name + ": the graph is sparse");
  if (!t || !other) return;
  const int64_t kept = t->row_start[c.pixels];
  expect(t->row_start == other->row_start &&
             !std::memcmp(t->column.get(), other->column.get(), kept * sizeof(int32_t)) &&
             t->dropped == other->dropped && !std::memcmp(t->weight.get(), other->weight.get(), kept * sizeof(float)),
         c.name + ": same bits on 1 and 3 threads");

  double most_dropped = 0;
  for (int64_t i = 0; i < c.pixels; i += 3) {
    std::vector<double> row(c.pixels);
    double largest = -1, sum = 0;
    for (int64_t j = 0; j < c.pixels; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.channels; ++d) dot += double(units[i * stride + d]) * units[j * stride + d];
      row[j] = dot;
      if (j != i) largest = std::max(largest, dot);
    }
    for (int64_t j = 0; j < c.pixels; ++j) sum += row[j] = j == i ? 0 : std::exp2((row[j] - largest) * scale);
    double mass = 0, weights = 0, worst = 0;
    int64_t last = -1;
    bool ascending = true;
    for (int64_t e = t->row_start[i]; e < t->row_start[i + 1]; ++e) {
      mass += row[t->column[e]] / sum;
      weights += t->weight[e];
      ascending = ascending && t->column[e] > last;
      last = t->column[e];
    }
    for (int64_t e = t->row_start[i]; e < t->row_start[i + 1]; ++e)
      worst = std::max(worst, std::abs(t->weight[e] - row[t->column[e]] / sum / mass));
    const std::string where = c.name + ", row " + std::to_string(i);
    const double lost = 1 - mass, rounding = 1e-9 + 1e-3 * c.tolerance;
    most_dropped = std::max(most_dropped, lost);
    expect(ascending, where + ": columns ascend, none is the pixel itself twice");
    expect(lost <= c.tolerance + rounding, where + ": dropped " + std::to_string(lost * 1e6) + "e-6");
    expect(lost <= t->dropped[i] + rounding, where + ": dropped more than it says");
    expect(t->dropped[i] <= c.tolerance, where + ": says that it dropped more than allowed");
    expect(std::abs(weights - 1) <= 1e-5, where + ": weights sum to one");
    expect(worst <= 2e-4, where + ": weight off by " + std::to_string(worst * 1e6) + "e-6");
  }
  std::printf("%s: %.1f kept a row, at most %.1e dropped\n", c.name.c_str(), double(kept) / c.pixels, most_dropped);
}

void test_dense_graphs_are_declined() {
  Case c = {"flat", 1500, 32, 1.0, 1e-4};
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const int64_t stride = rwpm::cpu::ceil_div(c.channels, kernels.vector) * kernels.vector;
  const Buffer<float> units = unit_rows(c, stride);
  expect(!rwpm::cpu::compile_transition(units.get(), c.pixels, c.channels, stride, 1.4427f, c.tolerance, 0.15,
                                        rwpm::parallel_for_threads(2)),
         "a flat graph is declined");
}

}  // namespace

int main() {
  return rwpm::tests::run([] {
    for (const double tolerance : {1e-2, 1e-4, 1e-7})
      test({"tolerance " + std::to_string(tolerance * 1e6) + "e-6", 2000, 64, 0.01, tolerance});
    test({"odd sizes", 1999, 61, 0.01, 1e-4});
    test({"few channels", 2000, 19, 0.001, 1e-4, 0.4, 5, 400});
    test({"wide", 1200, 300, 0.01, 1e-5, 0.8});
    test({"no order", 2000, 64, 0.01, 1e-4, 0.5, 1, 61});
    test({"cold", 1500, 48, 0.0001, 1e-4});
    test({"warm", 3000, 256, 0.03, 1e-3, 0.4, 7, 200});
    test_dense_graphs_are_declined();
  });
}
