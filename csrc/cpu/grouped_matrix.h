// A sparse transition matrix in groups of rows, and the view of it that a walk reads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/kernels.h"

namespace rwpm::cpu {

// By blocks of rows. Within a block `group_rows` rows at a time form a group and share their columns, with a code of
// zero where a row of the group does not keep the pair. Rows sum to 1.
struct GroupedMatrix {
  struct Block {
    Buffer<GroupStart> group_start;   // [groups + 1]; the last one is where the block ends
    Buffer<int32_t> column;           // [entries]
    Buffer<uint16_t> code, low_code;  // of equal size, or no low ones
    int64_t groups() const { return group_start.size() - 1; }
  };
  static constexpr int64_t block_rows = 384;  // of every block but the last; a multiple of the lanes of a panel
  Vector<Block> blocks;                       // [ceil(N / block_rows)]
  Vector<float> row_scale;                    // [N] of a row's codes
  // [N] upper bound of the share of its mass that a row has elsewhere than the exact one: what it dropped, and what
  // rounding moved.
  Vector<float> dropped_mass;
  Vector<float> log_sum;  // [N] log2 of the sum of exp2(scale * cosine) over what a row keeps
  int64_t pairs = 0;      // ordered pairs

  GroupedMatrix(int64_t pixels, Memory* memory)
      : blocks(ceil_div(pixels, block_rows), memory),
        row_scale(pixels, memory),
        dropped_mass(pixels, memory),
        log_sum(pixels, memory) {}
};

// View of consecutive groups of rows, of a GroupedMatrix or of a matrix in other memory.
struct RowGroups {
  int64_t first_group, groups;
  const GroupStart* group_start;    // [groups + 1], from 0
  const int32_t* column;            // [entries]
  const uint16_t *code, *low_code;  // or nullptr

  float weight(int64_t at, float row_scale) const {
    const float root = (float(code[at]) + (low_code ? float(low_code[at]) / low_unit : 0)) * row_scale;
    return root * root;
  }
};

// Calls visit(column, first_row, at, codes) for every entry of a group, where the codes of its rows [first_row,
// first_row + codes) begin.
template <typename Visit>
void for_each_entry(const RowGroups& m, int64_t group, const Visit& visit) {
  const GroupStart& start = m.group_start[group];
  int64_t at = start.code;
  for (int64_t e = start.entry; e < m.group_start[group + 1].entry; ++e) {
    const int64_t codes = e < start.first_half ? group_rows : group_rows / 2;
    visit(m.column[e], e < start.second_half ? 0 : group_rows / 2, at, codes);
    at += codes;
  }
}

inline Vector<RowGroups> row_groups(const GroupedMatrix& matrix, Memory* memory) {
  Vector<RowGroups> rows(memory);
  rows.reserve(matrix.blocks.size());
  for (const GroupedMatrix::Block& b : matrix.blocks)
    rows.push_back({int64_t(rows.size()) * GroupedMatrix::block_rows / group_rows, b.groups(), b.group_start.get(),
                    b.column.get(), b.code.get(), b.low_code.size() > 0 ? b.low_code.get() : nullptr});
  return rows;
}

// Consecutive groups that one task takes: few enough to balance the threads, enough to be worth a task.
struct GroupRange {
  const RowGroups* rows;
  int64_t begin, end;  // groups
  int64_t first_code;  // of `rows`, among those of all of them
};

inline Vector<GroupRange> group_ranges(const Vector<RowGroups>& rows, Memory* memory) {
  constexpr int64_t groups_per_task = 24;
  int64_t count = 0;
  for (const RowGroups& m : rows) count += ceil_div(m.groups, groups_per_task);
  Vector<GroupRange> ranges(memory);
  ranges.reserve(count);
  int64_t first_code = 0;
  for (const RowGroups& m : rows) {
    for (int64_t g = 0; g < m.groups; g += groups_per_task)
      ranges.push_back({&m, g, std::min(g + groups_per_task, m.groups), first_code});
    first_code += m.group_start[m.groups].code;
  }
  return ranges;
}

}  // namespace rwpm::cpu
