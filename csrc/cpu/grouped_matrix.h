// A sparse transition matrix in groups of rows, and the view of it that a walk reads.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/kernels.h"

namespace rwpm::cpu {

// By blocks of rows. Within a block `group_rows` rows at a time form a group and share their columns, with a weight of
// zero where a row of the group does not keep the pair. Rows sum to 1.
struct GroupedMatrix {
  struct Block {
    std::vector<int64_t> group_start;  // [groups + 1]
    Buffer<int32_t> column{0};         // [entries]
    Buffer<float> weight{0};           // [entries][group_rows]
  };
  static constexpr int64_t block_rows = 384;  // of every block but the last; a multiple of the lanes of a panel
  std::vector<Block> blocks;                  // [ceil(N / block_rows)]
  std::vector<float> dropped_mass;            // [N] upper bound of the share of its exact mass that a row dropped
  std::vector<float> log_sum;                 // [N] log2 of the sum of exp2(scale * cosine) over what a row keeps
  int64_t pairs = 0;                          // ordered pairs
};

// View of consecutive groups of rows, of a GroupedMatrix or of a matrix in other memory.
struct RowGroups {
  int64_t first_group, groups;
  const int64_t* group_start;  // [groups + 1], from 0
  const int32_t* column;       // [entries]
  const float* weight;         // [entries][group_rows]
};

inline std::vector<RowGroups> row_groups(const GroupedMatrix& matrix) {
  std::vector<RowGroups> rows;
  for (const GroupedMatrix::Block& b : matrix.blocks)
    rows.push_back({int64_t(rows.size()) * GroupedMatrix::block_rows / group_rows, int64_t(b.group_start.size()) - 1,
                    b.group_start.data(), b.column.get(), b.weight.get()});
  return rows;
}

}  // namespace rwpm::cpu
