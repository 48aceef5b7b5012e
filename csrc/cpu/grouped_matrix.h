// A sparse transition matrix in groups of rows, and the view of it that a walk reads.
#pragma once

#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/kernels.h"

namespace rwpm::cpu {

// By blocks of rows. Within a block `group_rows` rows at a time form a group and share their columns, with a weight of
// zero where a row of the group does not keep the pair. Rows sum to 1.
struct GroupedMatrix {
  struct Block {
    Buffer<int64_t> group_start;  // [groups + 1]; empty: a block without entries
    Buffer<int32_t> column;       // [entries]
    Buffer<float> weight;         // [entries][group_rows]
    int64_t groups() const { return group_start.size() - 1; }
  };
  static constexpr int64_t block_rows = 384;  // of every block but the last; a multiple of the lanes of a panel
  Vector<Block> blocks;                       // [ceil(N / block_rows)]
  Vector<float> dropped_mass;                 // [N] upper bound of the share of its exact mass that a row dropped
  Vector<float> log_sum;                      // [N] log2 of the sum of exp2(scale * cosine) over what a row keeps
  int64_t pairs = 0;                          // ordered pairs

  GroupedMatrix(int64_t pixels, Memory* memory)
      : blocks(ceil_div(pixels, block_rows), memory), dropped_mass(pixels, memory), log_sum(pixels, memory) {}
};

// View of consecutive groups of rows, of a GroupedMatrix or of a matrix in other memory.
struct RowGroups {
  int64_t first_group, groups;
  const int64_t* group_start;  // [groups + 1], from 0
  const int32_t* column;       // [entries]
  const float* weight;         // [entries][group_rows]
};

inline Vector<RowGroups> row_groups(const GroupedMatrix& matrix, Memory* memory) {
  Vector<RowGroups> rows(memory);
  rows.reserve(matrix.blocks.size());
  for (const GroupedMatrix::Block& b : matrix.blocks)
    rows.push_back({int64_t(rows.size()) * GroupedMatrix::block_rows / group_rows, b.groups(), b.group_start.get(),
                    b.column.get(), b.weight.get()});
  return rows;
}

}  // namespace rwpm::cpu
