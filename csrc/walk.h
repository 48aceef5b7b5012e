// The walk as plain pointers and sizes, independent of torch, of Python and of any thread pool.
//
//   m <- alpha S m + (1 - alpha) v,  S_ij = exp(q_i.q_j / tau) / sum_{k != i} exp(q_i.q_k / tau),  S_ii = 0,
//   q_i = e_i / max(|e_i|, 1e-12)
//
// With an anchor every row has its own pixel as one more neighbor, at the similarity s0; see cpu/anchor.h.
//
// A pixel that is masked out, or whose embedding or value is not finite, is no part of the graph and keeps its value.
#pragma once

#include <cstdint>
#include <functional>
#include <memory_resource>

#include "workspace.h"

namespace rwpm {

// A reference to a callable void(int64_t begin, int64_t end), which has to outlive it: std::function would copy what a
// closure captures to the heap.
class RangeBody {
 public:
  template <typename Body>
  RangeBody(const Body& body)  // NOLINT: implicit, so that a call takes a lambda
      : body_(&body),
        call_([](const void* b, int64_t begin, int64_t end) { (*static_cast<const Body*>(b))(begin, end); }) {}
  void operator()(int64_t begin, int64_t end) const { call_(body_, begin, end); }

 private:
  const void* body_;
  void (*call_)(const void* body, int64_t begin, int64_t end);
};

// Calls body(begin, end) on ranges that cover [0, count), on any threads in any order, and returns when all are done.
using ParallelFor = std::function<void(int64_t count, const RangeBody& body)>;

template <typename T>
struct MatrixView {
  const T* data;
  int64_t row_stride;     // in elements, any sign
  int64_t column_stride;  // in elements, any sign
};

// Statistics of a walk; filled if requested.
struct WalkStats {
  enum Path { none, streaming, sparse } path;  // none: nothing to walk
  int64_t pixels;                              // of the graph
  int64_t pairs;                               // ordered pairs of pixels that a transition goes over
  double dropped_mass;                         // bound of the largest share of its mass that a row dropped or rounded
  int64_t anchored;                            // pixels whose own value has at least half the weight of their row
  double pack_seconds;
  double build_seconds;  // filter and refine, or the row sums of streaming
  double step_seconds;   // all transitions
};

template <typename T>
struct Problem {
  int64_t pixels;            // N
  int64_t channels;          // D
  int64_t value_channels;    // C
  MatrixView<T> embeddings;  // [N, D]
  MatrixView<T> values;      // [N, C]
  const bool* mask;          // [N], true = valid; nullptr: all valid
  int64_t mask_stride;
  double alpha;        // in [0, 1]
  int64_t steps;       // >= 0
  double temperature;  // tau > 0
  double tolerance;    // mass that a row of S may drop, in [0, 1); 0: none
  double anchor = -1;  // cosine s0 of a pixel with its own value; -1 or lower: no anchor
  double anchor_share =
      0;  // in [0, 1]: s0 is tau log Z of the pixel up to which this share has no more; 0: s0 is `anchor`
  // Walk with the transpose of S instead: the gradient with respect to the values. A value that is not finite then
  // stays in the graph, so that it shows in the gradient.
  bool adjoint;
  // Where all temporary memory comes from, by any of the threads at a time. With a Workspace a walk allocates nothing
  // from the second on.
  std::pmr::memory_resource* memory = heap_memory();
  // outputs
  T* result;         // [N, C], contiguous
  WalkStats* stats;  // nullptr: not requested
};

// The walk on the CPU, the same bits at any number of threads. T is float or double. Without a tolerance it streams, in
// O(N (D + C)) memory and at most 256 MiB of cosines that are cached between steps; with one, a float walk of a sparse
// graph runs on a sparse matrix of up to a GiB. Throws std::bad_alloc, and std::invalid_argument when RWPM_ISA names no
// instruction set of this machine.
template <typename T>
void walk(const Problem<T>& problem, const ParallelFor& parallel_for);

// The gradient of a walk's result, and where to write those of its inputs.
template <typename T>
struct Gradients {
  MatrixView<T> of_result;  // [N, C]
  // outputs; of a pixel that is no part of the graph: zero, and that of the result
  T* of_embeddings;        // [N, D], contiguous
  T* of_values;            // [N, C], contiguous
  double* of_temperature;  // to which it is added
};

// Differentiates the walk of `problem`, whose result and stats are not written: on the same graph, which is built
// again, in the memory of `steps` more states, or of some 2 sqrt(steps) where these are more than 32. The same bits at
// any number of threads.
template <typename T>
void differentiate(const Problem<T>& problem, const Gradients<T>& gradients, const ParallelFor& parallel_for);

}  // namespace rwpm
