#include "cpu/build_sparse.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "cpu/filter_pass.h"
#include "cpu/isa.h"
#include "cpu/leading_channels.h"
#include "cpu/matrix_builder.h"
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
// A row's sum is bounded from below by the keys of its own panel and of the four around it. The bound is loose for a
// pixel when its largest cosine alone exceeds it by more than `loose_bits`, for a panel when it is for a quarter of the
// pixels, and for the graph when it is for more than one in `loose_part` of `probes` panels. Every fourth key tells.
constexpr int64_t probes = 8, probe_step = 4, loose_part = 4;
constexpr float loose_bits = 3;

constexpr double max_bytes = double(1 << 30);  // of the matrix

// The rounding of codes alone moves up to 1.5e-5 of a row on maps of road networks, so that smaller tolerances take low
// codes as well.
constexpr double min_coarse_tolerance = 1e-4, usual_rounding = 1.5e-5;

// Leading channels are made for embeddings of so many times as many channels, and serve where they reject enough pairs.
constexpr int64_t min_leading_part = 2;
constexpr double max_unbounded = 0.65;

// log2 of a lower bound of the sums of exp2(scale * cosine) of a panel's rows, from the panels around it: [lanes].
void bound_panel_sums(const BuildContext& context, const FilterArgs& args, int64_t panel, int64_t patches_per_row,
                      float* row_lse_bound) {
  int64_t near[5], count = 0;
  for (const int64_t other : {panel - patches_per_row, panel - 1, panel, panel + 1, panel + patches_per_row})
    if (other >= 0 && other < context.panels() && (count == 0 || other > near[count - 1])) near[count++] = other;
  context.kernels.local_log_sum(args, panel, near, count, row_lse_bound);
}

// The same for all rows: [padded].
Buffer<float> bound_row_sums(const BuildContext& context, const QuantizedGraph& graph, int64_t patches_per_row) {
  const FilterArgs args = graph.args();
  const int64_t lanes = context.kernels.lanes;
  Buffer<float> row_lse_bound(context.padded(), context.memory);
  context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel)
      bound_panel_sums(context, args, panel, patches_per_row, &row_lse_bound[panel * lanes]);
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

// Sets the thresholds of a row, from a bound of its sum.
void set_row_thresholds(const Shares& shares, float row_lse_bound, int64_t row, QuantizedGraph& graph) {
  graph.screen_threshold[row] = (row_lse_bound + float(std::log2(shares.screen))) / graph.scale;
  graph.keep_threshold[row] = (row_lse_bound + float(std::log2(shares.keep))) / graph.scale;
}

// Sets the thresholds of the first pass, from the rows' bounds.
void set_thresholds(const Shares& shares, const Buffer<float>& row_lse_bound, QuantizedGraph& graph) {
  for (int64_t i = 0; i < graph.pixels; ++i) set_row_thresholds(shares, row_lse_bound[i], i, graph);
}

// Sets them from hints, and from bounds where there is none.
void predict_thresholds(const BuildContext& context, const Shares& shares, const Hints& hints,
                        const Buffer<float>& own_sums, int64_t patches_per_row, QuantizedGraph& graph) {
  const Vector<char> unknown = set_hinted_thresholds(context, hints, own_sums, graph);
  const FilterArgs args = graph.args();
  const int64_t lanes = context.kernels.lanes;
  context.parallel_for(context.panels(), [&](int64_t first, int64_t last) {
    Buffer<float> bound(lanes, context.memory);
    for (int64_t panel = first; panel < last; ++panel) {
      if (!unknown[panel]) continue;
      bound_panel_sums(context, args, panel, patches_per_row, bound.get());
      for (int64_t i = panel * lanes; i < std::min((panel + 1) * lanes, context.pixels); ++i)
        set_row_thresholds(shares, bound[i - panel * lanes], i, graph);
    }
  });
}

// Prepares the next pass: only the rows over budget take part, with a lower threshold, or with that of screening if
// they are to `keep_all`.
void retry_rows(const MatrixBuilder& builder, double tolerance, bool keep_all, QuantizedGraph& graph) {
  for (int64_t i = 0; i < graph.pixels; ++i) {
    float &screen_threshold = graph.screen_threshold[i], &keep_threshold = graph.keep_threshold[i];
    if (!builder.over_budget[i]) {
      screen_threshold = keep_threshold = infinity;
      continue;
    }
    // The dropped mass is about proportional to the share at the threshold; twice the factor for safety.
    const float lower = keep_threshold - float(std::log2(2 * builder.matrix.dropped_mass[i] / tolerance)) / graph.scale;
    keep_threshold = keep_all ? screen_threshold : std::max(screen_threshold, lower);
  }
}

// Prepares the pass after the one by hints: rows over budget start again from the sums of what they kept, which bound
// theirs, or from the panels around them where they kept nothing.
void retry_hinted_rows(const BuildContext& context, const MatrixBuilder& builder, const Shares& shares,
                       double tolerance, int64_t patches_per_row, QuantizedGraph& graph) {
  const FilterArgs args = graph.args();
  const int64_t lanes = context.kernels.lanes;
  // Few rows that keep more than they must cost less than another pass.
  const Shares generous = {std::max(shares.screen, shares.keep) / 4, shares.screen / 4};
  Buffer<float> bound(lanes, context.memory);
  for (int64_t i = 0; i < graph.pixels; ++i) {
    if (!builder.over_budget[i]) {
      graph.screen_threshold[i] = graph.keep_threshold[i] = infinity;
      continue;
    }
    const float log_sum = builder.matrix.log_sum[i], dropped = builder.matrix.dropped_mass[i];
    const float hinted = graph.keep_threshold[i] - float(std::log2(2 * dropped / tolerance)) / graph.scale;
    if (std::isfinite(log_sum)) {
      set_row_thresholds(generous, log_sum, i, graph);
    } else {
      bound_panel_sums(context, args, i / lanes, patches_per_row, bound.get());
      set_row_thresholds(generous, bound[i % lanes], i, graph);
    }
    float& keep = graph.keep_threshold[i];
    if (hinted < keep) keep = std::max(graph.screen_threshold[i], hinted);
  }
}

// A build of a matrix once its graph is packed.
struct BuildPlan {
  const BuildContext& context;
  const double tolerance;
  const Shares first_shares;
  const int64_t limit;  // of entries
  const int64_t patches_per_row;
  const Buffer<float>& own_sums;  // for hints
  const bool hinted;              // whether the first pass goes by hints
  Hints* const next;
};

// Runs passes until no row is over budget, or returns nothing: where the matrix has more than `limit` entries, where
// max_passes, after the one by hints, are not enough, or where codes are too coarse.
std::optional<GroupedMatrix> run_passes(const BuildPlan& plan, bool with_low_codes, QuantizedGraph& graph,
                                        bool& too_coarse) {
  MatrixBuilder builder(plan.context, plan.tolerance, with_low_codes, plan.own_sums, plan.next);
  for (int64_t pass = plan.hinted ? 0 : 1; pass <= max_passes; ++pass) {
    // Where the bound of a row's sum was loose, the first pass kept pairs that turn out to have little mass. With hints
    // some rows keep such pairs because they need them.
    const bool is_first = pass == (plan.hinted ? 0 : 1);
    const float min_share = is_first ? float(plan.first_shares.keep / (plan.hinted ? 4 : 1)) : 0;
    const auto add = [&](FilterPass& found, int64_t block) { return builder.add(graph, found, block, min_share); };
    // By reference: as a value it would be allocated.
    const bool complete = run_filter_pass(plan.context, graph, plan.limit, std::cref(add)).has_value();
    too_coarse = builder.too_coarse;
    if (!complete) return std::nullopt;
    if (std::count(builder.over_budget.begin(), builder.over_budget.end(), 1) == 0) {
      for (const Block& block : builder.matrix.blocks) builder.matrix.pairs += count_pairs(block);
      return std::move(builder.matrix);
    }
    if (pass == 0)
      retry_hinted_rows(plan.context, builder, plan.first_shares, plan.tolerance, plan.patches_per_row, graph);
    else if (pass < max_passes)
      retry_rows(builder, plan.tolerance, pass + 1 == max_passes, graph);
  }
  return std::nullopt;
}

// Runs them with codes of 16 bits where these may do, else with low codes. set_thresholds: of the first pass.
template <typename SetThresholds>
std::optional<GroupedMatrix> run_with_codes(const BuildPlan& plan, QuantizedGraph& graph,
                                            const SetThresholds& set_thresholds) {
  bool too_coarse = plan.tolerance < min_coarse_tolerance;
  if (!too_coarse) {
    set_thresholds();
    std::optional<GroupedMatrix> matrix = run_passes(plan, /*with_low_codes=*/false, graph, too_coarse);
    if (matrix || !too_coarse) return matrix;
  }
  set_thresholds();
  return run_passes(plan, /*with_low_codes=*/true, graph, too_coarse);
}

}  // namespace

std::optional<GroupedMatrix> build_matrix(const float* panels, int64_t pixels, int64_t channels,
                                          int64_t patches_per_row, float scale, double tolerance, double max_density,
                                          const ParallelFor& parallel_for, Memory* memory, const Hints* previous,
                                          Hints* next) {
  const BuildContext context = {*chosen_isa().sparse, pixels, channels, parallel_for, memory};
  const int64_t min_pixels = context.kernels.min_leading_pixels;
  Buffer<float> directions;
  const bool hinted_directions = previous && previous->directions.size() > 0;
  if (min_pixels > 0 && pixels >= min_pixels && channels >= min_leading_part * leading_channels)
    directions = find_leading_directions(context.kernels, panels, pixels, channels,
                                         previous ? previous->directions : directions, memory);
  QuantizedGraph graph(context, panels, scale, tolerance, directions);
  Shares first_shares = shares(pixels, tolerance);
  const bool coarse = tolerance >= min_coarse_tolerance;
  const double entry_bytes = sizeof(int32_t) + (coarse ? 1 : 2) * group_rows * sizeof(uint16_t);
  const double max_stored = max_density * double(pixels) * double(pixels) / double(group_rows);
  const double max_entries = max_bytes / entry_bytes;
  const auto limit = int64_t(std::min(1.3 * max_stored, max_entries));  // the count may exceed the estimate a little
  const Buffer<float> own_sums = previous || next ? own_panel_sums(context, graph) : Buffer<float>();
  const auto note_directions = [&] {
    if (next && graph.leading) next->directions = std::move(directions);
  };
  if (previous) {
    const auto predict = [&] {
      predict_thresholds(context, first_shares, *previous, own_sums, patches_per_row, graph);
    };
    if (graph.leading && !hinted_directions) {
      predict();
      if (estimate_pass(context, graph).unbounded > max_unbounded) graph.drop_leading();
    }
    const BuildPlan plan = {context, tolerance, first_shares, limit, patches_per_row, own_sums, true, next};
    std::optional<GroupedMatrix> matrix = run_with_codes(plan, graph, predict);
    if (matrix) {
      note_directions();
      return matrix;
    }
  }

  const Buffer<float> bounds = bound_row_sums(context, graph, patches_per_row);
  set_thresholds(first_shares, bounds, graph);
  const PassEstimate estimate = estimate_pass(context, graph);
  if (estimate.entries > std::min(max_stored, max_entries)) return std::nullopt;
  if (estimate.unbounded > max_unbounded) graph.drop_leading();
  // Keeping somewhat more costs less than another pass for rows that turn out over budget.
  const double most = estimate.dropped * dropped_spread * first_shares.keep;
  const double room = tolerance * (1 - screen_fraction) - (coarse ? usual_rounding : 0);
  if (most > room) first_shares.keep = std::max(first_shares.screen, first_shares.keep * room / most);
  const BuildPlan plan = {context, tolerance, first_shares, limit, patches_per_row, own_sums, false, next};
  std::optional<GroupedMatrix> matrix =
      run_with_codes(plan, graph, [&] { set_thresholds(first_shares, bounds, graph); });
  note_directions();
  return matrix;
}

std::optional<SparseGraph> build_sparse(const Problem<float>& p, const Vector<int64_t>& pixels, double max_density,
                                        int64_t width, const ParallelFor& parallel_for, const Hints* previous,
                                        Hints* next) {
  const int64_t count = pixels.size();
  if (p.tolerance <= 0 || count < min_sparse_pixels) return std::nullopt;
  const int64_t lanes = chosen_isa().sparse->lanes;
  Stopwatch watch;
  if (width == 0) width = estimate_width(p.embeddings, p.channels, pixels, parallel_for);
  PixelOrder order = order_by_patches(pixels, width, lanes, chosen_isa().sparse->vector);
  Buffer<float> panels(ceil_div(count, lanes) * lanes * p.channels, p.memory);
  pack_embeddings(p, order.pixels, lanes, parallel_for, panels.get());
  if (!neighbors_resemble(panels.get(), count, p.channels, lanes)) {
    const Buffer<float> directions =
        find_leading_directions(*chosen_isa().sparse, panels.get(), count, p.channels, {}, p.memory);
    const Buffer<float> leading = make_leading_channels(*chosen_isa().sparse, panels.get(), count, p.channels,
                                                        directions, parallel_for, p.memory);
    order = order_by_similarity(order, leading.get(), leading_channels, lanes);
    pack_embeddings(p, order.pixels, lanes, parallel_for, panels.get());
  }
  if (p.stats) p.stats->pack_seconds += watch.lap();
  Hints of_rows, next_of_rows;
  if (previous) of_rows = previous->of_rows(order.pixels, p.memory);
  if (next) next_of_rows = {Buffer<float>(count, p.memory), Buffer<float>(count, p.memory), {}};
  std::optional<GroupedMatrix> matrix = build_matrix(
      panels.get(), count, p.channels, order.patches_per_row, float(exponent_scale(p.temperature)), p.tolerance,
      max_density, parallel_for, p.memory, previous ? &of_rows : nullptr, next ? &next_of_rows : nullptr);
  if (p.stats) p.stats->build_seconds += watch.lap();
  if (!matrix) return std::nullopt;
  if (next) {
    next->set_pixels(order.pixels, next_of_rows);
    next->directions = std::move(next_of_rows.directions);
  }
  return SparseGraph{std::move(order.pixels), std::move(*matrix)};
}

}  // namespace rwpm::cpu
