// Builds the sparse transition matrix of a graph by filter and refine: screen all pairs with quantized embeddings,
// select from the exact cosines of the rest, weigh what rows keep.
#pragma once

#include <cstdint>
#include <optional>

#include "cpu/grouped_matrix.h"
#include "cpu/hints.h"
#include "walk.h"

namespace rwpm::cpu {

// The share of all pairs, with those that are stored only because groups share columns, above which a sparse matrix is
// slower than streaming, however many steps share the cost of building it.
constexpr double max_useful_density = 0.5;

struct SparseGraph {
  Vector<int64_t> pixels;  // of the rows, in order
  GroupedMatrix matrix;
};

// The graph of `pixels`; nothing where it should stream, for example because its matrix would store more than the share
// `max_density` of all pairs. width: of the map that the pixels come from, a hint; 0: not known. previous: hints of a
// similar graph of as many pixels and channels, or nullptr. next: of the pixels of p, to which the hints of this graph
// are written where it is sparse; or nullptr. All its memory is p.memory.
std::optional<SparseGraph> build_sparse(const Problem<float>& p, const Vector<int64_t>& pixels, double max_density,
                                        int64_t width, const ParallelFor& parallel_for, const Hints* previous = nullptr,
                                        Hints* next = nullptr);

// The matrix of packed embeddings. panels: unit embeddings as the kernels read them, [panel][D][lanes], zero beyond N.
// patches_per_row: where a panel is a patch of the map, the number of patches side by side, so that panels above and
// below bound row sums well; with other orders of pixels the build takes longer. scale: log2(e) / tau. Every row drops
// at most `tolerance`. Returns nothing when groups would store more than the share `max_density` of all pairs, or the
// matrix would take more than a GiB. memory: of the matrix and of everything on the way. previous, next: hints by row.
std::optional<GroupedMatrix> build_matrix(const float* panels, int64_t pixels, int64_t channels,
                                          int64_t patches_per_row, float scale, double tolerance, double max_density,
                                          const ParallelFor& parallel_for, Memory* memory = heap_memory(),
                                          const Hints* previous = nullptr, Hints* next = nullptr);

}  // namespace rwpm::cpu
