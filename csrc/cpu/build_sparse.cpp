#include "cpu/build_sparse.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>

#include "cpu/isa.h"
#include "cpu/stopwatch.h"

namespace rwpm::cpu {
namespace {

// At first a pixel keeps the pairs whose share of its row is at least the tolerance over a part of N: measured on maps
// of road networks, the rest of nearly every row then adds up to less than the tolerance. Rows for which it does not
// keep more in another pass.
constexpr double kept_part = 1 / 40., fewest_kept = 100;
constexpr int64_t passes = 3;
// What the filter may miss altogether is bounded by N times the smallest share it looks for: this part of the
// tolerance.
constexpr double see_part = 0.25;

// A tile is a block of queries against a block of keys.
constexpr int64_t block_rows = Transition::block_rows;
// A row's sum is bounded from below by its panel and the four beside it. That will not do when of `probes` panels more
// than one in `most_loose` has a pixel in four whose bound is off by more than so many bits.
constexpr int64_t probes = 8, most_loose = 4;
constexpr float loose_bits = 3;

constexpr double most_bytes = double(1 << 30);  // of the matrix

constexpr float infinity = std::numeric_limits<float>::infinity();

// Tasks that differ in work: threads take one after the other, and what a task does must not depend on who takes it.
// `worker` gets a function that gives the next task's number, `count` or more when there is none.
template <typename Worker>
void take_in_turns(int64_t count, const ParallelFor& parallel_for, const Worker& worker) {
  std::atomic<int64_t> next = 0;
  parallel_for(count, [&](int64_t, int64_t) { worker([&] { return next++; }); });
}

struct Work {
  const SparseKernels& kernels;
  int64_t pixels, channels;
  const ParallelFor& parallel_for;
  int64_t panels() const { return ceil_div(pixels, kernels.lanes); }
  int64_t padded() const { return panels() * kernels.lanes; }
  int64_t blocks() const { return ceil_div(pixels, block_rows); }
  int64_t block_begin(int64_t block) const { return block * block_rows; }
  int64_t block_end(int64_t block) const { return std::min(block_begin(block + 1), padded()); }
};

// What a Filter points to; what it looks for is still to be set.
struct Prepared {
  const Buffer<char> rounded;
  const Buffer<float> factor, off, see, keep;  // [padded]
  const Filter filter;

  Prepared(const Work& w, const float* panels, float scale)
      : rounded(w.panels() * w.kernels.rounded_bytes(w.channels)),
        factor(w.padded()),
        off(w.padded()),
        see(w.padded()),
        keep(w.padded()),
        filter{w.pixels, w.channels, panels, rounded.get(), factor.get(), off.get(), see.get(), keep.get(), scale} {
    const int64_t lanes = w.kernels.lanes, bytes = w.kernels.rounded_bytes(w.channels);
    w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel)
        w.kernels.round(panels + panel * lanes * w.channels, w.channels, rounded.get() + panel * bytes,
                        &factor[panel * lanes], &off[panel * lanes]);
    });
  }
};

// log2 of a lower bound of each row's sum of exp2(scale * cosine): [padded].
Buffer<float> bound_sums(const Work& w, const Filter& filter, int64_t across) {
  const int64_t lanes = w.kernels.lanes;
  Buffer<float> bound(w.padded());
  w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      int64_t near[5], count = 0;
      for (const int64_t other : {panel - across, panel - 1, panel, panel + 1, panel + across})
        if (other >= 0 && other < w.panels() && (count == 0 || other > near[count - 1])) near[count++] = other;
      w.kernels.sum(filter, panel, near, count, &bound[panel * lanes]);
    }
  });

  // Where pixels come in no order that makes neighbors alike, from the largest cosine of all.
  std::vector<char> loose(probes);
  const auto largest = [&](int64_t panel, const auto& visit) {
    std::vector<float> cosines(lanes);
    w.kernels.largest(filter, panel, cosines.data());
    for (int64_t k = 0; k < std::min(lanes, w.pixels - panel * lanes); ++k)
      visit(bound[panel * lanes + k], cosines[k] * filter.scale);
  };
  w.parallel_for(probes, [&](int64_t first, int64_t last) {
    for (int64_t probe = first; probe < last; ++probe) {
      int64_t off = 0;
      largest((w.panels() - 1) * probe / (probes - 1), [&](float b, float logit) { off += logit > b + loose_bits; });
      loose[probe] = off * 4 > lanes;
    }
  });
  if (std::count(loose.begin(), loose.end(), 1) * most_loose > probes)
    w.parallel_for(w.panels(), [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel)
        largest(panel, [](float& b, float logit) { b = std::max(b, logit); });
    });
  return bound;
}

// A list that knows its size from the start, so that no room is wasted.
struct Entries {
  Buffer<Entry> list{0};
  int64_t count = 0;

  void assign(const std::vector<Entry>& entries) {
    count = int64_t(entries.size());
    list = Buffer<Entry>(count);
    std::copy(entries.begin(), entries.end(), list.get());
  }
};

// What a pass over half of the tiles found: (query block a, key block b >= a).
struct Pass {
  struct Tile {
    Entries of_queries, of_keys;
  };
  int64_t blocks;
  std::vector<Tile> tiles;
  std::vector<uint32_t> dropped;  // [N] by row, in drop units
  int64_t met = 0;                // pairs of pixels that were multiplied
  Tile& tile(int64_t a, int64_t b) { return tiles[number(a, b)]; }
  int64_t number(int64_t a, int64_t b) const { return a * blocks - a * (a - 1) / 2 + (b - a); }
  std::pair<int64_t, int64_t> blocks_of(int64_t tile) const {
    int64_t a = 0, above = blocks;  // a tile of the last query block that begins no later
    while (above - a > 1) {
      const int64_t middle = (a + above) / 2;
      (number(middle, middle) <= tile ? a : above) = middle;
    }
    return {a, tile - number(a, a) + a};
  }
};

// About how many entries a pass will find, by some of its query panels against a block of keys each: a graph that is
// too dense should be known to be so before much of it has been looked at.
double expected_entries(const Work& w, const Filter& filter) {
  const int64_t lanes = w.kernels.lanes, samples = std::max<int64_t>(48, w.panels() / 8);
  std::vector<double> entries(samples);
  w.parallel_for(samples, [&](int64_t first, int64_t last) {
    const Buffer<Entry> of_queries(block_rows * lanes / group_rows), of_keys(block_rows * lanes / group_rows);
    std::vector<uint32_t> dropped(w.pixels);
    for (int64_t k = first; k < last; ++k) {
      constexpr double golden = 0.6180339887;  // its multiples spread evenly, whatever their number
      const int64_t panel = w.panels() * k / samples, own = panel * lanes / block_rows, blocks = w.blocks() - own;
      const int64_t b = own + int64_t(double(blocks) * (double(k) * golden - std::floor(double(k) * golden)));
      Found found = {of_queries.get(), of_keys.get(), 0, 0, dropped.data()};
      w.kernels.filter(filter, panel, w.block_begin(own), w.block_begin(b), w.block_end(b), found);
      entries[k] = double(found.query_count + found.key_count) * double(blocks);
    }
  });
  return std::accumulate(entries.begin(), entries.end(), 0.) * double(w.panels()) / double(samples);
}

// Filter and refine; nothing when more than `limit` entries are found.
std::optional<Pass> find_pairs(const Work& w, const Filter& filter, int64_t limit) {
  const int64_t blocks = w.blocks(), tiles = blocks * (blocks + 1) / 2, lanes = w.kernels.lanes;
  Pass pass = {blocks, std::vector<Pass::Tile>(tiles), std::vector<uint32_t>(w.pixels)};
  std::vector<char> looks(w.panels());  // a panel with a pixel that looks for pairs
  for (int64_t i = 0; i < w.pixels; ++i) looks[i / lanes] |= filter.see[i] < infinity;
  std::atomic<int64_t> total = 0;
  std::mutex guard;
  take_in_turns(tiles, w.parallel_for, [&](const auto& next) {
    const Buffer<Entry> of_queries(block_rows * lanes / group_rows), of_keys(block_rows * lanes / group_rows);
    std::vector<Entry> all_of_queries, all_of_keys;
    std::vector<uint32_t> dropped(w.pixels);
    int64_t met = 0;
    for (int64_t tile = next(); tile < tiles && total <= limit; tile = next()) {
      const auto [a, b] = pass.blocks_of(tile);
      const auto panels_of = [&](int64_t block) { return w.block_begin(block) / lanes; };
      const int64_t last = w.block_end(a) / lanes;
      const bool key_looks = std::count(&looks[panels_of(b)], &looks[0] + w.block_end(b) / lanes, 1) > 0;
      all_of_queries.clear();
      all_of_keys.clear();
      for (int64_t panel = panels_of(a); panel < last; ++panel) {
        if (!key_looks && !looks[panel]) continue;
        Found found = {of_queries.get(), of_keys.get(), 0, 0, dropped.data()};
        w.kernels.filter(filter, panel, w.block_begin(a), w.block_begin(b), w.block_end(b), found);
        all_of_queries.insert(all_of_queries.end(), found.of_queries, found.of_queries + found.query_count);
        all_of_keys.insert(all_of_keys.end(), found.of_keys, found.of_keys + found.key_count);
        met += found.met;
      }
      total += int64_t(all_of_queries.size() + all_of_keys.size());
      pass.tiles[tile].of_queries.assign(all_of_queries);
      pass.tiles[tile].of_keys.assign(all_of_keys);
    }
    const std::lock_guard<std::mutex> lock(guard);
    pass.met += met;
    for (int64_t i = 0; i < w.pixels; ++i) pass.dropped[i] += dropped[i];
  });
  if (total > limit) return std::nullopt;
  return pass;
}

// Entries of a block of rows, group by group.
using Block = Transition::Block;

// A block's entries of what a pass found, with cosines in place of weights; the pass's lists are freed.
Block take_block(const Work& w, Pass& pass, int64_t block) {
  const int64_t groups = ceil_div(std::min(block_rows, w.pixels - w.block_begin(block)), group_rows);
  const auto each_list = [&](const auto& visit) {
    for (int64_t a = 0; a <= block; ++a) visit(pass.tile(a, block).of_keys, w.block_begin(a));
    for (int64_t b = block; b < pass.blocks; ++b) visit(pass.tile(block, b).of_queries, w.block_begin(b));
  };
  std::vector<int64_t> start(groups + 1);
  each_list([&](const Entries& entries, int64_t) {
    for (int64_t k = 0; k < entries.count; ++k) ++start[entries.list[k].group + 1];
  });
  for (int64_t g = 0; g < groups; ++g) start[g + 1] += start[g];
  Buffer<int32_t> column(start[groups]);
  Buffer<float> weight(start[groups] * group_rows);
  std::vector<int64_t> at(start.begin(), start.end() - 1);
  each_list([&](Entries& entries, int64_t first_column) {
    for (int64_t k = 0; k < entries.count; ++k) {
      const Entry& entry = entries.list[k];
      const int64_t e = at[entry.group]++;
      column[e] = int32_t(first_column + entry.column);
      std::copy_n(entry.cosine, group_rows, &weight[e * group_rows]);
    }
    entries = {};
  });
  return {std::move(start), std::move(column), std::move(weight)};
}

// Adds the entries of `more`, whose weights are shares of their rows, to `block`. Entries that are `least` to no row
// are left out, and the rows' others made to sum to one without them: `dropped`, [rows], is what a row loses by it.
// Returns the pairs of the block.
int64_t add_entries(const Block& more, float least, Block& block, double* dropped) {
  const int64_t groups = int64_t(more.group_start.size()) - 1;
  if (block.group_start.empty()) block.group_start.assign(groups + 1, 0);
  static_assert(group_rows == 4);
  const auto largest = [](const float* w) { return std::max(std::max(w[0], w[1]), std::max(w[2], w[3])); };
  // Which entries stay, of both.
  const auto chosen = [&](const Block& b, const auto& stays) {
    std::vector<char> chosen(b.group_start[groups]);
    for (size_t e = 0; e < chosen.size(); ++e) chosen[e] = stays(largest(&b.weight[e * group_rows]));
    return chosen;
  };
  const std::vector<char> old = chosen(block, [](float x) { return x > 0; });
  const std::vector<char> added = chosen(more, [&](float x) { return x > 0 && x >= least; });
  const int64_t entries = std::count(old.begin(), old.end(), 1) + std::count(added.begin(), added.end(), 1);
  Block all = {std::vector<int64_t>(groups + 1), Buffer<int32_t>(entries), Buffer<float>(entries * group_rows)};
  int64_t pairs = 0, to = 0;
  const auto add = [&](const Block& b, int64_t e, const float (&factor)[group_rows]) {
    all.column[to] = b.column[e];
    for (int64_t k = 0; k < group_rows; ++k) {
      const float weight = b.weight[e * group_rows + k] * factor[k];
      all.weight[to * group_rows + k] = weight;
      pairs += weight > 0;
    }
    ++to;
  };
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t e = block.group_start[g]; e < block.group_start[g + 1]; ++e)
      if (old[e]) add(block, e, {1, 1, 1, 1});
    double lost[group_rows] = {};
    for (int64_t e = more.group_start[g]; e < more.group_start[g + 1]; ++e)
      if (!added[e])
        for (int64_t k = 0; k < group_rows; ++k) lost[k] += double(more.weight[e * group_rows + k]);
    float factor[group_rows];
    for (int64_t k = 0; k < group_rows; ++k) {
      factor[k] = float(1 / (1 - lost[k]));
      dropped[g * group_rows + k] = lost[k];
    }
    for (int64_t e = more.group_start[g]; e < more.group_start[g + 1]; ++e)
      if (added[e]) add(more, e, factor);
    all.group_start[g + 1] = to;
  }
  block = std::move(all);
  return pairs;
}

}  // namespace

std::optional<Transition> compile_transition(const float* panels, int64_t pixels, int64_t channels, int64_t across,
                                             float scale, double tolerance, double densest,
                                             const ParallelFor& parallel_for) {
  const Work w = {*chosen_isa().sparse, pixels, channels, parallel_for};
  const int64_t n = w.padded();
  const Prepared prepared(w, panels, scale);
  const Buffer<float>&see = prepared.see, &keep = prepared.keep;
  const Filter& filter = prepared.filter;
  const Buffer<float> bound = bound_sums(w, filter, across);

  // Below one share the filter does not look, from the other on a pixel keeps a pair: never above 1 / N, so that a row
  // keeps its largest.
  const double see_share = tolerance * see_part / double(pixels);
  const double kept_of_tolerance = std::max(fewest_kept, double(pixels) * kept_part);
  const double keep_share = std::max(see_share, std::min(tolerance / kept_of_tolerance, 0.5 / double(pixels)));
  const auto cosine_of = [&](int64_t i, double share) { return (bound[i] + float(std::log2(share))) / scale; };
  for (int64_t i = 0; i < n; ++i) {
    see[i] = i < pixels ? cosine_of(i, see_share) : infinity;
    keep[i] = i < pixels ? cosine_of(i, keep_share) : infinity;
  }

  const double of_entry = sizeof(int32_t) + group_rows * sizeof(float);
  const double held = densest * double(pixels) * double(pixels) / double(group_rows), room = most_bytes / of_entry;
  const auto limit = int64_t(std::min(1.3 * held, room));  // what was expected may be a little more
  Transition t;
  if (expected_entries(w, filter) > std::min(held, room)) return std::nullopt;
  t.blocks.resize(w.blocks());
  t.dropped.resize(pixels);
  for (int64_t remaining = passes;; --remaining) {
    std::optional<Pass> pass = find_pairs(w, filter, limit);
    if (!pass) return std::nullopt;
    std::vector<char> wide(pixels);  // rows that dropped more than they may
    std::atomic<int64_t> kept = 0;
    take_in_turns(w.blocks(), parallel_for, [&](const auto& next) {
      std::vector<float> log_sum(block_rows);
      std::vector<double> left_out(block_rows);
      for (int64_t block = next(); block < w.blocks(); block = next()) {
        const Block found = take_block(w, *pass, block);
        for (size_t g = 0; g + 1 < found.group_start.size(); ++g)
          w.kernels.weigh(&found.weight[found.group_start[g] * group_rows],
                          found.group_start[g + 1] - found.group_start[g], scale, &log_sum[g * group_rows]);
        // Where the bound of a row's sum was loose, it kept what by now is known to be little.
        kept += add_entries(found, remaining == passes ? float(keep_share) : 0, t.blocks[block], left_out.data());
        for (int64_t i = w.block_begin(block); i < std::min(w.block_end(block), pixels); ++i) {
          if (see[i] == infinity) continue;
          const int64_t row = i - w.block_begin(block);
          const auto share = [&](float cosine) { return std::exp2(double(cosine) * scale - double(log_sum[row])); };
          // What was seen is counted in the weight at `keep`; what was not weighs at most that at `see`.
          t.dropped[i] = float(double(pass->dropped[i]) / drop_unit * share(keep[i]) + double(pixels) * share(see[i]) +
                               left_out[row]);
          wide[i] = t.dropped[i] > tolerance;
        }
      }
    });
    t.kept = kept;
    if (std::count(wide.begin(), wide.end(), 1) == 0) return t;
    if (remaining == 1) return std::nullopt;
    // Only those rows look again, for more, and what they have is forgotten.
    for (int64_t i = 0; i < pixels; ++i) {
      if (!wide[i]) {
        see[i] = keep[i] = infinity;
        continue;
      }
      // What a row drops goes with what it keeps, about; twice as much to be sure. In the end all that it sees.
      const float lower = keep[i] - float(std::log2(2 * t.dropped[i] / tolerance)) / scale;
      keep[i] = remaining > 2 ? std::max(see[i], lower) : see[i];
      const Block& block = t.blocks[i / block_rows];
      const int64_t row = i % block_rows;
      for (int64_t e = block.group_start[row / group_rows]; e < block.group_start[row / group_rows + 1]; ++e)
        block.weight[e * group_rows + row % group_rows] = 0;
    }
  }
}

FilterPass filter_alone(const float* panels, int64_t pixels, int64_t channels, float threshold,
                        const ParallelFor& parallel_for) {
  const Work w = {*chosen_isa().sparse, pixels, channels, parallel_for};
  const Prepared prepared(w, panels, 1);
  for (const Buffer<float>* const bound : {&prepared.see, &prepared.keep})
    for (int64_t i = 0; i < w.padded(); ++i) (*bound)[i] = i < pixels ? threshold : infinity;
  Stopwatch watch;
  const std::optional<Pass> pass = find_pairs(w, prepared.filter, std::numeric_limits<int64_t>::max());
  FilterPass result = {watch.lap(), pass->met, 0};
  for (const Pass::Tile& tile : pass->tiles)
    for (const Entries* const entries : {&tile.of_queries, &tile.of_keys})
      for (int64_t k = 0; k < entries->count; ++k)
        for (const float cosine : entries->list[k].cosine) result.kept += cosine > -infinity;
  return result;
}

}  // namespace rwpm::cpu
