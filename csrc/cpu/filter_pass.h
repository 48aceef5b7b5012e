// A pass of the filter over all pairs of a graph: screen them with quantized embeddings, and select those that rows
// keep.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "cpu/buffer.h"
#include "cpu/grouped_matrix.h"
#include "cpu/kernels.h"
#include "walk.h"

namespace rwpm::cpu {

constexpr float infinity = std::numeric_limits<float>::infinity();

// A graph's size and what it is built with. Its pixels are padded to whole panels, and come in blocks of the matrix's
// rows.
struct BuildContext {
  const SparseKernels& kernels;
  int64_t pixels, channels;
  const ParallelFor& parallel_for;
  Memory* memory;
  int64_t panels() const { return ceil_div(pixels, kernels.lanes); }
  int64_t padded() const { return panels() * kernels.lanes; }
  int64_t blocks() const { return ceil_div(pixels, GroupedMatrix::block_rows); }
  int64_t block_begin(int64_t block) const { return block * GroupedMatrix::block_rows; }
  int64_t block_end(int64_t block) const { return std::min(block_begin(block + 1), padded()); }
};

// Vectors of a graph's pixels, quantized.
class Quantized {
 public:
  // panels: [panel][channels][lanes].
  Quantized(const BuildContext& context, const float* panels, int64_t channels);
  QuantizedVectors view(const float* panels) const;  // with the vectors as they are

 private:
  int64_t channels_;
  Buffer<char> quantized_;
  Buffer<float> scale_, error_;  // [padded]
};

// A graph as the filter reads it, and the thresholds of its rows as in FilterArgs: infinite until they are set.
struct QuantizedGraph {
  const int64_t pixels;
  const float scale;
  const bool refine_in_parts;
  const float* const panels;
  Quantized embeddings;
  std::optional<Quantized> leading;                // of the leading channels; nothing where they do not pay
  Buffer<float> leading_panels;                    // empty where the filter reads only what is quantized
  Buffer<float> screen_threshold, keep_threshold;  // [padded]

  // tolerance: of a row's mass; it says whether the error of parts is small enough. directions: of the leading
  // channels; or empty: none.
  QuantizedGraph(const BuildContext& context, const float* panels, float scale, double tolerance,
                 const Buffer<float>& directions);
  void drop_leading();
  FilterArgs args() const;  // a view for the kernels
};

using CandidateList = Buffer<CandidateEntry>;  // of fixed size, so that no memory is wasted

// The candidates of a pass by tiles, blocks of queries times blocks of keys, of which half are needed: (query block a,
// key block b >= a).
struct FilterPass {
  struct Tile {
    CandidateList of_queries, of_keys;
  };
  int64_t blocks;
  Vector<Tile> tiles;
  Vector<uint32_t> dropped_weight;  // [N] by row, in 1 / drop_unit of the weight at its keep_threshold
  Tile& tile(int64_t a, int64_t b) { return tiles[tile_index(a, b)]; }
  // Calls visit(list, key block) for every list of a block of rows, by ascending columns.
  template <typename Visit>
  void for_each_list(int64_t block, const Visit& visit) {
    for (int64_t a = 0; a <= block; ++a) visit(tile(a, block).of_keys, a);
    for (int64_t b = block; b < blocks; ++b) visit(tile(block, b).of_queries, b);
  }
  int64_t tile_index(int64_t a, int64_t b) const { return a * blocks - a * (a - 1) / 2 + (b - a); }
  std::pair<int64_t, int64_t> tile_blocks(int64_t tile) const;
};

// What a pass will find, estimated from a sample of query panels with a block of keys each, so that a graph that is too
// dense is rejected early.
struct PassEstimate {
  double entries;
  double unbounded;  // share of the pairs that the leading channels do not reject
  double dropped;    // of the mean row, in units of the weight at its keep_threshold; refined pairs, as dropped_weight
};
PassEstimate estimate_pass(const BuildContext& context, const QuantizedGraph& graph);

// Takes the candidates of a block of rows, which are complete, and frees them. Returns whether the pass should go on.
using TakeBlock = std::function<bool(FilterPass&, int64_t block)>;

// Runs a pass, and calls take_block for every block as soon as it is complete, in one of the threads: the candidates of
// all blocks take more memory than the matrix. Returns the number of pairs of pixels that were screened; nothing when
// the pass found more than `limit` entries or was told to stop.
std::optional<int64_t> run_filter_pass(const BuildContext& context, const QuantizedGraph& graph, int64_t limit,
                                       const TakeBlock& take_block);

// Times a pass alone over panels as the kernels read them, [panel][D][lanes], with the same `threshold` for all pixels:
// the cosine from which on a pair is kept. With a threshold well above 1 no pair is found, whatever the quantization
// error, and only screening is timed; with an infinite one nothing is tested.
struct FilterTiming {
  double seconds;        // of the pass, without the quantization before it
  int64_t pairs_tested;  // pairs of pixels that were multiplied in the kernels' format, D products each
  int64_t pairs_kept;    // ordered pairs
};
FilterTiming time_filter(const float* panels, int64_t pixels, int64_t channels, float threshold,
                         const ParallelFor& parallel_for);

}  // namespace rwpm::cpu
