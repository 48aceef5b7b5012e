// The walk as plain pointers and sizes. Knows neither torch nor Python nor a thread pool.
//
//   m <- alpha S m + (1 - alpha) v,  S_ij = exp(q_i.q_j / tau) / sum_{k != i} exp(q_i.q_k / tau),  S_ii = 0,
//   q_i = e_i / max(|e_i|, 1e-12)
//
// A pixel that is masked out, or whose embedding or value is not finite, is no part of the graph and keeps its value.
#pragma once

#include <cstdint>
#include <functional>

namespace rwpm {

// Calls body(begin, end) on ranges that cover [0, count), on any threads in any order, and returns when all are done.
using RangeBody = std::function<void(int64_t begin, int64_t end)>;
using ParallelFor = std::function<void(int64_t count, const RangeBody& body)>;

template <typename T>
struct Matrix {
  const T* data;
  int64_t row_stride;     // in elements, any sign
  int64_t column_stride;  // in elements, any sign
};

// What a walk did, for who asks.
struct Info {
  enum Path { none, streaming, sparse } path;  // none: nothing to walk
  int64_t pixels;                              // of the graph
  int64_t kept;                                // ordered pairs that a transition goes over
  double dropped;                              // the largest share of its mass that a row dropped, bounded from above
  double pack, compile, steps;                 // seconds; compile: filter and refine, or the row sums of streaming
};

template <typename T>
struct Problem {
  int64_t pixels;          // N
  int64_t channels;        // D
  int64_t value_channels;  // C
  Matrix<T> embeddings;    // [N, D]
  Matrix<T> values;        // [N, C]
  const bool* mask;        // [N], true = valid; nullptr: all valid
  int64_t mask_stride;
  double alpha;        // in [0, 1]
  int64_t steps;       // >= 0
  double temperature;  // tau > 0
  double tolerance;    // mass that a row of S may drop, in [0, 1); 0: none
  // Walk with the transpose of S instead: the gradient with respect to the values. A value that is not finite then
  // stays in the graph, so that a broken gradient shows.
  bool adjoint;
  // outputs
  T* result;   // [N, C], contiguous
  Info* info;  // nullptr: not asked
};

// The walk on the CPU, the same bits at any number of threads. T is float or double. Without a tolerance it streams, in
// O(N (D + C)) memory and at most 256 MiB of cosines that steps keep for later ones; with one, a float walk of a sparse
// graph runs on a sparse matrix of up to a GiB. Throws std::bad_alloc, and std::invalid_argument when RWPM_ISA names no
// instruction set of this machine.
template <typename T>
void walk(const Problem<T>& problem, const ParallelFor& parallel_for);

}  // namespace rwpm
