#include "cpu/build_sparse.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/filter_pass.h"
#include "cpu/isa.h"
#include "cpu/leading_channels.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/pixel_order.h"
#include "cpu/stopwatch.h"

namespace rwpm::cpu {
namespace {

using Block = GroupedMatrix::Block;
constexpr int64_t block_rows = GroupedMatrix::block_rows;

// A graph of fewer pixels streams faster than a matrix is built.
constexpr int64_t min_sparse_pixels = 512;

// In the first pass a row keeps the pairs whose share of its mass is at least tolerance / max(min_kept, N *
// keep_fraction), or less where a sample says that the other pairs of some row would add up to more than the tolerance.
// Rows for which they do all the same keep more in another pass.
constexpr double keep_fraction = 1 / 40., min_kept = 100;
constexpr int64_t max_passes = 3;
// The row that drops most, in multiples of the mean one: 3.5 to 4.6 on maps of road networks.
constexpr double dropped_spread = 4.5;
// Pairs that screening rejects have a mass of at most N times the smallest share that passes it: this fraction of the
// tolerance.
constexpr double screen_fraction = 0.25;

// A row's sum is bounded from below by the keys of its own panel and of the four around it. The bound is loose for a
// pixel when its largest cosine alone exceeds it by more than `loose_bits`, for a panel when it is for a quarter of the
// pixels, and for the graph when it is for more than one in `loose_part` of `probes` panels. Every fourth key tells.
constexpr int64_t probes = 8, probe_step = 4, loose_part = 4;
constexpr float loose_bits = 3;

constexpr double max_bytes = double(1 << 30);  // of the matrix

// Leading channels are made for embeddings of so many times as many channels, and serve where they reject enough pairs.
constexpr int64_t min_leading_part = 2;
constexpr double max_unbounded = 0.65;

// log2 of a lower bound of each row's sum of exp2(scale * cosine): [padded].
Buffer<float> bound_row_sums(const BuildContext& context, const QuantizedGraph& graph, int64_t patches_per_row) {
  const FilterArgs args = graph.args();
  const int64_t lanes = context.kernels.lanes;
  Buffer<float> row_lse_bound(context.padded(), context.memory);
  context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      int64_t near[5], count = 0;
      for (const int64_t other : {panel - patches_per_row, panel - 1, panel, panel + 1, panel + patches_per_row})
        if (other >= 0 && other < context.panels() && (count == 0 || other > near[count - 1])) near[count++] = other;
      context.kernels.local_log_sum(args, panel, near, count, &row_lse_bound[panel * lanes]);
    }
  });

  // Where the order of pixels does not bring similar ones together, the largest cosine of all is a better bound.
  const auto for_each_max = [&](int64_t panel, int64_t step, const auto& visit) {
    Buffer<float> cosines(lanes, context.memory);
    context.kernels.max_cosine_bound(args, panel, step, cosines.get());
    for (int64_t k = 0; k < std::min(lanes, context.pixels - panel * lanes); ++k)
      visit(row_lse_bound[panel * lanes + k], cosines[k] * graph.scale);
  };
  char loose_bound[probes] = {};
  context.parallel_for(probes, [&](int64_t first, int64_t last) {
    for (int64_t probe = first; probe < last; ++probe) {
      int64_t loose = 0;
      for_each_max((context.panels() - 1) * probe / (probes - 1), probe_step,
                   [&](float bound, float logit) { loose += logit > bound + loose_bits; });
      loose_bound[probe] = loose * 4 > lanes;
    }
  });
  if (std::count(loose_bound, loose_bound + probes, 1) * loose_part > probes)
    context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel)
        for_each_max(panel, 1, [](float& bound, float logit) { bound = std::max(bound, logit); });
    });
  return row_lse_bound;
}

// The share of its row's mass from which on a pair is kept in the first pass, and the share below which screening
// rejects it in all of them.
struct Shares {
  double keep, screen;
};

Shares shares(int64_t pixels, double tolerance) {
  const double screen = tolerance * screen_fraction / double(pixels);
  const double kept_pairs = std::max(min_kept, double(pixels) * keep_fraction);
  // Less than 1 / N, so that a row keeps its largest.
  return {std::max(screen, std::min(tolerance / kept_pairs, 0.5 / double(pixels))), screen};
}

// Sets the thresholds of the first pass, from the rows' bounds.
void set_thresholds(const Shares& shares, const Buffer<float>& row_lse_bound, QuantizedGraph& graph) {
  const auto cosine = [&](int64_t i, double share) {
    return (row_lse_bound[i] + float(std::log2(share))) / graph.scale;
  };
  for (int64_t i = 0; i < graph.pixels; ++i) {
    graph.screen_threshold[i] = cosine(i, shares.screen);
    graph.keep_threshold[i] = cosine(i, shares.keep);
  }
}

// Gathers a block's entries from the lists of a pass, which are freed; cosines stand in place of weights.
Block gather_block(const BuildContext& context, FilterPass& pass, int64_t block) {
  const int64_t groups = ceil_div(std::min(block_rows, context.pixels - context.block_begin(block)), group_rows);
  const auto for_each_list = [&](const auto& visit) {
    for (int64_t a = 0; a <= block; ++a) visit(pass.tile(a, block).of_keys, context.block_begin(a));
    for (int64_t b = block; b < pass.blocks; ++b) visit(pass.tile(block, b).of_queries, context.block_begin(b));
  };
  Buffer<int64_t> start(groups + 1, 0, context.memory);
  for_each_list([&](const CandidateList& entries, int64_t) {
    for (int64_t k = 0; k < entries.size(); ++k) ++start[entries[k].group + 1];
  });
  for (int64_t g = 0; g < groups; ++g) start[g + 1] += start[g];
  Buffer<int32_t> column(start[groups], context.memory);
  Buffer<float> weight(start[groups] * group_rows, context.memory);
  Buffer<int64_t> at(groups, context.memory);
  std::copy_n(start.get(), groups, at.get());
  for_each_list([&](CandidateList& entries, int64_t first_column) {
    for (int64_t k = 0; k < entries.size(); ++k) {
      const CandidateEntry& entry = entries[k];
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
// by that. Returns the number of pairs of the block. Within a group come first the entries of both halves of its rows,
// then those of the first half, then those of the second: steps leave out what is zero.
int64_t add_entries(const Block& more, float min_share, Block& block, double* trimmed_mass, Memory* memory) {
  const int64_t groups = more.groups();
  if (block.group_start.size() == 0) block.group_start = Buffer<int64_t>(groups + 1, 0, memory);
  static_assert(group_rows == 4);
  const auto max_weight = [](const float* w) { return std::max(std::max(w[0], w[1]), std::max(w[2], w[3])); };
  // Which entries stay, of both: by the halves of the rows that they have, 0 for none.
  const auto select = [&](const Block& b, const auto& stays) {
    Buffer<char> chosen(b.group_start[groups], memory);
    for (int64_t e = 0; e < chosen.size(); ++e) {
      const float* const w = &b.weight[e * group_rows];
      chosen[e] = char(stays(max_weight(w)) ? int(w[0] > 0 || w[1] > 0) + 2 * int(w[2] > 0 || w[3] > 0) : 0);
    }
    return chosen;
  };
  const Buffer<char> keep_old = select(block, [](float x) { return x > 0; });
  const Buffer<char> keep_new = select(more, [&](float x) { return x > 0 && x >= min_share; });
  const auto count = [](const Buffer<char>& chosen) {
    return chosen.size() - std::count(chosen.get(), chosen.get() + chosen.size(), 0);
  };
  const int64_t entries = count(keep_old) + count(keep_new);
  Block all = {Buffer<int64_t>(groups + 1, memory), Buffer<int32_t>(entries, memory),
               Buffer<float>(entries * group_rows, memory)};
  all.group_start[0] = 0;
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
    double trimmed[group_rows] = {};
    for (int64_t e = more.group_start[g]; e < more.group_start[g + 1]; ++e)
      if (!keep_new[e])
        for (int64_t k = 0; k < group_rows; ++k) trimmed[k] += double(more.weight[e * group_rows + k]);
    float factor[group_rows];
    for (int64_t k = 0; k < group_rows; ++k) {
      factor[k] = float(1 / (1 - trimmed[k]));
      trimmed_mass[g * group_rows + k] = trimmed[k];
    }
    for (const char halves : {3, 1, 2}) {
      for (int64_t e = block.group_start[g]; e < block.group_start[g + 1]; ++e)
        if (keep_old[e] == halves) add(block, e, {1, 1, 1, 1});
      for (int64_t e = more.group_start[g]; e < more.group_start[g + 1]; ++e)
        if (keep_new[e] == halves) add(more, e, factor);
    }
    all.group_start[g + 1] = to;
  }
  block = std::move(all);
  return pairs;
}

// Weighs what the active rows kept in a pass and adds it to the matrix, without entries of less than min_share in every
// row. Sets the rows' dropped_mass, and returns which rows dropped more than the tolerance: [N].
Vector<char> weigh_pass(const BuildContext& context, const QuantizedGraph& graph, float min_share, double tolerance,
                        FilterPass& pass, GroupedMatrix& matrix) {
  Vector<char> over_budget(context.pixels, context.memory);
  std::atomic<int64_t> pairs = 0;
  parallel_for_dynamic(context.blocks(), context.parallel_for, [&](const auto& next) {
    Buffer<float> log_sum(block_rows, context.memory);
    Buffer<double> trimmed_mass(block_rows, context.memory);
    for (int64_t block = next(); block < context.blocks(); block = next()) {
      Block found = gather_block(context, pass, block);
      for (int64_t g = 0; g < found.groups(); ++g)
        context.kernels.weigh_group(&found.weight[found.group_start[g] * group_rows],
                                    found.group_start[g + 1] - found.group_start[g], graph.scale,
                                    &log_sum[g * group_rows]);
      pairs += add_entries(found, min_share, matrix.blocks[block], trimmed_mass.get(), context.memory);
      for (int64_t i = context.block_begin(block); i < std::min(context.block_end(block), context.pixels); ++i) {
        if (graph.screen_threshold[i] == infinity) continue;
        const int64_t row = i - context.block_begin(block);
        matrix.log_sum[i] = log_sum[row];
        const auto share = [&](float cosine) { return std::exp2(double(cosine) * graph.scale - double(log_sum[row])); };
        // Refined pairs are counted in units of the weight at keep_threshold; of the others each weighs at most that at
        // screen_threshold.
        matrix.dropped_mass[i] = float(double(pass.dropped_weight[i]) / drop_unit * share(graph.keep_threshold[i]) +
                                       double(context.pixels) * share(graph.screen_threshold[i]) + trimmed_mass[row]);
        over_budget[i] = matrix.dropped_mass[i] > tolerance;
      }
    }
  });
  matrix.pairs = pairs;
  return over_budget;
}

// Prepares the next pass: only the rows over budget take part, with a lower threshold, or with that of screening if
// they are to `keep_all`, and without the entries that they have.
void retry_rows(const Vector<char>& over_budget, double tolerance, bool keep_all, QuantizedGraph& graph,
                GroupedMatrix& matrix) {
  for (int64_t i = 0; i < graph.pixels; ++i) {
    float &screen_threshold = graph.screen_threshold[i], &keep_threshold = graph.keep_threshold[i];
    if (!over_budget[i]) {
      screen_threshold = keep_threshold = infinity;
      continue;
    }
    // The dropped mass is about proportional to the share at the threshold; twice the factor for safety.
    const float lower = keep_threshold - float(std::log2(2 * matrix.dropped_mass[i] / tolerance)) / graph.scale;
    keep_threshold = keep_all ? screen_threshold : std::max(screen_threshold, lower);
    Block& block = matrix.blocks[i / block_rows];
    const int64_t row = i % block_rows;
    for (int64_t e = block.group_start[row / group_rows]; e < block.group_start[row / group_rows + 1]; ++e)
      block.weight[e * group_rows + row % group_rows] = 0;
  }
}

}  // namespace

std::optional<GroupedMatrix> build_matrix(const float* panels, int64_t pixels, int64_t channels,
                                          int64_t patches_per_row, float scale, double tolerance, double max_density,
                                          const ParallelFor& parallel_for, Memory* memory) {
  const BuildContext context = {*chosen_isa().sparse, pixels, channels, parallel_for, memory};
  const int64_t min_pixels = context.kernels.min_leading_pixels;
  QuantizedGraph graph(context, panels, scale, tolerance,
                       min_pixels > 0 && pixels >= min_pixels && channels >= min_leading_part * leading_channels);
  Shares first_shares = shares(pixels, tolerance);
  const Buffer<float> bounds = bound_row_sums(context, graph, patches_per_row);
  set_thresholds(first_shares, bounds, graph);

  const double entry_bytes = sizeof(int32_t) + group_rows * sizeof(float);
  const double max_stored = max_density * double(pixels) * double(pixels) / double(group_rows);
  const double max_entries = max_bytes / entry_bytes;
  const PassEstimate estimate = estimate_pass(context, graph);
  if (estimate.entries > std::min(max_stored, max_entries)) return std::nullopt;
  if (estimate.unbounded > max_unbounded) graph.drop_leading();
  // Keeping somewhat more costs less than another pass for rows that turn out over budget.
  const double most = estimate.dropped * dropped_spread * first_shares.keep, room = tolerance * (1 - screen_fraction);
  if (most > room) {
    first_shares.keep = std::max(first_shares.screen, first_shares.keep * room / most);
    set_thresholds(first_shares, bounds, graph);
  }
  const auto limit = int64_t(std::min(1.3 * max_stored, max_entries));  // the count may exceed the estimate a little

  GroupedMatrix matrix(pixels, memory);
  for (int64_t pass = 1; pass <= max_passes; ++pass) {
    std::optional<FilterPass> found = run_filter_pass(context, graph, limit);
    if (!found) return std::nullopt;
    // Where the bound of a row's sum was loose, the first pass kept pairs that turn out to have little mass.
    const float min_share = pass == 1 ? float(first_shares.keep) : 0;
    const Vector<char> over_budget = weigh_pass(context, graph, min_share, tolerance, *found, matrix);
    if (std::count(over_budget.begin(), over_budget.end(), 1) == 0) return matrix;
    if (pass < max_passes) retry_rows(over_budget, tolerance, pass + 1 == max_passes, graph, matrix);
  }
  return std::nullopt;
}

std::optional<SparseGraph> build_sparse(const Problem<float>& p, const Vector<int64_t>& pixels, double max_density,
                                        int64_t width, const ParallelFor& parallel_for) {
  const int64_t count = pixels.size();
  if (p.tolerance <= 0 || count < min_sparse_pixels) return std::nullopt;
  const int64_t lanes = chosen_isa().sparse->lanes;
  Stopwatch watch;
  if (width == 0) width = estimate_width(p.embeddings, p.channels, pixels, parallel_for);
  PixelOrder order = order_by_patches(pixels, width, lanes, chosen_isa().sparse->vector);
  Buffer<float> panels(ceil_div(count, lanes) * lanes * p.channels, p.memory);
  pack_embeddings(p, order.pixels, lanes, parallel_for, panels.get());
  if (!neighbors_resemble(panels.get(), count, p.channels, lanes)) {
    const Buffer<float> leading =
        make_leading_channels(*chosen_isa().sparse, panels.get(), count, p.channels, parallel_for, p.memory);
    order = order_by_similarity(order, leading.get(), leading_channels, lanes);
    pack_embeddings(p, order.pixels, lanes, parallel_for, panels.get());
  }
  if (p.stats) p.stats->pack_seconds += watch.lap();
  std::optional<GroupedMatrix> matrix =
      build_matrix(panels.get(), count, p.channels, order.patches_per_row, float(exponent_scale(p.temperature)),
                   p.tolerance, max_density, parallel_for, p.memory);
  if (p.stats) p.stats->build_seconds += watch.lap();
  if (!matrix) return std::nullopt;
  return SparseGraph{std::move(order.pixels), std::move(*matrix)};
}

}  // namespace rwpm::cpu
