// A graph compiled into a sparse transition matrix, and the walk on it: compiled once, it can be walked many times.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "../walk.h"
#include "transition.h"

namespace rwpm::cpu {

// The share of all pairs up to which a sparse matrix pays, however many steps share the cost of making it.
constexpr double densest_of_all = 0.15;

// The graph of `pixels`, of which more than the share `densest` of all pairs must not matter; nothing where it streams.
// width: pixels in a row of the map they come from, a hint; 0: not known.
std::optional<Transition> compile(const Problem<float>& p, const std::vector<int64_t>& pixels, double densest,
                                  int64_t width, const ParallelFor& parallel_for);

// The walk of p's values on the compiled graph of `pixels`; with a transposed matrix, the adjoint one.
void walk_compiled(const Problem<float>& p, const std::vector<int64_t>& pixels, const Transition& t,
                   const ParallelFor& parallel_for);

// A compiled matrix as who stores it sees it: row i holds the entries [row_start[i], row_start[i + 1]).
struct Csr {
  int64_t rows;
  const int64_t* row_start;  // [rows + 1]
  const int32_t* column;     // [entries], ascending within a row
  const float* weight;       // [entries]
  int64_t entries() const { return row_start[rows]; }
};

// What a compiled graph stores. This and the two after it are all that knows how a Transition is laid out.
Csr csr(const Transition& t);

// Back from what was stored.
Transition restored(const Csr& m, const ParallelFor& parallel_for);

Transition transposed(const Csr& m);

// The walk in double precision: for solvers, whose residuals float32 sums would hide. result: as Problem's.
// values: [rows][channels], contiguous.
void walk_compiled(const Csr& m, const double* values, int64_t channels, double alpha, int64_t steps,
                   const ParallelFor& parallel_for, double* result);

}  // namespace rwpm::cpu
