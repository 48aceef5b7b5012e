#include "cpu/matrix_builder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace rwpm::cpu {
namespace {

using Block = GroupedMatrix::Block;
constexpr int64_t block_rows = GroupedMatrix::block_rows;

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

  // The halves of its rows that an entry has a code for: 1, 2, or 3 for both.
  int halves(int64_t entry) const {
    const auto any = [&](const Buffer<uint16_t>& codes, int64_t half) {
      static_assert(group_rows == 4);
      uint32_t both;
      std::memcpy(&both, &codes[entry * group_rows + half * group_rows / 2], sizeof(both));
      return both != 0;
    };
    int halves = int(any(code, 0)) + 2 * int(any(code, 1));
    if (low_code.size() > 0) halves |= int(any(low_code, 0)) + 2 * int(any(low_code, 1));
    return halves;
  }
};

// Whether a group has a row that is `active`: [rows], padded to whole groups.
bool any_active(const char* active, int64_t group) {
  return std::any_of(active + group * group_rows, active + (group + 1) * group_rows, [](char x) { return x != 0; });
}

// The entries of a block's groups that have active rows, without those of these rows.
Entries entries_but(const Block& block, int64_t groups, const char* active, bool with_low, Memory* memory) {
  Buffer<int64_t> start(groups + 1, 0, memory);
  if (block.group_start.size() == 0) return Entries(std::move(start), with_low, memory);
  for (int64_t g = 0; g < groups; ++g)
    start[g + 1] = start[g] + (any_active(active, g) ? block.group_start[g + 1].entry - block.group_start[g].entry : 0);
  Entries entries(std::move(start), with_low, memory);
  std::fill_n(entries.code.get(), entries.code.size(), uint16_t(0));
  std::fill_n(entries.low_code.get(), entries.low_code.size(), uint16_t(0));
  const RowGroups view = {0, groups, block.group_start.get(), block.column.get(), block.code.get(), nullptr};
  int64_t to = 0;
  for (int64_t g = 0; g < groups; ++g) {
    if (!any_active(active, g)) continue;
    for_each_entry(view, g, [&](int64_t column, int64_t first_row, int64_t code, int64_t codes) {
      entries.column[to / group_rows] = int32_t(column);
      for (int64_t k = 0; k < codes; ++k) {
        if (active[g * group_rows + first_row + k]) continue;
        entries.code[to + first_row + k] = block.code[code + k];
        if (with_low) entries.low_code[to + first_row + k] = block.low_code[code + k];
      }
      to += group_rows;
    });
  }
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

// The block of two sets of entries, without those whose codes are all 0. Groups without an active row are as in
// `before`, where it has any.
Block merge(const Block& before, const char* active, const Entries& one, const Entries& two, Memory* memory) {
  const int64_t groups = one.group_start.size() - 1;
  // The halves of its rows that each entry has: 1, 2, or 3 for both.
  int64_t count[4] = {};
  const auto halves_of = [&](const Entries& entries) {
    Buffer<char> halves(entries.column.size(), memory);
    for (int64_t e = 0; e < halves.size(); ++e) {
      halves[e] = char(entries.halves(e));
      ++count[int(halves[e])];
    }
    return halves;
  };
  const Buffer<char> halves_of_one = halves_of(one), halves_of_two = halves_of(two);
  const auto is_unchanged = [&](int64_t g) { return before.group_start.size() > 0 && !any_active(active, g); };
  int64_t all_entries = count[1] + count[2] + count[3];
  int64_t all_codes = count[3] * group_rows + (count[1] + count[2]) * group_rows / 2;
  for (int64_t g = 0; g < groups; ++g) {
    if (!is_unchanged(g)) continue;
    all_entries += before.group_start[g + 1].entry - before.group_start[g].entry;
    all_codes += before.group_start[g + 1].code - before.group_start[g].code;
  }
  const bool with_low = one.low_code.size() + two.low_code.size() > 0;
  Block block = {Buffer<GroupStart>(groups + 1, memory), Buffer<int32_t>(all_entries, memory),
                 Buffer<uint16_t>(all_codes, memory), Buffer<uint16_t>(with_low ? all_codes : 0, memory)};
  GroupStart at = {};
  for (int64_t g = 0; g < groups; ++g) {
    if (is_unchanged(g)) {
      const GroupStart &from = before.group_start[g], &end = before.group_start[g + 1];
      std::copy_n(&before.column[from.entry], end.entry - from.entry, &block.column[at.entry]);
      std::copy_n(&before.code[from.code], end.code - from.code, &block.code[at.code]);
      if (with_low) std::copy_n(&before.low_code[from.code], end.code - from.code, &block.low_code[at.code]);
      at.first_half = at.entry + from.first_half - from.entry;
      at.second_half = at.entry + from.second_half - from.entry;
      block.group_start[g] = at;
      at.entry += end.entry - from.entry;
      at.code += end.code - from.code;
      continue;
    }
    int64_t of_group[4] = {};
    for (int64_t e = one.group_start[g]; e < one.group_start[g + 1]; ++e) ++of_group[int(halves_of_one[e])];
    for (int64_t e = two.group_start[g]; e < two.group_start[g + 1]; ++e) ++of_group[int(halves_of_two[e])];
    at.first_half = at.entry + of_group[3];
    at.second_half = at.first_half + of_group[1];
    block.group_start[g] = at;
    // Where the next entry with these halves, and its codes, go.
    int64_t entry[4] = {0, at.first_half, at.second_half, at.entry};
    int64_t code[4] = {0, at.code + of_group[3] * group_rows, 0, at.code};
    code[2] = code[1] + of_group[1] * group_rows / 2;
    const auto add = [&](const Entries& entries, const Buffer<char>& halves_of) {
      for (int64_t e = entries.group_start[g]; e < entries.group_start[g + 1]; ++e) {
        const int halves = halves_of[e];
        if (halves == 0) continue;
        const int64_t from = e * group_rows + (halves == 2 ? group_rows / 2 : 0);
        const int64_t codes = halves == 3 ? group_rows : group_rows / 2;
        block.column[entry[halves]++] = entries.column[e];
        std::copy_n(&entries.code[from], codes, &block.code[code[halves]]);
        if (with_low) std::copy_n(&entries.low_code[from], codes, &block.low_code[code[halves]]);
        code[halves] += codes;
      }
    };
    add(one, halves_of_one);
    add(two, halves_of_two);
    at.entry = entry[2];
    at.code = code[2];
  }
  block.group_start[groups] = {at.entry, at.entry, at.entry, at.code};
  return block;
}

}  // namespace

int64_t count_pairs(const Block& block) {
  const int64_t size = block.code.size();
  if (block.low_code.size() == 0) return size - std::count(block.code.get(), block.code.get() + size, 0);
  int64_t pairs = 0;
  for (int64_t k = 0; k < size; ++k) pairs += (block.code[k] | block.low_code[k]) != 0;
  return pairs;
}

bool MatrixBuilder::add(const QuantizedGraph& graph, FilterPass& pass, int64_t block, float min_share) {
  const int64_t begin = context_.block_begin(block), count = std::min(block_rows, context_.pixels - begin);
  const float* const thresholds = &graph.screen_threshold[begin];
  if (std::all_of(thresholds, thresholds + count, [](float x) { return x == infinity; })) return !too_coarse;
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
    const auto share = [&](float cosine) { return std::exp2(double(cosine) * graph.scale - double(group.log_sum[k])); };
    // Refined pairs are counted in units of the weight at keep_threshold; of the others each weighs at most that at
    // screen_threshold.
    const double refined = double(pass.dropped_weight[i]) / drop_unit * share(graph.keep_threshold[i]);
    matrix.dropped_mass[i] =
        float(refined + double(context_.pixels) * share(graph.screen_threshold[i]) + group.moved_mass[k]);
    // A row that kept nothing, by a wrong hint, has no number.
    over_budget[i] = !(matrix.dropped_mass[i] <= tolerance_);
    const double rounded_mass = group.moved_mass[k] - group.trimmed_mass[k];
    const double room = (1 - screen_fraction) * tolerance_ - rounded_mass;
    if (room < 0) too_coarse = true;
    if (!next_) continue;
    const double kept_from = std::max(share(graph.keep_threshold[i]), double(min_share));
    const RowOutcome outcome = {group.log_sum[k], float(std::log2(kept_from)), refined + group.trimmed_mass[k], room};
    // What rounding takes is the same whatever a row keeps.
    const double screened = std::min(screen_fraction, (1 - rounded_mass / tolerance_) / 2);
    const double screen_share = tolerance_ * std::max(screened, 1e-3) / double(context_.pixels);
    note_outcome(outcome, own_sums_[i], float(std::log2(screen_share)), i, *next_);
  }
  Block& at = matrix.blocks[block];
  at = merge(at, active, entries_but(at, weighed.size(), active, with_low_codes_, context_.memory), found,
             context_.memory);
  return !too_coarse;
}

}  // namespace rwpm::cpu
