// The gradient of a walk on a graph that is there.
//
// A transition is m_t+1 = a S m_t + (1 - a) v, a of each row: alpha (1 - r). Let g_t be the gradient with respect to
// m_t, from the one of the result g_T down: g_t = S^T (a g_t+1). Then, over t = 0 .. T - 1,
//
//   dL/dv      = g_0 + sum_t (1 - a) g_t+1
//   dL/dx_ij   = S_ij (P_ij - rho_i + kappa_i), x = cosine / tau,  P_ij = sum_t a_i g_t+1,i . m_t,j
//                rho_i = sum_j S_ij P_ij = sum_t a_i g_t+1,i . (S m_t)_i
//                kappa_i = dL/d log Z_i, by which the anchor's r follow the sums of the rows
//   dL/dq_i    = sum_j (dL/dx_ij + dL/dx_ji) q_j / tau, of unit embeddings, and through their length to e
//   dL/dtau    = - sum_ij dL/dx_ij x_ij / tau, and what the anchor s0 / tau adds
//
// Rows of dL/dx sum to kappa, and cosines of neighbors are near 1, so that the last line is a difference of large sums:
// it is taken as - sum_ij dL/dx_ij (cosine - 1) / tau^2 - sum_i kappa_i / tau^2, with the sums of H + H^T as one more
// channel of the unit embeddings, a 1.
//
// P is a product of two matrices [N, T C]; it is formed for pairs that rows keep, or a tile at a time. The products
// S m_t are computed again and kept: T N C numbers, or some 2 sqrt(T) N C of a long walk, which is then taken twice.
#pragma once

#include <cstdint>

#include "cpu/grouped_matrix.h"
#include "walk.h"

namespace rwpm::cpu {

// The gradient of walk_sparse, to the rows `pixels` of the outputs. p has embeddings, anchor and temperature.
template <typename T>
void differentiate_sparse(const Problem<T>& p, const Gradients<T>& gradients, const Vector<int64_t>& pixels,
                          const Vector<RowGroups>& rows, const float* row_scale, const Vector<T>& log_sum,
                          const ParallelFor& parallel_for);

// The gradient of a walk that streams.
template <typename T>
void differentiate_streaming(const Problem<T>& p, const Gradients<T>& gradients, const Vector<int64_t>& pixels,
                             const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
