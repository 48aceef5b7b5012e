// The graph as a sparse transition matrix, and the walk on it: built once, it can be walked many times.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/build_sparse.h"
#include "walk.h"

namespace rwpm::cpu {

// The share of all pairs, with those that are stored only because groups share columns, above which a sparse matrix is
// slower than streaming, however many steps share the cost of building it.
constexpr double max_useful_density = 0.5;

struct SparseGraph {
  std::vector<int64_t> pixels;  // of the rows, in order
  GroupedMatrix matrix;
};

// The graph of `pixels`; nothing where it should stream, for example because its matrix would store more than the share
// `max_density` of all pairs. width: of the map that the pixels come from, a hint; 0: not known.
std::optional<SparseGraph> build_sparse(const Problem<float>& p, const std::vector<int64_t>& pixels, double max_density,
                                        int64_t width, const ParallelFor& parallel_for);

// View of consecutive groups of rows, of a GroupedMatrix or of a matrix in other memory.
struct RowGroups {
  int64_t first_group, groups;
  const int64_t* group_start;  // [groups + 1], from 0
  const int32_t* column;       // [entries]
  const float* weight;         // [entries][group_rows]
};

std::vector<RowGroups> row_groups(const GroupedMatrix& matrix);

// The walk of p's values on a matrix whose rows are `pixels`. T is float or double; weights are float32 in both cases.
template <typename T>
void walk_sparse(const Problem<T>& p, const std::vector<int64_t>& pixels, const std::vector<RowGroups>& rows,
                 const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
