// The sparse transition matrix against dense rows: nothing that matters is missed, and what a row dropped is within
// both the tolerance and what the row says of itself.
#include "cpu/build_sparse.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
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

// Unit vectors [N][D], neighbors alike, as in a road network's map.
std::vector<float> unit_rows(const Case& c) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> centers(c.directions * c.channels), units(c.pixels * c.channels);
  for (float& x : centers) x = normal(random);
  for (int64_t i = 0; i < c.pixels; ++i) {
    double squares = 0;
    const int64_t direction = i / c.run * 7919 % c.directions;
    float* const unit = &units[i * c.channels];
    for (int64_t d = 0; d < c.channels; ++d) {
      unit[d] = centers[direction * c.channels + d] + float(c.noise) * normal(random);
      squares += std::pow(double(unit[d]), 2);
    }
    for (int64_t d = 0; d < c.channels; ++d) unit[d] /= float(std::sqrt(squares));
  }
  return units;
}

Buffer<float> panels_of(const Case& c, const std::vector<float>& units) {
  const int64_t lanes = rwpm::cpu::chosen_isa().sparse->lanes;
  Buffer<float> panels(rwpm::cpu::ceil_div(c.pixels, lanes) * lanes * c.channels);
  std::fill_n(panels.get(), rwpm::cpu::ceil_div(c.pixels, lanes) * lanes * c.channels, 0.f);
  for (int64_t i = 0; i < c.pixels; ++i)
    for (int64_t d = 0; d < c.channels; ++d)
      panels[(i / lanes * c.channels + d) * lanes + i % lanes] = units[i * c.channels + d];
  return panels;
}

std::optional<Transition> compile(const Case& c, const std::vector<float>& units, double scale, int64_t threads) {
  return rwpm::cpu::compile_transition(panels_of(c, units).get(), c.pixels, c.channels, 1, float(scale), c.tolerance,
                                       0.15, rwpm::parallel_for_threads(threads));
}

void test(const Case& c) {
  const std::vector<float> units = unit_rows(c);
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  const std::optional<Transition> t = compile(c, units, scale, 1), other = compile(c, units, scale, 3);
  expect(t && other, c.name + ": the graph is sparse");
  if (!t || !other) return;
  expect(t->dropped == other->dropped, c.name + ": same bits on 1 and 3 threads");
  for (size_t b = 0; b < t->blocks.size(); ++b) {
    const Transition::Block &one = t->blocks[b], &two = other->blocks[b];
    const int64_t entries = one.group_start.back();
    expect(one.group_start == two.group_start &&
               !std::memcmp(one.column.get(), two.column.get(), entries * sizeof(int32_t)) &&
               !std::memcmp(one.weight.get(), two.weight.get(), entries * rwpm::cpu::group_rows * sizeof(float)),
           c.name + ": same bits on 1 and 3 threads, block " + std::to_string(b));
  }

  double most_dropped = 0;
  int64_t kept = 0, entries = 0;
  for (int64_t i = 0; i < c.pixels; i += 3) {
    const Transition::Block& block = t->blocks[i / t->block_rows];
    const int64_t in_block = i % t->block_rows, g = in_block / rwpm::cpu::group_rows;
    std::map<int64_t, double> weight;
    for (int64_t e = block.group_start[g]; e < block.group_start[g + 1]; ++e) {
      const float x = block.weight[e * rwpm::cpu::group_rows + in_block % rwpm::cpu::group_rows];
      if (x == 0) continue;
      const bool is_new = weight.emplace(block.column[e], x).second;
      expect(is_new && block.column[e] != i, c.name + ": no column twice, none the pixel itself");
    }
    kept += int64_t(weight.size());
    entries += block.group_start[g + 1] - block.group_start[g];
    std::vector<double> row(c.pixels);
    double largest = -1, sum = 0;
    for (int64_t j = 0; j < c.pixels; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.channels; ++d) dot += double(units[i * c.channels + d]) * units[j * c.channels + d];
      row[j] = dot;
      if (j != i) largest = std::max(largest, dot);
    }
    for (int64_t j = 0; j < c.pixels; ++j) sum += row[j] = j == i ? 0 : std::exp2((row[j] - largest) * scale);
    double mass = 0, weights = 0, worst = 0;
    for (const auto& [j, x] : weight) {
      mass += row[j] / sum;
      weights += x;
    }
    for (const auto& [j, x] : weight) worst = std::max(worst, std::abs(x - row[j] / sum / mass));
    const std::string where = c.name + ", row " + std::to_string(i);
    const double lost = 1 - mass, rounding = 1e-9 + 1e-3 * c.tolerance;
    most_dropped = std::max(most_dropped, lost);
    expect(lost <= c.tolerance + rounding, where + ": dropped " + std::to_string(lost * 1e6) + "e-6");
    expect(lost <= t->dropped[i] + rounding, where + ": dropped more than it says");
    expect(t->dropped[i] <= c.tolerance, where + ": says that it dropped more than allowed");
    expect(std::abs(weights - 1) <= 1e-5, where + ": weights sum to one");
    // A float32 cosine is off by some 1e-7, which the temperature enlarges.
    expect(worst <= 1e-5 + 2e-7 / c.temperature, where + ": weight off by " + std::to_string(worst * 1e6) + "e-6");
  }
  std::printf("%s: %.1f kept a row in %.1f entries of its group, at most %.1e dropped\n", c.name.c_str(),
              3. * double(kept) / double(c.pixels), 3. * double(entries) / double(c.pixels), most_dropped);
}

// All pixels alike, all channels but the first `channel`: whatever is lost in rounding is lost in every one of them.
void test_nothing_is_missed(const std::string& name, float first_channel, float channel) {
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const int64_t pixels = 2 * kernels.lanes, channels = 200, bytes = kernels.rounded_bytes(channels);
  const Buffer<float> panels(pixels * channels), factor(pixels), off(pixels), see(pixels);
  double cosine = 0;
  for (int64_t d = 0; d < channels; ++d) {
    const float x = d == 0 ? first_channel : channel;
    cosine += double(x) * x;
    for (int64_t panel = 0; panel < 2; ++panel)
      std::fill_n(&panels[(panel * channels + d) * kernels.lanes], kernels.lanes, x);
  }
  const Buffer<char> rounded(2 * bytes);
  for (int64_t panel = 0; panel < 2; ++panel)
    kernels.round(&panels[panel * kernels.lanes * channels], channels, rounded.get() + panel * bytes,
                  &factor[panel * kernels.lanes], &off[panel * kernels.lanes]);
  std::fill_n(see.get(), pixels, float(cosine) - 2e-6f);  // only just below what every pair has
  const rwpm::cpu::Filter filter = {pixels,    channels,  panels.get(), rounded.get(), factor.get(),
                                    off.get(), see.get(), see.get(),    144.f};
  std::vector<rwpm::cpu::Entry> of_queries(pixels * kernels.lanes), of_keys(pixels * kernels.lanes);
  std::vector<uint32_t> dropped(pixels);
  std::vector<std::vector<char>> kept(pixels, std::vector<char>(pixels));
  for (int64_t panel = 0; panel < 2; ++panel) {
    rwpm::cpu::Found found = {of_queries.data(), of_keys.data(), 0, 0, dropped.data()};
    kernels.filter(filter, panel, 0, 0, pixels, found);
    for (int64_t k = 0; k < found.query_count + found.key_count; ++k) {
      const rwpm::cpu::Entry& e = k < found.query_count ? of_queries[k] : of_keys[k - found.query_count];
      for (int64_t row = 0; row < rwpm::cpu::group_rows; ++row)
        kept[e.group * rwpm::cpu::group_rows + row][e.column] += e.cosine[row] > 0;
    }
  }
  for (int64_t i = 0; i < pixels; ++i)
    for (int64_t j = 0; j < pixels; ++j)
      expect(kept[i][j] == (i != j), name + ": pair " + std::to_string(i) + ", " + std::to_string(j) + " once");
  std::printf("%s: a cosine of %.6f, margin %.6f\n", name.c_str(), cosine, double(off[0] + off[1]));
}

// What is timed is the filter: it meets half of all pairs, by whole panels, and finds those that reach a threshold.
void test_the_filter_alone(int64_t pixels) {
  const Case c = {"the filter alone, " + std::to_string(pixels) + " pixels", pixels, 45, 0.01, 0};
  const std::vector<float> units = unit_rows(c);
  const Buffer<float> panels = panels_of(c, units);
  const auto pass = [&](float threshold, int64_t threads) {
    return rwpm::cpu::filter_alone(panels.get(), pixels, c.channels, threshold, rwpm::parallel_for_threads(threads));
  };
  constexpr double threshold = 0.3, rounding = 1e-5;
  int64_t above = 0, within = 0;
  for (int64_t i = 0; i < pixels; ++i)
    for (int64_t j = 0; j < pixels; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.channels; ++d) dot += double(units[i * c.channels + d]) * units[j * c.channels + d];
      above += i != j && dot >= threshold + rounding;
      within += i != j && std::abs(dot - threshold) < rounding;
    }
  // Panels are square where they meet themselves, and the last one is as wide as what is left.
  const int64_t lanes = rwpm::cpu::chosen_isa().sparse->lanes, whole = pixels / lanes, rest = pixels % lanes;
  const int64_t met = whole * lanes * pixels - lanes * lanes * (whole * (whole - 1) / 2) + rest * rest;
  for (const int64_t threads : {1, 3}) {
    const auto found = pass(float(threshold), threads), nothing = pass(9, threads);
    expect(above > 0 && found.kept >= above && found.kept <= above + within,
           c.name + ": " + std::to_string(found.kept) + " kept, " + std::to_string(above) + " expected");
    expect(nothing.kept == 0, c.name + ": no cosine is 9");
    expect(found.met == met && nothing.met == met, c.name + ": every panel met those from it on");
  }
  expect(pass(std::numeric_limits<float>::infinity(), 1).met == 0, c.name + ": nobody looks, nobody meets");
}

void test_multiply_adds_are_counted() {
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const double once = kernels.multiply_adds(1);
  expect(once >= double(kernels.lanes), "a round is a panel's worth at least");
  expect(kernels.multiply_adds(7) == 7 * once, "seven rounds are seven times one");
  const bool exact = kernels.rounded_bytes(100) == 0;
  expect((std::string(kernels.format) == "float32") == exact, "what is not rounded is float32");
}

void test_dense_graphs_are_declined() {
  const Case c = {"flat", 1500, 32, 1.0, 1e-4};
  expect(!compile(c, unit_rows(c), 1.4427, 2), "a flat graph is declined");
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
    // Nearly half a step of 8-bit integers, of which the first channel sets the size; and of bfloat16.
    test_nothing_is_missed("8 bits", 127 * 0.0006f, 100.499f * 0.0006f);
    test_nothing_is_missed("bfloat16", 0.0625f, 0.0625f * (1 + 0x0.fffp-8f));
    for (const int64_t pixels : {49, 96, 383, 385, 800}) test_the_filter_alone(pixels);
    test_multiply_adds_are_counted();
    test_dense_graphs_are_declined();
  });
}
