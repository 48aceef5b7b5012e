// The sparse transition matrix against dense rows: no pair that matters is missing, and the mass that a row dropped is
// within both the tolerance and the bound that the matrix reports.
#include "cpu/build_sparse.h"

#include <algorithm>
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
#include "cpu/filter_pass.h"
#include "cpu/isa.h"
#include "cpu/leading_channels.h"
#include "cpu/pixel_order.h"
#include "cpu/threads.h"

namespace {

using rwpm::cpu::Buffer;
using rwpm::cpu::GroupedMatrix;
using rwpm::tests::expect;

struct Case {
  std::string name;
  int64_t pixels, channels;
  double temperature, tolerance;
  double noise = 0.5;
  int64_t run = 7;  // pixels in a row that share a direction
  int64_t directions = 60;
  double max_density = 0.15;
};

// Unit vectors [N][D] with similar neighbors, as in the map of a road network.
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
  Buffer<float> panels(rwpm::cpu::ceil_div(c.pixels, lanes) * lanes * c.channels, 0, rwpm::heap_memory());
  for (int64_t i = 0; i < c.pixels; ++i)
    for (int64_t d = 0; d < c.channels; ++d)
      panels[(i / lanes * c.channels + d) * lanes + i % lanes] = units[i * c.channels + d];
  return panels;
}

std::optional<GroupedMatrix> build(const Case& c, const std::vector<float>& units, double scale, int64_t threads) {
  return rwpm::cpu::build_matrix(panels_of(c, units).get(), c.pixels, c.channels, 1, float(scale), c.tolerance,
                                 c.max_density, rwpm::parallel_for_threads(threads));
}

// By how much the cosines that rows are selected by are off: some 1e-7 in float32. Products of bfloat16 parts leave out
// 3 * 2^-18 at worst, of which over channels of either sign a tenth is left.
double cosine_rounding() { return rwpm::cpu::chosen_isa().sparse->parts_error > 0 ? 1e-6 : 2e-7; }
double max_cosine_rounding() { return rwpm::cpu::chosen_isa().sparse->parts_error > 0 ? 3 * 0x1p-18 : 2e-6; }

void test(const Case& c) {
  const std::vector<float> units = unit_rows(c);
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  const std::optional<GroupedMatrix> t = build(c, units, scale, 1), other = build(c, units, scale, 3);
  expect(t && other, c.name + ": the graph is sparse");
  if (!t || !other) return;
  expect(t->dropped_mass == other->dropped_mass, c.name + ": same bits on 1 and 3 threads");
  for (size_t b = 0; b < t->blocks.size(); ++b) {
    const GroupedMatrix::Block &one = t->blocks[b], &two = other->blocks[b];
    const int64_t entries = one.group_start[one.groups()];
    expect(one.groups() == two.groups() &&
               !std::memcmp(one.group_start.get(), two.group_start.get(), (one.groups() + 1) * sizeof(int64_t)) &&
               !std::memcmp(one.column.get(), two.column.get(), entries * sizeof(int32_t)) &&
               !std::memcmp(one.weight.get(), two.weight.get(), entries * rwpm::cpu::group_rows * sizeof(float)),
           c.name + ": same bits on 1 and 3 threads, block " + std::to_string(b));
  }

  double max_dropped = 0;
  int64_t kept = 0, entries = 0;
  for (int64_t i = 0; i < c.pixels; i += 3) {
    const GroupedMatrix::Block& block = t->blocks[i / t->block_rows];
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
    double row_max = -1, sum = 0;
    for (int64_t j = 0; j < c.pixels; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.channels; ++d) dot += double(units[i * c.channels + d]) * units[j * c.channels + d];
      row[j] = dot;
      if (j != i) row_max = std::max(row_max, dot);
    }
    for (int64_t j = 0; j < c.pixels; ++j) sum += row[j] = j == i ? 0 : std::exp2((row[j] - row_max) * scale);
    double mass = 0, weights = 0, worst = 0;
    for (const auto& [j, x] : weight) {
      mass += row[j] / sum;
      weights += x;
    }
    for (const auto& [j, x] : weight) worst = std::max(worst, std::abs(x - row[j] / sum / mass));
    const std::string where = c.name + ", row " + std::to_string(i);
    const double dropped = 1 - mass, rounding = 1e-9 + 1e-3 * c.tolerance;
    max_dropped = std::max(max_dropped, dropped);
    expect(dropped <= c.tolerance + rounding, where + ": dropped " + std::to_string(dropped * 1e6) + "e-6");
    expect(dropped <= t->dropped_mass[i] + rounding, where + ": dropped more than reported");
    expect(t->dropped_mass[i] <= c.tolerance, where + ": reports that it dropped more than allowed");
    expect(std::abs(weights - 1) <= 1e-5, where + ": weights sum to one");
    // The temperature enlarges the rounding errors of cosines.
    expect(worst <= 1e-5 + cosine_rounding() / c.temperature,
           where + ": weight off by " + std::to_string(worst * 1e6) + "e-6");
  }
  std::printf("%s: %.1f pairs a row in %.1f entries of its group, at most %.1e dropped\n", c.name.c_str(),
              3. * double(kept) / double(c.pixels), 3. * double(entries) / double(c.pixels), max_dropped);
}

// All pixels are equal and all channels but the first are `channel`, so that the rounding errors of channels add up.
void test_nothing_is_missed(const std::string& name, float first_channel, float channel) {
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const int64_t pixels = 2 * kernels.lanes, channels = 200, bytes = kernels.quantized_bytes(channels);
  const auto buffer = [](int64_t size) { return Buffer<float>(size, rwpm::heap_memory()); };
  Buffer<float> panels = buffer(pixels * channels), quant_scale = buffer(pixels), quant_error = buffer(pixels),
                screen_threshold = buffer(pixels);
  double cosine = 0;
  for (int64_t d = 0; d < channels; ++d) {
    const float x = d == 0 ? first_channel : channel;
    cosine += double(x) * x;
    for (int64_t panel = 0; panel < 2; ++panel)
      std::fill_n(&panels[(panel * channels + d) * kernels.lanes], kernels.lanes, x);
  }
  Buffer<char> quantized(2 * bytes, rwpm::heap_memory());
  for (int64_t panel = 0; panel < 2; ++panel)
    kernels.quantize(&panels[panel * kernels.lanes * channels], channels, quantized.get() + panel * bytes,
                     &quant_scale[panel * kernels.lanes], &quant_error[panel * kernels.lanes]);
  std::fill_n(screen_threshold.get(), pixels,
              float(cosine - max_cosine_rounding()));  // just below the cosine of every pair
  const rwpm::cpu::FilterArgs filter = {pixels,
                                        {channels, panels.get(), quantized.get(), quant_scale.get(), quant_error.get()},
                                        {},
                                        screen_threshold.get(),
                                        screen_threshold.get(),
                                        144.f,
                                        true};
  std::vector<rwpm::cpu::CandidateEntry> of_queries(pixels * kernels.lanes), of_keys(pixels * kernels.lanes);
  std::vector<uint32_t> dropped_weight(pixels);
  std::vector<std::vector<char>> kept(pixels, std::vector<char>(pixels));
  for (int64_t panel = 0; panel < 2; ++panel) {
    rwpm::cpu::Candidates candidates = {of_queries.data(), of_keys.data(), 0, 0, dropped_weight.data()};
    kernels.filter(filter, panel, 0, 0, pixels, candidates);
    for (int64_t k = 0; k < candidates.query_count + candidates.key_count; ++k) {
      const rwpm::cpu::CandidateEntry& e =
          k < candidates.query_count ? of_queries[k] : of_keys[k - candidates.query_count];
      for (int64_t row = 0; row < rwpm::cpu::group_rows; ++row)
        kept[e.group * rwpm::cpu::group_rows + row][e.column] += e.cosine[row] > 0;
    }
  }
  for (int64_t i = 0; i < pixels; ++i)
    for (int64_t j = 0; j < pixels; ++j)
      expect(kept[i][j] == (i != j), name + ": pair " + std::to_string(i) + ", " + std::to_string(j) + " once");
  std::printf("%s: a cosine of %.6f, margin %.6f\n", name.c_str(), cosine, double(quant_error[0] + quant_error[1]));
}

// The timed pass is the filter: it tests half of all pairs, by whole panels, and finds those that reach a threshold.
void test_filter_alone(int64_t pixels) {
  const Case c = {"the filter alone, " + std::to_string(pixels) + " pixels", pixels, 45, 0.01, 0};
  const std::vector<float> units = unit_rows(c);
  const Buffer<float> panels = panels_of(c, units);
  const auto pass = [&](float threshold, int64_t threads) {
    return rwpm::cpu::time_filter(panels.get(), pixels, c.channels, threshold, rwpm::parallel_for_threads(threads));
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
  // A panel is tested against all of its own keys; the last panel holds the remaining pixels.
  const int64_t lanes = rwpm::cpu::chosen_isa().sparse->lanes, whole = pixels / lanes, rest = pixels % lanes;
  const int64_t pairs_tested = whole * lanes * pixels - lanes * lanes * (whole * (whole - 1) / 2) + rest * rest;
  for (const int64_t threads : {1, 3}) {
    const auto found = pass(float(threshold), threads), nothing = pass(9, threads);
    expect(above > 0 && found.pairs_kept >= above && found.pairs_kept <= above + within,
           c.name + ": " + std::to_string(found.pairs_kept) + " kept, " + std::to_string(above) + " expected");
    expect(nothing.pairs_kept == 0, c.name + ": no cosine is 9");
    expect(found.pairs_tested == pairs_tested && nothing.pairs_tested == pairs_tested,
           c.name + ": every panel is tested against itself and all later ones");
  }
  expect(pass(std::numeric_limits<float>::infinity(), 1).pairs_tested == 0, c.name + ": no pair is tested");
}

double dot(const float* a, const float* b, int64_t count, int64_t stride = 1) {
  double sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += double(a[k * stride]) * double(b[k * stride]);
  return sum;
}

// No cosine exceeds the product of the leading channels, and where embeddings lie close to few directions it is little
// less.
void test_leading_channels(const Case& c, double max_slack) {
  const std::vector<float> units = unit_rows(c);
  const Buffer<float> panels = panels_of(c, units);
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const auto make = [&](int64_t threads) {
    return rwpm::cpu::make_leading_channels(kernels, panels.get(), c.pixels, c.channels,
                                            rwpm::parallel_for_threads(threads), rwpm::heap_memory());
  };
  const Buffer<float> leading = make(1), other = make(3);
  expect(!std::memcmp(leading.get(), other.get(), leading.size() * sizeof(float)), c.name + ": same bits");
  const auto of = [&](int64_t i) {
    return &leading[i / kernels.lanes * rwpm::cpu::leading_channels * kernels.lanes + i % kernels.lanes];
  };
  double slack = 0;
  for (int64_t i = 0; i < c.pixels; ++i)
    for (int64_t j = i; j < c.pixels; j += 7) {
      const double bound = dot(of(i), of(j), rwpm::cpu::leading_channels, kernels.lanes);
      const double cosine = dot(&units[i * c.channels], &units[j * c.channels], c.channels);
      expect(bound >= cosine - 4e-6, c.name + ": a bound of " + std::to_string(bound - cosine));
      slack = std::max(slack, bound - cosine);
    }
  expect(slack <= max_slack, c.name + ": off by up to " + std::to_string(slack));
}

// Shuffled pixels are told from pixels in order, and ordered so that neighbors resemble each other again.
void test_order_by_similarity(int64_t pixels) {
  const Case c = {"similarity, " + std::to_string(pixels) + " pixels", pixels, 80, 0.01, 0, 0.3, 40, 30};
  std::vector<float> units = unit_rows(c), shuffled(units.size());
  std::vector<int64_t> order(pixels);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  const auto arranged = [&](const auto& places) {
    for (int64_t i = 0; i < pixels; ++i)
      std::copy_n(&units[places[i] * c.channels], c.channels, &shuffled[i * c.channels]);
    return panels_of(c, shuffled);
  };
  const int64_t lanes = rwpm::cpu::chosen_isa().sparse->lanes;
  const auto resemble = [&](const Buffer<float>& panels) {
    return rwpm::cpu::neighbors_resemble(panels.get(), pixels, c.channels, lanes);
  };
  expect(resemble(panels_of(c, units)), c.name + ": in order");
  const Buffer<float> panels = arranged(order);
  expect(!resemble(panels), c.name + ": shuffled");
  const rwpm::cpu::PixelOrder given = {{order.begin(), order.end()}, 1};
  const auto similar = rwpm::cpu::order_by_similarity(given, panels.get(), c.channels, lanes).pixels;
  expect(std::is_permutation(similar.begin(), similar.end(), order.begin(), order.end()), c.name + ": all are there");
  expect(resemble(arranged(similar)), c.name + ": ordered");
}

void test_multiply_adds_are_counted() {
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const double once = kernels.multiply_adds(1);
  expect(once >= double(kernels.lanes), "a round does at least one for each lane of a panel");
  expect(kernels.multiply_adds(7) == 7 * once, "seven rounds are seven times one");
  const bool exact = kernels.quantized_bytes(100) == 0;
  expect((std::string(kernels.format) == "float32") == exact, "the format without quantization is float32");
}

void test_dense_graphs_are_rejected() {
  const Case c = {"flat", 1500, 32, 1.0, 1e-4};
  expect(!build(c, unit_rows(c), 1.4427, 2), "a flat graph is rejected");
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
    // Many pairs of little weight: after the first pass and after the second some rows are over budget.
    test({"three passes", 2000, 64, 0.06, 1e-3, 0.6, 30, 40, 0.5});
    // Rounding errors of nearly half a step: of 8-bit integers, whose step the first channel sets, and of bfloat16.
    test_nothing_is_missed("8 bits", 127 * 0.0006f, 100.499f * 0.0006f);
    test_nothing_is_missed("bfloat16", 0.0625f, 0.0625f * (1 + 0x0.fffp-8f));
    for (const int64_t pixels : {49, 96, 383, 385, 800}) test_filter_alone(pixels);
    test_leading_channels({"leading channels", 3000, 200, 0.01, 0, 0.1, 7, 40}, 0.1);
    test_leading_channels({"leading channels, scattered", 500, 120, 0.01, 0, 2, 1, 500}, 1);
    test_leading_channels({"leading channels of few", 300, 20, 0.01, 0}, 0.01);
    test_leading_channels({"leading channels of one direction", 200, 100, 0.01, 0, 0, 7, 1}, 0.01);
    for (const int64_t pixels : {600, 1025, 3000}) test_order_by_similarity(pixels);
    test_multiply_adds_are_counted();
    test_dense_graphs_are_rejected();
  });
}
