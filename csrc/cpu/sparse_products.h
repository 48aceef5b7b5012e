// Products with a sparse transition matrix whose weights are written out: with its transpose, in any precision, and
// pair by pair.
#pragma once

#include "cpu/buffer.h"
#include "cpu/grouped_matrix.h"
#include "cpu/pack.h"
#include "walk.h"

namespace rwpm::cpu {

template <typename T>
class SparseProducts {
 public:
  // pixels: of the rows. row_scale: [pixels] of their codes. row_factor: [pixels] of their weights; nullptr: 1.
  SparseProducts(const Vector<RowGroups>& rows, int64_t pixels, const float* row_scale, const T* row_factor,
                 const ParallelFor& parallel_for, Memory* memory);

  // The layout of C value channels.
  ValueLayout layout(int64_t channels) const;

  // Adds S from, or S^T from, to `to`; both in layout(channels).
  void add_product(int64_t channels, bool transposed, const T* from, T* to) const;

  // Adds (H + H^T) unit to `to`, both in layout(channels), H_ij = S_ij (left_i . right_j + offset_i). left, right:
  // [rows][stride], zero beyond depth, aligned. offset: [rows], and ends; nullptr: the products are kept for a later
  // call with an offset, which adds its own and uses up the weights.
  void add_pair_gradient(int64_t depth, int64_t stride, const T* left, const T* right, const T* offset,
                         int64_t channels, const T* unit, T* to);

 private:
  enum class Way { gather, scatter, exchange };
  void add(Way way, int64_t channels, const T* from, T* to) const;
  template <typename Body>
  void for_each_task(const Body& body) const;

  const ParallelFor& parallel_for_;
  Memory* const memory_;
  int64_t padded_;              // rows
  Vector<GroupRange> tasks_;    // in order
  Buffer<T> weight_, product_;  // [codes]; products once there are some
};

}  // namespace rwpm::cpu
