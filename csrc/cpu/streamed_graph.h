// A graph whose weights are computed again in every transition: the unit embeddings, and the sums of the rows.
#pragma once

#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/schedule.h"
#include "walk.h"

namespace rwpm::cpu {

template <typename T>
class StreamedGraph {
 public:
  // pack_seconds, build_seconds: to which the time of packing and of the row sums is added.
  StreamedGraph(const Problem<T>& p, const Vector<int64_t>& pixels, const ParallelFor& parallel_for,
                double& pack_seconds, double& build_seconds);

  // The layout of C value channels.
  ValueLayout layout(int64_t channels) const;
  // log2 of the sum of exp(cosine / tau) of every row.
  Vector<T> log_sums() const;
  // Multiplies row i of S by 1 - weight[i].
  void shrink_rows(const Vector<T>& weight);

  // Adds alpha S from, or alpha S^T from, to `to`; both in layout(channels).
  void add_product(int64_t channels, bool transposed, const T* from, T* to, T alpha = 1);

  // Unit embeddings as values, in layout(channels), zero beyond D.
  Buffer<T> unit(int64_t channels) const;
  // Adds (H + H^T) unit to `to`, both in layout(channels), H_ij = S_ij (left_i . right_j + offset_i). left, right:
  // [rows][stride], the first `depth` numbers of each row. offset: [rows], zero beyond N; or nullptr for none.
  void add_pair_gradient(int64_t depth, int64_t stride, const T* left, const T* right, const T* offset,
                         int64_t channels, const T* unit, T* to);

 private:
  template <typename Body>
  void for_each_pair(int64_t scratch_size, const Body& body);

  const Kernels<T>& kernels_;
  const ParallelFor& parallel_for_;
  Memory* const memory_;
  int64_t pixels_, rows_, channels_;
  Buffer<T> panels_, row_max_, inv_row_sum_;
  PackedGraph<T> graph_;
  RoundRobinSchedule schedule_;
  int64_t pair_size_, cached_pairs_;  // of the schedule, whose cosines are kept from the first transition on
  Buffer<T> cosines_;
  bool cosines_known_ = false;
};

}  // namespace rwpm::cpu
