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

// In the first pass a row keeps the pairs whose share of its mass is at least tolerance / max(min_kept, N *
// keep_fraction). Measured on maps of road networks, the other pairs of nearly every row then add up to less than the
// tolerance; rows for which they do not keep more in another pass.
constexpr double keep_fraction = 1 / 40., min_kept = 100;
constexpr int64_t max_passes = 3;
// Pairs that screening rejects have a mass of at most N times the smallest share that passes it: this fraction of the
// tolerance.
constexpr double screen_fraction = 0.25;

// A tile is a block of queries times a block of keys.
constexpr int64_t block_rows = GroupedMatrix::block_rows;
// A row's sum is bounded from below by the keys of its own panel and of the four around it. The bound is loose for a
// pixel when its largest cosine alone exceeds it by more than `loose_bits`, for a panel when it is for a quarter of the
// pixels, and for the graph when it is for more than one in `loose_part` of `probes` panels.
constexpr int64_t probes = 8, loose_part = 4;
constexpr float loose_bits = 3;

constexpr double max_bytes = double(1 << 30);  // of the matrix

constexpr float infinity = std::numeric_limits<float>::infinity();

// For tasks that differ in cost: threads take one after the other, so the result of a task must not depend on the
// thread. `worker` runs in every thread with a function that returns the next task's number, `count` or more when none
// is left.
template <typename Worker>
void parallel_for_dynamic(int64_t count, const ParallelFor& parallel_for, const Worker& worker) {
  std::atomic<int64_t> next = 0;
  parallel_for(count, [&](int64_t, int64_t) { worker([&] { return next++; }); });
}

struct BuildContext {
  const SparseKernels& kernels;
  int64_t pixels, channels;
  const ParallelFor& parallel_for;
  int64_t panels() const { return ceil_div(pixels, kernels.lanes); }
  int64_t padded() const { return panels() * kernels.lanes; }
  int64_t blocks() const { return ceil_div(pixels, block_rows); }
  int64_t block_begin(int64_t block) const { return block * block_rows; }
  int64_t block_end(int64_t block) const { return std::min(block_begin(block + 1), padded()); }
};

// The quantized embeddings of a graph and the thresholds of its rows, which are set later.
struct QuantizedGraph {
  const Buffer<char> quantized;
  const Buffer<float> quant_scale, quant_error, screen_threshold, keep_threshold;  // [padded]
  const FilterArgs filter;

  QuantizedGraph(const BuildContext& context, const float* panels, float scale)
      : quantized(context.panels() * context.kernels.quantized_bytes(context.channels)),
        quant_scale(context.padded()),
        quant_error(context.padded()),
        screen_threshold(context.padded()),
        keep_threshold(context.padded()),
        filter{context.pixels,         context.channels,     panels,
               quantized.get(),        quant_scale.get(),    quant_error.get(),
               screen_threshold.get(), keep_threshold.get(), scale} {
    const int64_t lanes = context.kernels.lanes, bytes = context.kernels.quantized_bytes(context.channels);
    context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel)
        context.kernels.quantize(panels + panel * lanes * context.channels, context.channels,
                                 quantized.get() + panel * bytes, &quant_scale[panel * lanes],
                                 &quant_error[panel * lanes]);
    });
  }
};

// log2 of a lower bound of each row's sum of exp2(scale * cosine), [padded], as log-sum-exp to base 2.
Buffer<float> bound_row_sums(const BuildContext& context, const FilterArgs& filter, int64_t patches_per_row) {
  const int64_t lanes = context.kernels.lanes;
  Buffer<float> row_lse_bound(context.padded());
  context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      int64_t near[5], count = 0;
      for (const int64_t other : {panel - patches_per_row, panel - 1, panel, panel + 1, panel + patches_per_row})
        if (other >= 0 && other < context.panels() && (count == 0 || other > near[count - 1])) near[count++] = other;
      context.kernels.local_log_sum(filter, panel, near, count, &row_lse_bound[panel * lanes]);
    }
  });

  // If the order of pixels does not bring similar ones together, the largest cosine of all is a better bound.
  const auto for_each_max = [&](int64_t panel, const auto& visit) {
    std::vector<float> cosines(lanes);
    context.kernels.max_cosine_bound(filter, panel, cosines.data());
    for (int64_t k = 0; k < std::min(lanes, context.pixels - panel * lanes); ++k)
      visit(row_lse_bound[panel * lanes + k], cosines[k] * filter.scale);
  };
  std::vector<char> loose_bound(probes);
  context.parallel_for(probes, [&](int64_t first, int64_t last) {
    for (int64_t probe = first; probe < last; ++probe) {
      int64_t loose = 0;
      for_each_max((context.panels() - 1) * probe / (probes - 1),
                   [&](float bound, float logit) { loose += logit > bound + loose_bits; });
      loose_bound[probe] = loose * 4 > lanes;
    }
  });
  if (std::count(loose_bound.begin(), loose_bound.end(), 1) * loose_part > probes)
    context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel)
        for_each_max(panel, [](float& bound, float logit) { bound = std::max(bound, logit); });
    });
  return row_lse_bound;
}

// A list of fixed size, so that no memory is wasted.
struct CandidateList {
  Buffer<CandidateEntry> list{0};
  int64_t count = 0;

  void assign(const std::vector<CandidateEntry>& entries) {
    count = int64_t(entries.size());
    list = Buffer<CandidateEntry>(count);
    std::copy(entries.begin(), entries.end(), list.get());
  }
};

// The candidates of a pass over half of the tiles: (query block a, key block b >= a).
struct FilterPass {
  struct Tile {
    CandidateList of_queries, of_keys;
  };
  int64_t blocks;
  std::vector<Tile> tiles;
  std::vector<uint32_t> dropped_weight;  // [N] by row, in drop units
  int64_t pairs_tested = 0;              // pairs of pixels that were multiplied
  Tile& tile(int64_t a, int64_t b) { return tiles[tile_index(a, b)]; }
  int64_t tile_index(int64_t a, int64_t b) const { return a * blocks - a * (a - 1) / 2 + (b - a); }
  std::pair<int64_t, int64_t> tile_blocks(int64_t tile) const {
    int64_t a = 0, above = blocks;  // binary search for the last query block that begins no later
    while (above - a > 1) {
      const int64_t middle = (a + above) / 2;
      (tile_index(middle, middle) <= tile ? a : above) = middle;
    }
    return {a, tile - tile_index(a, a) + a};
  }
};

// Estimates how many entries a pass will find, from a sample of query panels with a block of keys each, so that a graph
// that is too dense is rejected early.
double estimate_entries(const BuildContext& context, const FilterArgs& filter) {
  const int64_t lanes = context.kernels.lanes, samples = std::max<int64_t>(48, context.panels() / 8);
  std::vector<double> entries(samples);
  context.parallel_for(samples, [&](int64_t first, int64_t last) {
    const Buffer<CandidateEntry> of_queries(block_rows * lanes / group_rows), of_keys(block_rows * lanes / group_rows);
    std::vector<uint32_t> dropped_weight(context.pixels);
    for (int64_t k = first; k < last; ++k) {
      constexpr double golden = 0.6180339887;  // the fractional parts of its multiples are spread evenly
      const int64_t panel = context.panels() * k / samples, own = panel * lanes / block_rows,
                    blocks = context.blocks() - own;
      const int64_t b = own + int64_t(double(blocks) * (double(k) * golden - std::floor(double(k) * golden)));
      Candidates candidates = {of_queries.get(), of_keys.get(), 0, 0, dropped_weight.data()};
      context.kernels.filter(filter, panel, context.block_begin(own), context.block_begin(b), context.block_end(b),
                             candidates);
      entries[k] = double(candidates.query_count + candidates.key_count) * double(blocks);
    }
  });
  return std::accumulate(entries.begin(), entries.end(), 0.) * double(context.panels()) / double(samples);
}

// A filter pass; nothing when more than `limit` entries are found.
std::optional<FilterPass> find_pairs(const BuildContext& context, const FilterArgs& filter, int64_t limit) {
  const int64_t blocks = context.blocks(), tiles = blocks * (blocks + 1) / 2, lanes = context.kernels.lanes;
  FilterPass pass = {blocks, std::vector<FilterPass::Tile>(tiles), std::vector<uint32_t>(context.pixels)};
  std::vector<char> active(context.panels());  // panels with a row that still looks for pairs
  for (int64_t i = 0; i < context.pixels; ++i) active[i / lanes] |= filter.screen_threshold[i] < infinity;
  std::atomic<int64_t> total = 0;
  std::mutex guard;
  parallel_for_dynamic(tiles, context.parallel_for, [&](const auto& next) {
    const Buffer<CandidateEntry> of_queries(block_rows * lanes / group_rows), of_keys(block_rows * lanes / group_rows);
    std::vector<CandidateEntry> all_of_queries, all_of_keys;
    std::vector<uint32_t> dropped_weight(context.pixels);
    int64_t pairs_tested = 0;
    for (int64_t tile = next(); tile < tiles && total <= limit; tile = next()) {
      const auto [a, b] = pass.tile_blocks(tile);
      const auto panels_of = [&](int64_t block) { return context.block_begin(block) / lanes; };
      const int64_t last = context.block_end(a) / lanes;
      const bool key_active = std::count(&active[panels_of(b)], &active[0] + context.block_end(b) / lanes, 1) > 0;
      all_of_queries.clear();
      all_of_keys.clear();
      for (int64_t panel = panels_of(a); panel < last; ++panel) {
        if (!key_active && !active[panel]) continue;
        Candidates candidates = {of_queries.get(), of_keys.get(), 0, 0, dropped_weight.data()};
        context.kernels.filter(filter, panel, context.block_begin(a), context.block_begin(b), context.block_end(b),
                               candidates);
        all_of_queries.insert(all_of_queries.end(), candidates.of_queries,
                              candidates.of_queries + candidates.query_count);
        all_of_keys.insert(all_of_keys.end(), candidates.of_keys, candidates.of_keys + candidates.key_count);
        pairs_tested += candidates.pairs_tested;
      }
      total += int64_t(all_of_queries.size() + all_of_keys.size());
      pass.tiles[tile].of_queries.assign(all_of_queries);
      pass.tiles[tile].of_keys.assign(all_of_keys);
    }
    const std::lock_guard<std::mutex> lock(guard);
    pass.pairs_tested += pairs_tested;
    for (int64_t i = 0; i < context.pixels; ++i) pass.dropped_weight[i] += dropped_weight[i];
  });
  if (total > limit) return std::nullopt;
  return pass;
}

using Block = GroupedMatrix::Block;

// Gathers a block's entries from the lists of a pass, which are freed; cosines stand in place of weights.
Block gather_block(const BuildContext& context, FilterPass& pass, int64_t block) {
  const int64_t groups = ceil_div(std::min(block_rows, context.pixels - context.block_begin(block)), group_rows);
  const auto each_list = [&](const auto& visit) {
    for (int64_t a = 0; a <= block; ++a) visit(pass.tile(a, block).of_keys, context.block_begin(a));
    for (int64_t b = block; b < pass.blocks; ++b) visit(pass.tile(block, b).of_queries, context.block_begin(b));
  };
  std::vector<int64_t> start(groups + 1);
  each_list([&](const CandidateList& entries, int64_t) {
    for (int64_t k = 0; k < entries.count; ++k) ++start[entries.list[k].group + 1];
  });
  for (int64_t g = 0; g < groups; ++g) start[g + 1] += start[g];
  Buffer<int32_t> column(start[groups]);
  Buffer<float> weight(start[groups] * group_rows);
  std::vector<int64_t> at(start.begin(), start.end() - 1);
  each_list([&](CandidateList& entries, int64_t first_column) {
    for (int64_t k = 0; k < entries.count; ++k) {
      const CandidateEntry& entry = entries.list[k];
      const int64_t e = at[entry.group]++;
      column[e] = int32_t(first_column + entry.column);
      std::copy_n(entry.cosine, group_rows, &weight[e * group_rows]);
    }
    entries = {};
  });
  return {std::move(start), std::move(column), std::move(weight)};
}

// Adds the entries of `more`, whose weights are shares of their rows, to `block`. Entries of less than min_share in
// every row are left out and the other weights of the row scaled up to sum to one. trimmed_mass: [rows], what rows lose
// by that. Returns the number of pairs of the block.
int64_t add_entries(const Block& more, float min_share, Block& block, double* trimmed_mass) {
  const int64_t groups = int64_t(more.group_start.size()) - 1;
  if (block.group_start.empty()) block.group_start.assign(groups + 1, 0);
  static_assert(group_rows == 4);
  const auto max_weight = [](const float* w) { return std::max(std::max(w[0], w[1]), std::max(w[2], w[3])); };
  // Which entries stay, of both.
  const auto select = [&](const Block& b, const auto& stays) {
    std::vector<char> chosen(b.group_start[groups]);
    for (size_t e = 0; e < chosen.size(); ++e) chosen[e] = stays(max_weight(&b.weight[e * group_rows]));
    return chosen;
  };
  const std::vector<char> keep_old = select(block, [](float x) { return x > 0; });
  const std::vector<char> keep_new = select(more, [&](float x) { return x > 0 && x >= min_share; });
  const int64_t entries =
      std::count(keep_old.begin(), keep_old.end(), 1) + std::count(keep_new.begin(), keep_new.end(), 1);
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
      if (keep_old[e]) add(block, e, {1, 1, 1, 1});
    double trimmed[group_rows] = {};
    for (int64_t e = more.group_start[g]; e < more.group_start[g + 1]; ++e)
      if (!keep_new[e])
        for (int64_t k = 0; k < group_rows; ++k) trimmed[k] += double(more.weight[e * group_rows + k]);
    float factor[group_rows];
    for (int64_t k = 0; k < group_rows; ++k) {
      factor[k] = float(1 / (1 - trimmed[k]));
      trimmed_mass[g * group_rows + k] = trimmed[k];
    }
    for (int64_t e = more.group_start[g]; e < more.group_start[g + 1]; ++e)
      if (keep_new[e]) add(more, e, factor);
    all.group_start[g + 1] = to;
  }
  block = std::move(all);
  return pairs;
}

}  // namespace

std::optional<GroupedMatrix> build_matrix(const float* panels, int64_t pixels, int64_t channels,
                                          int64_t patches_per_row, float scale, double tolerance, double max_density,
                                          const ParallelFor& parallel_for) {
  const BuildContext context = {*chosen_isa().sparse, pixels, channels, parallel_for};
  const int64_t n = context.padded();
  const QuantizedGraph graph(context, panels, scale);
  const Buffer<float>&screen_threshold = graph.screen_threshold, &keep_threshold = graph.keep_threshold;
  const FilterArgs& filter = graph.filter;
  const Buffer<float> row_lse_bound = bound_row_sums(context, filter, patches_per_row);

  // Shares of a row's mass below which screening rejects a pair, and from which on a row keeps it; at most 1 / N, so
  // that a row keeps its largest.
  const double screen_share = tolerance * screen_fraction / double(pixels);
  const double kept_pairs = std::max(min_kept, double(pixels) * keep_fraction);
  const double keep_share = std::max(screen_share, std::min(tolerance / kept_pairs, 0.5 / double(pixels)));
  const auto cosine_of = [&](int64_t i, double share) { return (row_lse_bound[i] + float(std::log2(share))) / scale; };
  for (int64_t i = 0; i < n; ++i) {
    screen_threshold[i] = i < pixels ? cosine_of(i, screen_share) : infinity;
    keep_threshold[i] = i < pixels ? cosine_of(i, keep_share) : infinity;
  }

  const double entry_bytes = sizeof(int32_t) + group_rows * sizeof(float);
  const double max_stored = max_density * double(pixels) * double(pixels) / double(group_rows),
               max_entries = max_bytes / entry_bytes;
  const auto limit = int64_t(std::min(1.3 * max_stored, max_entries));  // the estimate may be a little too low
  GroupedMatrix matrix;
  if (estimate_entries(context, filter) > std::min(max_stored, max_entries)) return std::nullopt;
  matrix.blocks.resize(context.blocks());
  matrix.dropped_mass.resize(pixels);
  for (int64_t remaining = max_passes;; --remaining) {
    std::optional<FilterPass> pass = find_pairs(context, filter, limit);
    if (!pass) return std::nullopt;
    std::vector<char> over_budget(pixels);  // rows that dropped more than they may
    std::atomic<int64_t> pairs = 0;
    parallel_for_dynamic(context.blocks(), parallel_for, [&](const auto& next) {
      std::vector<float> log_sum(block_rows);
      std::vector<double> trimmed_mass(block_rows);
      for (int64_t block = next(); block < context.blocks(); block = next()) {
        const Block found = gather_block(context, *pass, block);
        for (size_t g = 0; g + 1 < found.group_start.size(); ++g)
          context.kernels.weigh_group(&found.weight[found.group_start[g] * group_rows],
                                      found.group_start[g + 1] - found.group_start[g], scale, &log_sum[g * group_rows]);
        // Where the bound of a row's sum was loose, the row kept pairs that turn out to have little mass.
        pairs += add_entries(found, remaining == max_passes ? float(keep_share) : 0, matrix.blocks[block],
                             trimmed_mass.data());
        for (int64_t i = context.block_begin(block); i < std::min(context.block_end(block), pixels); ++i) {
          if (screen_threshold[i] == infinity) continue;
          const int64_t row = i - context.block_begin(block);
          const auto share = [&](float cosine) { return std::exp2(double(cosine) * scale - double(log_sum[row])); };
          // Refined pairs are counted in units of the weight at keep_threshold; the others weigh at most that at
          // screen_threshold each.
          matrix.dropped_mass[i] = float(double(pass->dropped_weight[i]) / drop_unit * share(keep_threshold[i]) +
                                         double(pixels) * share(screen_threshold[i]) + trimmed_mass[row]);
          over_budget[i] = matrix.dropped_mass[i] > tolerance;
        }
      }
    });
    matrix.pairs = pairs;
    if (std::count(over_budget.begin(), over_budget.end(), 1) == 0) return matrix;
    if (remaining == 1) return std::nullopt;
    // Only those rows are in the next pass, with a lower threshold and without what they have.
    for (int64_t i = 0; i < pixels; ++i) {
      if (!over_budget[i]) {
        screen_threshold[i] = keep_threshold[i] = infinity;
        continue;
      }
      // The dropped mass is about proportional to the share kept; twice the factor for safety. In the last pass a row
      // keeps all pairs that pass screening.
      const float lower = keep_threshold[i] - float(std::log2(2 * matrix.dropped_mass[i] / tolerance)) / scale;
      keep_threshold[i] = remaining > 2 ? std::max(screen_threshold[i], lower) : screen_threshold[i];
      const Block& block = matrix.blocks[i / block_rows];
      const int64_t row = i % block_rows;
      for (int64_t e = block.group_start[row / group_rows]; e < block.group_start[row / group_rows + 1]; ++e)
        block.weight[e * group_rows + row % group_rows] = 0;
    }
  }
}

FilterTiming time_filter(const float* panels, int64_t pixels, int64_t channels, float threshold,
                         const ParallelFor& parallel_for) {
  const BuildContext context = {*chosen_isa().sparse, pixels, channels, parallel_for};
  const QuantizedGraph graph(context, panels, 1);
  for (const Buffer<float>* const bound : {&graph.screen_threshold, &graph.keep_threshold})
    for (int64_t i = 0; i < context.padded(); ++i) (*bound)[i] = i < pixels ? threshold : infinity;
  Stopwatch watch;
  const std::optional<FilterPass> pass = find_pairs(context, graph.filter, std::numeric_limits<int64_t>::max());
  FilterTiming timing = {watch.lap(), pass->pairs_tested, 0};
  for (const FilterPass::Tile& tile : pass->tiles)
    for (const CandidateList* const entries : {&tile.of_queries, &tile.of_keys})
      for (int64_t k = 0; k < entries->count; ++k)
        for (const float cosine : entries->list[k].cosine) timing.pairs_kept += cosine > -infinity;
  return timing;
}

}  // namespace rwpm::cpu
