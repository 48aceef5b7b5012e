// The sparse transition matrix against dense rows: no pair that matters is missing, and the mass that a row dropped is
// within both the tolerance and the bound that the matrix reports.
#include "cpu/build_sparse.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory_resource>
#include <mutex>
#include <new>
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
using rwpm::cpu::group_rows;
using rwpm::cpu::GroupedMatrix;
using rwpm::cpu::Hints;
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

std::optional<GroupedMatrix> build(const Case& c, const std::vector<float>& units, double scale, int64_t threads,
                                   rwpm::cpu::Memory* memory = rwpm::heap_memory(), const Hints* previous = nullptr,
                                   Hints* next = nullptr) {
  return rwpm::cpu::build_matrix(panels_of(c, units).get(), c.pixels, c.channels, 1, float(scale), c.tolerance,
                                 c.max_density, rwpm::parallel_for_threads(threads), memory, previous, next);
}

// By how much the cosines that rows are selected by are off: some 1e-7 in float32. Products of bfloat16 parts, where
// the tolerance allows them, leave out 3 * 2^-18 at worst, of which over channels of either sign a tenth is left.
double cosine_rounding(const Case& c) {
  const double parts_error = rwpm::cpu::chosen_isa().sparse->parts_error;
  const bool in_parts = parts_error > 0 && parts_error / c.temperature <= c.tolerance * std::sqrt(double(c.channels));
  return in_parts ? 1e-6 : 2e-7;
}
double max_cosine_rounding() { return rwpm::cpu::chosen_isa().sparse->parts_error > 0 ? 3 * 0x1p-18 : 2e-6; }

// Two matrices are the same to the bit.
void check_same(const Case& c, const GroupedMatrix& t, const GroupedMatrix& other) {
  expect(t.dropped_mass == other.dropped_mass && t.row_scale == other.row_scale && t.pairs == other.pairs,
         c.name + ": same bits on 1 and 3 threads");
  for (size_t b = 0; b < t.blocks.size(); ++b) {
    const GroupedMatrix::Block &one = t.blocks[b], &two = other.blocks[b];
    const auto same = [](const auto& x, const auto& y) {
      return x.size() == y.size() && !std::memcmp(x.get(), y.get(), x.size() * sizeof(x[0]));
    };
    expect(same(one.group_start, two.group_start) && same(one.column, two.column) && same(one.code, two.code) &&
               same(one.low_code, two.low_code),
           c.name + ": same bits on 1 and 3 threads, block " + std::to_string(b));
  }
}

// The rows against dense ones.
void check_rows(const Case& c, const std::vector<float>& units, const GroupedMatrix& t) {
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  double max_dropped = 0;
  int64_t kept = 0, entries = 0;
  const auto blocks = rwpm::cpu::row_groups(t, rwpm::heap_memory());
  for (int64_t i = 0; i < c.pixels; i += 3) {
    const rwpm::cpu::RowGroups& block = blocks[i / t.block_rows];
    const int64_t g = i % t.block_rows / group_rows;
    std::map<int64_t, double> weight;
    rwpm::cpu::for_each_entry(block, g, [&](int64_t column, int64_t first_row, int64_t code, int64_t codes) {
      ++entries;
      bool any = false;
      for (int64_t k = 0; k < codes; ++k) any |= block.weight(code + k, 1) > 0;
      expect(any, c.name + ": no entry without a pair");
      const int64_t k = i % group_rows - first_row;
      if (k < 0 || k >= codes || block.weight(code + k, 1) == 0) return;
      const bool is_new = weight.emplace(column, block.weight(code + k, t.row_scale[i])).second;
      expect(is_new && column != i, c.name + ": no column twice, none the pixel itself");
    });
    kept += int64_t(weight.size());
    std::vector<double> row(c.pixels);
    double row_max = -1, sum = 0;
    for (int64_t j = 0; j < c.pixels; ++j) {
      double dot = 0;
      for (int64_t d = 0; d < c.channels; ++d) dot += double(units[i * c.channels + d]) * units[j * c.channels + d];
      row[j] = dot;
      if (j != i) row_max = std::max(row_max, dot);
    }
    for (int64_t j = 0; j < c.pixels; ++j) sum += row[j] = j == i ? 0 : std::exp2((row[j] - row_max) * scale);
    double mass = 0, weights = 0, worst = 0, moved = 0;
    for (const auto& [j, x] : weight) {
      mass += row[j] / sum;
      weights += x;
      moved += std::max(0., x - row[j] / sum);  // half of the sum of differences, since both rows sum to one
    }
    for (const auto& [j, x] : weight) worst = std::max(worst, std::abs(x - row[j] / sum / mass));
    const std::string where = c.name + ", row " + std::to_string(i);
    const double dropped = 1 - mass, rounding = 1e-9 + 1e-3 * c.tolerance;
    max_dropped = std::max(max_dropped, dropped);
    expect(dropped <= c.tolerance + rounding, where + ": dropped " + std::to_string(dropped * 1e6) + "e-6");
    expect(dropped <= t.dropped_mass[i] + rounding, where + ": dropped more than reported");
    expect(t.dropped_mass[i] <= c.tolerance, where + ": reports that it dropped more than allowed");
    expect(std::abs(weights - 1) <= 3e-7, where + ": weights sum to one");
    // The temperature enlarges the rounding errors of cosines.
    const double off = cosine_rounding(c) / c.temperature;
    expect(moved <= t.dropped_mass[i] + off, where + ": " + std::to_string(moved * 1e6) + "e-6 are elsewhere");
    const double code_rounding = blocks[0].low_code ? 1e-5 : 2e-5;
    expect(worst <= code_rounding + off, where + ": weight off by " + std::to_string(worst * 1e6) + "e-6");
  }
  std::printf("%s: %.1f pairs a row in %.1f entries of its group, at most %.1e dropped\n", c.name.c_str(),
              3. * double(kept) / double(c.pixels), 3. * double(entries) / double(c.pixels), max_dropped);
}

void test(const Case& c) {
  const std::vector<float> units = unit_rows(c);
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  const std::optional<GroupedMatrix> t = build(c, units, scale, 1), other = build(c, units, scale, 3);
  expect(t && other, c.name + ": the graph is sparse");
  if (!t || !other) return;
  check_same(c, *t, *other);
  check_rows(c, units, *t);
}

Hints no_hints(int64_t rows) {
  const auto buffer = [&] { return Buffer<float>(rows, rwpm::heap_memory()); };
  return {buffer(), buffer(), {}};
}

// Whatever the hints, rows drop no more than they may and report no less; and the same bits come out at any number of
// threads.
void test_hints(const Case& c) {
  const std::vector<float> units = unit_rows(c);
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  const auto build_with = [&](const std::string& name, const Hints* previous) {
    Case named = c;
    named.name += ", hints " + name;
    Hints next = no_hints(c.pixels), of_other = no_hints(c.pixels);
    const auto t = build(named, units, scale, 1, rwpm::heap_memory(), previous, &next),
               other = build(named, units, scale, 3, rwpm::heap_memory(), previous, &of_other);
    expect(t && other, named.name + ": the graph is sparse");
    if (t && other) {
      check_same(named, *t, *other);
      check_rows(named, units, *t);
      expect(!std::memcmp(next.keep.get(), of_other.keep.get(), c.pixels * sizeof(float)), named.name + ": same hints");
    }
    return next;
  };
  Hints hints = build_with("that are none", nullptr);
  for (const char* name : {"of the same graph", "of the second one", "of the third one"})
    hints = build_with(name, &hints);
  std::mt19937 random(5);
  const auto fill = [&](const auto& number) {
    for (Buffer<float>* numbers : {&hints.screen, &hints.keep})
      for (int64_t i = 0; i < c.pixels; ++i) (*numbers)[i] = number();
    hints.directions = Buffer<float>(c.channels * rwpm::cpu::leading_channels, rwpm::heap_memory());
    for (int64_t k = 0; k < hints.directions.size(); ++k) hints.directions[k] = number();
  };
  fill([&] { return std::uniform_real_distribution<float>(-40, 10)(random); });
  build_with("at random", &hints);
  // Thresholds above all cosines, below all, beyond what is believed, none.
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const float x : {100.f, -150.f, 1e30f, infinity, nan}) {
    fill([&] { return x; });
    build_with("of " + std::to_string(x), &hints);
  }
  fill([&] { return random() % 2 ? nan : -15.f; });
  build_with("of half of the rows", &hints);
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
void test_leading_channels(const Case& c, double max_slack, const Buffer<float>& similar = {}) {
  const std::vector<float> units = unit_rows(c);
  const Buffer<float> panels = panels_of(c, units);
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const auto make = [&](int64_t threads) {
    const Buffer<float> directions =
        rwpm::cpu::find_leading_directions(kernels, panels.get(), c.pixels, c.channels, similar, rwpm::heap_memory());
    return rwpm::cpu::make_leading_channels(kernels, panels.get(), c.pixels, c.channels, directions,
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

// The weights of a group's rows against a softmax in double precision: they sum to one, and what is left out and what
// rounding moves is known.
void test_weighing(float scale, float min_share, int64_t entries, bool with_low) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> cosines(entries * group_rows);
  for (int64_t e = 0; e < entries; ++e) {
    const float x = uniform(random);
    float* const row = &cosines[e * group_rows];
    row[0] = 0.5f - x / scale;                  // flat
    row[1] = e == 7 ? 1 : 0.5f + 0.3f * x * x;  // one that stands out, and many small ones
    row[2] = e % 3 ? -std::numeric_limits<float>::infinity() : 0.5f - 20 * x / scale;  // of all sizes
    row[3] = e == entries / 2 ? 0.75f : -std::numeric_limits<float>::infinity();       // one pair only
  }
  std::vector<uint16_t> code(cosines.size()), low_code(cosines.size());
  std::vector<float> overwritten = cosines;
  rwpm::cpu::WeighedRows rows;
  const rwpm::cpu::RowGroups weighed = {0, 1, nullptr, nullptr, code.data(), with_low ? low_code.data() : nullptr};
  rwpm::cpu::chosen_isa().sparse->weigh_group(overwritten.data(), entries, scale, min_share, code.data(),
                                              with_low ? low_code.data() : nullptr, rows);
  for (int64_t k = 0; k < group_rows; ++k) {
    const std::string where = "weighing with scale " + std::to_string(scale) + ", from " + std::to_string(min_share) +
                              " on, row " + std::to_string(k);
    double sum = 0, weights = 0, moved = 0, trimmed = 0;
    const auto power = [&](int64_t e) { return std::exp2(scale * (double(cosines[e * group_rows + k]) - 1)); };
    for (int64_t e = 0; e < entries; ++e) sum += power(e);
    for (int64_t e = 0; e < entries; ++e) {
      const double exact = power(e) / sum;
      const double weight = weighed.weight(e * group_rows + k, rows.scale[k]);
      weights += weight;
      moved += std::abs(weight - exact) / 2;
      bool kept = false;
      for (int64_t row = 0; row < group_rows; ++row) kept |= weighed.weight(e * group_rows + row, 1) > 0;
      if (!kept) trimmed += exact;
    }
    const double rounding = 1e-6;
    expect(std::abs(weights - 1) <= 3e-7, where + ": weights sum to one");
    expect(std::abs(rows.log_sum[k] - std::log2(sum) - scale) <= 1e-6 * scale + 1e-5, where + ": its sum");
    expect(std::abs(moved - rows.moved_mass[k]) <= rounding, where + ": " + std::to_string(moved * 1e6) + "e-6 moved");
    expect(std::abs(trimmed - rows.trimmed_mass[k]) <= rounding, where + ": " + std::to_string(trimmed) + " trimmed");
    expect(moved - trimmed <= (with_low ? rounding : 2e-5) && (k != 3 || rows.moved_mass[k] <= 1e-15),
           where + ": little is rounded");
  }
}

// Counts the bytes in use, and has no more than `limit` of them.
class LimitedMemory final : public std::pmr::memory_resource {
 public:
  size_t limit = std::numeric_limits<size_t>::max(), used = 0, peak = 0;

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    const std::lock_guard<std::mutex> lock(guard_);
    if (used + bytes > limit) throw std::bad_alloc();
    used += bytes;
    peak = std::max(peak, used);
    return rwpm::heap_memory()->allocate(bytes, alignment);
  }
  void do_deallocate(void* block, size_t bytes, size_t alignment) override {
    const std::lock_guard<std::mutex> lock(guard_);
    used -= bytes;
    rwpm::heap_memory()->deallocate(block, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
  std::mutex guard_;
};

// Blocks are weighed while the pass goes on, so that its lists are never all there; and wherever memory ends, what was
// there is given back.
void test_memory() {
  const Case c = {"memory", 6000, 32, 0.01, 1e-3, 0.2, 150, 20};
  const std::vector<float> units = unit_rows(c);
  const double scale = std::log2(std::exp(1.)) / c.temperature;
  LimitedMemory memory;
  size_t matrix_bytes = 0, entries = 0;
  {
    const std::optional<GroupedMatrix> t = build(c, units, scale, 1, &memory);
    expect(t.has_value(), c.name + ": the graph is sparse");
    for (const GroupedMatrix::Block& block : t->blocks) entries += size_t(block.column.size());
    matrix_bytes = memory.used;
  }
  std::printf("%s: a matrix of %zu bytes for %zu entries, at most %zu in use\n", c.name.c_str(), matrix_bytes, entries,
              memory.peak);
  expect(matrix_bytes <= 13 * entries, c.name + ": an entry takes at most 12 bytes, and little is beside");
  const auto& kernels = *rwpm::cpu::chosen_isa().sparse;
  const auto quantized = size_t(kernels.quantized_bytes(c.channels) * rwpm::cpu::ceil_div(c.pixels, kernels.lanes));
  expect(memory.peak - quantized <= 20 * entries, c.name + ": what all lists would take, without the matrix");
  const size_t peak = memory.peak;
  for (const double part : {0.1, 0.5, 0.8, 0.95})
    for (const int64_t threads : {1, 3}) {
      memory.limit = size_t(part * double(peak));
      bool failed = false;
      try {
        build(c, units, scale, threads, &memory);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      expect(failed && memory.used == 0, c.name + ": fails and gives back all at " + std::to_string(part));
    }
}

// Each pixel has a twin with half of its row's mass, and hundreds of others with little each: rounding moves more than
// the tolerance allows, and low codes are stored.
void test_low_codes() {
  const Case c = {"twins", 6000, 64, 0.01, 1e-4, 0, 7, 2, 0.9};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto direction = [&] {
    std::vector<float> x(c.channels);
    double squares = 0;
    for (float& v : x) squares += std::pow(double(v = normal(random)), 2);
    for (float& v : x) v /= float(std::sqrt(squares));
    return x;
  };
  const std::vector<float> centers[] = {direction(), direction()};
  std::vector<float> units, twin;
  for (int64_t i = 0; i < c.pixels; ++i) {
    if (i % 2 == 0) twin = direction();
    const std::vector<float> own = direction();
    double squares = 0;
    for (int64_t d = 0; d < c.channels; ++d) {
      units.push_back(0.96f * centers[i * 2 / c.pixels][d] + 0.28f * twin[d] + 0.02f * own[d]);
      squares += std::pow(double(units.back()), 2);
    }
    for (int64_t d = 0; d < c.channels; ++d) units[i * c.channels + d] /= float(std::sqrt(squares));
  }
  const std::optional<GroupedMatrix> t = build(c, units, std::log2(std::exp(1.)) / c.temperature, 2);
  expect(t && t->blocks[0].low_code.size() == t->blocks[0].code.size(), c.name + ": low codes");
  expect(t && *std::max_element(t->dropped_mass.begin(), t->dropped_mass.end()) <= c.tolerance, c.name + ": in budget");
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
    // From any directions: they are made orthonormal again, so that the bound holds.
    Buffer<float> similar(200 * rwpm::cpu::leading_channels, rwpm::heap_memory());
    for (const float x : {0.f, 1.f, 1e30f, std::numeric_limits<float>::quiet_NaN()}) {
      for (int64_t k = 0; k < similar.size(); ++k) similar[k] = x * std::sin(float(k));
      test_leading_channels({"leading channels from " + std::to_string(x), 900, 200, 0.01, 0, 0.1, 7, 40}, 2, similar);
    }
    test_hints({"1100 pixels", 1100, 64, 0.01, 1e-4});
    test_hints({"odd sizes", 999, 61, 0.01, 1e-3, 0.5, 1, 61});
    test_hints({"low codes", 700, 32, 0.01, 1e-6});
    test_hints({"leading channels", 2100, 100, 0.01, 1e-4, 0.3, 7, 200});
    for (const int64_t pixels : {600, 1025, 3000}) test_order_by_similarity(pixels);
    for (const float scale : {1.f, 144.f, 700.f})
      for (const float min_share : {0.f, 1e-4f})
        for (const int64_t entries : {8, 301, 5000})
          for (const bool with_low : {false, true}) test_weighing(scale, min_share, entries, with_low);
    test_memory();
    test_low_codes();
    test_multiply_adds_are_counted();
    test_dense_graphs_are_rejected();
  });
}
