// The walk on a sparse transition matrix: built once, it can be walked many times.
#pragma once

#include <cstdint>

#include "cpu/grouped_matrix.h"
#include "walk.h"

namespace rwpm::cpu {

// The walk of p's values on a matrix whose rows are `pixels`. T is float or double; weights are float32 in both cases.
// row_scale: [rows] of their codes. own_weight: [rows] r_i of the anchored walk, see anchor.h; empty without an anchor.
template <typename T>
void walk_sparse(const Problem<T>& p, const Vector<int64_t>& pixels, const Vector<RowGroups>& rows,
                 const float* row_scale, const Vector<T>& own_weight, const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
