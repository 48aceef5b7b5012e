// A graph compiled into a sparse transition matrix, and the walk on it: compiled once, it can be walked many times.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/build_sparse.h"
#include "walk.h"

namespace rwpm::cpu {

// The share of all pairs up to which a sparse matrix pays, counting those that its groups hold for nothing, however
// many steps share the cost of making it.
constexpr double densest_of_all = 0.5;

struct Compiled {
  std::vector<int64_t> pixels;  // of the rows, in their order
  Transition matrix;
};

// The graph of `pixels`, of which more than the share `densest` of all pairs must not matter; nothing where it streams.
// width: pixels in a row of the map they come from, a hint; 0: not known.
std::optional<Compiled> compile(const Problem<float>& p, const std::vector<int64_t>& pixels, double densest,
                                int64_t width, const ParallelFor& parallel_for);

// Groups of rows that follow each other, of a compiled matrix or of one that somebody stored.
struct Rows {
  int64_t first_group, groups;
  const int64_t* group_start;  // [groups + 1], from 0
  const int32_t* column;       // [entries]
  const float* weight;         // [entries][group_rows]
};

std::vector<Rows> rows_of(const Transition& t);

// The walk of p's values on a matrix whose rows are those pixels. T is float or double; with float32 weights either
// way.
template <typename T>
void walk_compiled(const Problem<T>& p, const std::vector<int64_t>& pixels, const std::vector<Rows>& rows,
                   const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
