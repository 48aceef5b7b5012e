#include "cpu/build_sparse.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>

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

// The rounding of codes alone moves up to 1.5e-5 of a row on maps of road networks, so that smaller tolerances take low
// codes as well.
constexpr double min_coarse_tolerance = 1e-4, usual_rounding = 1.5e-5;

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

// Entries of a block's groups in any order, with a code for every row of the group: 0 where it does not keep the pair.
struct Entries {
  Buffer<int64_t> group_start;      // [groups + 1]
  Buffer<int32_t> column;           // [entries]
  Buffer<uint16_t> code, low_code;  // [entries][group_rows], or no low ones

  Entries(Buffer<int64_t> start, bool with_low, Memory* memory)
      : group_start(std::move(start)),
        column(group_start[group_start.size() - 1], memory),
        code(column.size() * group_rows, memory),
        low_code(with_low ? code.size() : 0, memory) {}

  bool has(int64_t entry, int64_t row) const {
    const int64_t at = entry * group_rows + row;
    return code[at] != 0 || (low_code.size() > 0 && low_code[at] != 0);
  }
};

// The entries of a block, without those of rows that are `active`: [rows].
Entries entries_but(const Block& block, int64_t groups, const char* active, bool with_low, Memory* memory) {
  Buffer<int64_t> start(groups + 1, 0, memory);
  if (block.group_start.size() == 0) return Entries(std::move(start), with_low, memory);
  for (int64_t g = 0; g <= groups; ++g) start[g] = block.group_start[g].entry;
  Entries entries(std::move(start), with_low, memory);
  std::copy_n(block.column.get(), entries.column.size(), entries.column.get());
  std::fill_n(entries.code.get(), entries.code.size(), uint16_t(0));
  std::fill_n(entries.low_code.get(), entries.low_code.size(), uint16_t(0));
  const RowGroups view = {0, groups, block.group_start.get(), block.column.get(), block.code.get(), nullptr};
  int64_t to = 0;
  for (int64_t g = 0; g < groups; ++g)
    for_each_entry(view, g, [&](int64_t, int64_t first_row, int64_t code, int64_t codes) {
      for (int64_t k = 0; k < codes; ++k) {
        if (active[g * group_rows + first_row + k]) continue;
        entries.code[to + first_row + k] = block.code[code + k];
        if (with_low) entries.low_code[to + first_row + k] = block.low_code[code + k];
      }
      to += group_rows;
    });
  return entries;
}

// Takes a block's entries out of a pass, and weighs them group by group. rows: [groups].
Entries weigh_block(const BuildContext& context, FilterPass& pass, int64_t block, float scale, float min_share,
                    bool with_low, Buffer<WeighedRows>& rows) {
  const int64_t groups = rows.size();
  Buffer<int64_t> start(groups + 1, 0, context.memory);
  pass.for_each_list(block, [&](const CandidateList& list, int64_t) {
    for (int64_t k = 0; k < list.size(); ++k) ++start[list[k].group + 1];
  });
  for (int64_t g = 0; g < groups; ++g) start[g + 1] += start[g];
  Buffer<int64_t> at(groups, context.memory);
  std::copy_n(start.get(), groups, at.get());
  Entries entries(std::move(start), with_low, context.memory);
  Buffer<float> cosines(entries.code.size(), context.memory);
  pass.for_each_list(block, [&](CandidateList& list, int64_t key_block) {
    for (int64_t k = 0; k < list.size(); ++k) {
      const CandidateEntry& entry = list[k];
      const int64_t e = at[entry.group]++;
      entries.column[e] = int32_t(context.block_begin(key_block) + entry.column);
      std::copy_n(entry.cosine, group_rows, &cosines[e * group_rows]);
    }
    list = {};
  });
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = entries.group_start[g];
    context.kernels.weigh_group(cosines.get() + first * group_rows, entries.group_start[g + 1] - first, scale,
                                min_share, entries.code.get() + first * group_rows,
                                with_low ? entries.low_code.get() + first * group_rows : nullptr, rows[g]);
  }
  return entries;
}

// The block of two sets of entries, without those whose codes are all 0.
Block merge(const Entries& one, const Entries& two, Memory* memory) {
  static_assert(group_rows == 4);
  const int64_t groups = one.group_start.size() - 1;
  // The halves of its rows that each entry has: 1, 2, or 3 for both.
  int64_t count[4] = {};
  const auto halves_of = [&](const Entries& entries) {
    Buffer<char> halves(entries.column.size(), memory);
    for (int64_t e = 0; e < halves.size(); ++e) {
      halves[e] = char(int(entries.has(e, 0) || entries.has(e, 1)) + 2 * int(entries.has(e, 2) || entries.has(e, 3)));
      ++count[int(halves[e])];
    }
    return halves;
  };
  const Buffer<char> halves_of_one = halves_of(one), halves_of_two = halves_of(two);
  const int64_t all_codes = count[3] * group_rows + (count[1] + count[2]) * group_rows / 2;
  const bool with_low = one.low_code.size() + two.low_code.size() > 0;
  Block block = {Buffer<GroupStart>(groups + 1, memory), Buffer<int32_t>(count[1] + count[2] + count[3], memory),
                 Buffer<uint16_t>(all_codes, memory), Buffer<uint16_t>(with_low ? all_codes : 0, memory)};
  GroupStart at = {};
  const auto add_from = [&](const Entries& entries, const Buffer<char>& halves_of, int64_t g, int halves) {
    const int64_t first_row = halves == 2 ? group_rows / 2 : 0, codes = halves == 3 ? group_rows : group_rows / 2;
    for (int64_t e = entries.group_start[g]; e < entries.group_start[g + 1]; ++e) {
      if (halves_of[e] != halves) continue;
      std::copy_n(&entries.code[e * group_rows + first_row], codes, block.code.get() + at.code);
      if (with_low) std::copy_n(&entries.low_code[e * group_rows + first_row], codes, block.low_code.get() + at.code);
      block.column[at.entry++] = entries.column[e];
      at.code += codes;
    }
  };
  const auto add = [&](int64_t g, int halves) {
    add_from(one, halves_of_one, g, halves);
    add_from(two, halves_of_two, g, halves);
    return at.entry;
  };
  for (int64_t g = 0; g < groups; ++g) {
    GroupStart& start = block.group_start[g];
    start = at;
    start.first_half = add(g, 3);
    start.second_half = add(g, 1);
    add(g, 2);
  }
  block.group_start[groups] = {at.entry, at.entry, at.entry, at.code};
  return block;
}

int64_t count_pairs(const Block& block) {
  const int64_t size = block.code.size();
  if (block.low_code.size() == 0) return size - std::count(block.code.get(), block.code.get() + size, 0);
  int64_t pairs = 0;
  for (int64_t k = 0; k < size; ++k) pairs += (block.code[k] | block.low_code[k]) != 0;
  return pairs;
}

// Adds to the matrix what the active rows keep, pass by pass.
class MatrixBuilder {
 public:
  MatrixBuilder(const BuildContext& context, double tolerance, bool with_low_codes)
      : matrix(context.pixels, context.memory),
        over_budget(context.pixels, context.memory),
        context_(context),
        tolerance_(tolerance),
        with_low_codes_(with_low_codes) {}

  // Weighs a block of a pass and adds it to the matrix, without entries of less than min_share in every row. Sets the
  // rows' dropped_mass, and whether they are over budget. Returns whether further blocks are worth it.
  bool add(const QuantizedGraph& graph, FilterPass& pass, int64_t block, float min_share) {
    const int64_t begin = context_.block_begin(block), count = std::min(block_rows, context_.pixels - begin);
    Buffer<WeighedRows> weighed(ceil_div(count, group_rows), context_.memory);
    const Entries found = weigh_block(context_, pass, block, graph.scale, min_share, with_low_codes_, weighed);
    char active[block_rows] = {};
    for (int64_t row = 0; row < count; ++row) {
      const int64_t i = begin + row, k = row % group_rows;
      active[row] = graph.screen_threshold[i] < infinity;
      if (!active[row]) continue;
      const WeighedRows& group = weighed[row / group_rows];
      matrix.log_sum[i] = group.log_sum[k];
      matrix.row_scale[i] = group.scale[k];
      const auto share = [&](float cosine) {
        return std::exp2(double(cosine) * graph.scale - double(group.log_sum[k]));
      };
      // Refined pairs are counted in units of the weight at keep_threshold; of the others each weighs at most that at
      // screen_threshold.
      matrix.dropped_mass[i] = float(double(pass.dropped_weight[i]) / drop_unit * share(graph.keep_threshold[i]) +
                                     double(context_.pixels) * share(graph.screen_threshold[i]) + group.moved_mass[k]);
      over_budget[i] = matrix.dropped_mass[i] > tolerance_;
      const double rounded_mass = group.moved_mass[k] - group.trimmed_mass[k];
      if (rounded_mass > (1 - screen_fraction) * tolerance_) too_coarse = true;
    }
    Block& at = matrix.blocks[block];
    at = merge(entries_but(at, weighed.size(), active, with_low_codes_, context_.memory), found, context_.memory);
    return !too_coarse;
  }

  GroupedMatrix matrix;
  Vector<char> over_budget;  // [N]
  std::atomic<bool> too_coarse{
      false};  // no pass can bring some row into its budget: rounding takes what screening leaves

 private:
  const BuildContext& context_;
  const double tolerance_;
  const bool with_low_codes_;
};

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

// Runs passes until no row is over budget, or returns nothing: where the matrix has more than `limit` entries, where
// max_passes are not enough, or where codes are too coarse.
std::optional<GroupedMatrix> run_passes(const BuildContext& context, const Shares& first_shares, double tolerance,
                                        int64_t limit, bool with_low_codes, QuantizedGraph& graph, bool& too_coarse) {
  MatrixBuilder builder(context, tolerance, with_low_codes);
  for (int64_t pass = 1; pass <= max_passes; ++pass) {
    // Where the bound of a row's sum was loose, the first pass kept pairs that turn out to have little mass.
    const float min_share = pass == 1 ? float(first_shares.keep) : 0;
    const auto add = [&](FilterPass& found, int64_t block) { return builder.add(graph, found, block, min_share); };
    // By reference: as a value it would be allocated.
    const bool complete = run_filter_pass(context, graph, limit, std::cref(add)).has_value();
    too_coarse = builder.too_coarse;
    if (!complete) return std::nullopt;
    if (std::count(builder.over_budget.begin(), builder.over_budget.end(), 1) == 0) {
      for (const Block& block : builder.matrix.blocks) builder.matrix.pairs += count_pairs(block);
      return std::move(builder.matrix);
    }
    if (pass < max_passes) retry_rows(builder, tolerance, pass + 1 == max_passes, graph);
  }
  return std::nullopt;
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

  const bool coarse = tolerance >= min_coarse_tolerance;
  const double entry_bytes = sizeof(int32_t) + (coarse ? 1 : 2) * group_rows * sizeof(uint16_t);
  const double max_stored = max_density * double(pixels) * double(pixels) / double(group_rows);
  const double max_entries = max_bytes / entry_bytes;
  const PassEstimate estimate = estimate_pass(context, graph);
  if (estimate.entries > std::min(max_stored, max_entries)) return std::nullopt;
  if (estimate.unbounded > max_unbounded) graph.drop_leading();
  // Keeping somewhat more costs less than another pass for rows that turn out over budget.
  const double most = estimate.dropped * dropped_spread * first_shares.keep;
  const double room = tolerance * (1 - screen_fraction) - (coarse ? usual_rounding : 0);
  if (most > room) {
    first_shares.keep = std::max(first_shares.screen, first_shares.keep * room / most);
    set_thresholds(first_shares, bounds, graph);
  }
  const auto limit = int64_t(std::min(1.3 * max_stored, max_entries));  // the count may exceed the estimate a little

  bool too_coarse = !coarse;
  if (coarse) {
    std::optional<GroupedMatrix> matrix =
        run_passes(context, first_shares, tolerance, limit, /*with_low_codes=*/false, graph, too_coarse);
    if (matrix || !too_coarse) return matrix;
    set_thresholds(first_shares, bounds, graph);
  }
  return run_passes(context, first_shares, tolerance, limit, /*with_low_codes=*/true, graph, too_coarse);
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
