// The problems that kernels solve, and the tables of kernels that each instruction set fills.
//
// Packing. A panel holds `lanes` pixels, channel by channel: [D][lanes]. Values are cut into panels of up to `lanes`
// channels, pixel by pixel: [N][channels of the panel]. Both are then the operands of one micro-kernel,
// out[m][n] += sum_k a[k][m] * b[k][n]: keys times queries over channels, weights times values over keys.
//
// The sparse path has three stages. Screen: approximate cosines of quantized embeddings find the pairs that may matter.
// Select: exact cosines of those decide which pairs each row keeps, and list them. Weigh: the softmax over what a row
// keeps. The filter does the first two for a panel of queries at a time.
#pragma once

#include <cstdint>

#include "score.h"

namespace rwpm::cpu {

constexpr int64_t alignment = 64;  // bytes: a cache line, and the widest vector

template <typename T>
struct PackedGraph {
  int64_t pixels;    // N, at least 2
  int64_t channels;  // D
  T scale;           // log2(e) / tau, because the kernels take powers of two
  const T* panels;   // [ceil(N / lanes)][D][lanes] unit embeddings, zero beyond N
  T* row_max;        // [ceil(N / lanes) * lanes] largest cosine with another pixel
  T* inv_row_sum;    // [ceil(N / lanes) * lanes] 1 / sum of exp2(scale * (cosine - row_max))
};

// The values of one transition.
template <typename T>
struct StepArgs {
  int64_t width;  // C, padded to whole vectors
  T alpha;
  bool adjoint;   // weights S_ji instead of S_ij
  const T* from;  // [value panels][ceil(N / lanes) * lanes][channels of the panel], zero beyond N
  // in and out
  T* to;  // the same layout, to which alpha S from is added; rows beyond N are left alone
};

// The gradient of unit embeddings by pairs: to += (H + H^T) from, H_ij = S_ij (left_i . right_j + offset_i).
template <typename T>
struct PairGradientArgs {
  int64_t depth;    // of left and right
  const T* left;    // [ceil(N / lanes)][depth][lanes], zero beyond N
  const T* right;   // the same layout
  const T* offset;  // [ceil(N / lanes) * lanes], zero beyond N; or nullptr: none
  int64_t width;    // D, padded to whole vectors
  const T* from;    // unit embeddings, in the layout of StepArgs
  // in and out
  T* to;  // the same layout; rows beyond N are left alone
};

template <typename T>
struct Kernels {
  int64_t lanes;     // pixels of a panel, and value channels of a full panel
  int64_t vector;    // elements of a vector
  int64_t tile;      // query pixels that one call of `normalize` handles, a multiple of lanes
  int64_t key_tile;  // key pixels whose cosines it holds at a time, a multiple of lanes
  int64_t block;     // pixels of a block that `step` takes, a multiple of lanes
  void (*normalize)(const PackedGraph<T>&, int64_t tile_index, T* scratch);  // scratch: tile * key_tile
  // Adds to `to` what two blocks of pixels contribute to each other in a transition, or one block to itself.
  // scratch: 2 * block * block. cosines: block * block, written at the first step and read at later ones, or nullptr.
  void (*step)(const PackedGraph<T>&, const StepArgs<T>&, int64_t block, int64_t other_block, bool first_step,
               T* cosines, T* scratch);
  // The same for PairGradientArgs. scratch: 3 * block * block. cosines: as `step` wrote them, or nullptr.
  void (*add_pair_gradient)(const PackedGraph<T>&, const PairGradientArgs<T>&, int64_t block, int64_t other_block,
                            const T* cosines, T* scratch);
  double (*multiply_adds)(int64_t rounds);  // runs that many rounds of independent multiply-adds; returns their number
};

// Rows of the sparse matrix come in groups that share their columns: neighbors on a map resemble the same pixels, so
// that a value is fetched once for all of them.
constexpr int64_t group_rows = 4;

// A weight is (code * a scale of its row)^2, and the largest of a row has the largest code. By the square, large
// weights have small relative errors and small weights have small absolute ones: weights of a row differ by factors of
// thousands. Where that is too coarse, a low code adds to it in units of 1 / low_unit.
constexpr int max_code = 65535, low_unit = 65536;

// Where a group's entries begin in an array of columns, and their codes in an array of codes. First come entries with a
// code for every row of the group, then those with codes for its first half only, then those for its second half.
struct GroupStart {
  int64_t entry, first_half, second_half, code;
};

// A column of a group of rows: a cosine for each row that keeps the pair, -inf for the others. Group and column are
// counted from the beginning of the tile's blocks.
struct CandidateEntry {
  uint16_t group, column;
  float cosine[group_rows];
};

// Unit vectors of pixels, as they are and as screening multiplies them.
struct QuantizedVectors {
  int64_t channels;          // D
  const float* panels;       // [panel][D][lanes], zero beyond N
  const char* quantized;     // [panel][quantized_bytes], as `quantize` makes them
  const float* quant_scale;  // [panel * lanes] cosine = product of quantized vectors * both pixels' scales
  const float* quant_error;  // [panel * lanes] an approximate cosine is off by at most the sum of both pixels'
};

// A graph as the filter reads it.
struct FilterArgs {
  int64_t pixels;  // N
  QuantizedVectors embeddings;
  QuantizedVectors leading;  // few channels, whose cosines bound those of the embeddings from above; or none, D = 0
  const float* screen_threshold;  // [panel * lanes] cosine below which a pixel ignores a pair; infinite beyond N
  const float* keep_threshold;    // [panel * lanes] cosine from which on a pixel keeps a pair; infinite beyond N
  float scale;                    // log2(e) / tau
  bool refine_in_parts;           // whether rows may select by cosines that are off by parts_error
};

constexpr float drop_unit = 1024;  // dropped weights are counted in 1 / drop_unit of the weight at `keep_threshold`

// The pairs that calls of the filter select. Each list has room for lanes * keys / group_rows entries.
struct Candidates {
  CandidateEntry* of_queries;  // rows are queries, columns are keys
  CandidateEntry* of_keys;     // rows are keys, columns are queries
  int64_t query_count;
  int64_t key_count;
  uint32_t* dropped_weight;  // [N] by row, added to: pairs that were refined but not kept, rounded up
  // Pairs of pixels that were multiplied, without the padding of panels and stripes; and those whose bound by the
  // leading channels did not suffice to reject them, with the others of their stripe.
  int64_t pairs_tested = 0, pairs_unbounded = 0;
};

// One transition by rows of the sparse matrix: to = alpha_i S from + (1 - alpha_i) start; values laid out as in
// StepArgs.
struct SparseStepArgs {
  int64_t rows;                   // of a value panel
  int64_t width;                  // C, padded to whole vectors
  const float* alpha;             // [rows]
  const float* row_scale;         // [rows] of the codes
  int64_t first_row;              // the pixel of the first group
  const GroupStart* group_start;  // [groups + 1]
  const int32_t* column;          // [entries]
  const uint16_t* code;
  const uint16_t* low_code;  // or nullptr
  const float* start;
  const float* from;
  // output
  float* to;
};

// What weighing makes of the rows of a group.
struct WeighedRows {
  float log_sum[group_rows];        // log2 of the sum of exp2(scale * cosine), -inf for a row without a pair
  float scale[group_rows];          // of the codes; 0 for a row without a pair
  double trimmed_mass[group_rows];  // share of the entries that are left out
  double moved_mass[group_rows];    // with it, share that is elsewhere than in the softmax: half of the differences
};

struct SparseKernels {
  int64_t lanes;                            // pixels of a panel
  int64_t vector;                           // floats of a vector
  const char* format;                       // of the numbers that `filter` multiplies
  double (*multiply_adds)(int64_t rounds);  // of that format, as in Kernels
  // Bytes of a quantized panel, a multiple of the alignment; 0 where the filter multiplies float32 as it is.
  int64_t (*quantized_bytes)(int64_t channels);
  // Where a format multiplies vectors as sums of quantized parts: how much such a cosine is off, times the square root
  // of the channels; else 0, and rows select by float32 cosines.
  float parts_error;
  void (*quantize)(const float* panel, int64_t channels, char* quantized, float* quant_scale, float* quant_error);
  // For each pixel of a query panel, [lanes]: log2 of the sum of exp2(scale * cosine) over the other pixels of some key
  // panels, -inf where there are none.
  void (*local_log_sum)(const FilterArgs&, int64_t query_panel, const int64_t* key_panels, int64_t count,
                        float* log_sum);
  // For each pixel of a query panel a lower bound of its largest cosine with another pixel, from every `step`-th of
  // some keys at a time: [lanes].
  void (*max_cosine_bound)(const FilterArgs&, int64_t query_panel, int64_t step, float* cosines);
  // Pixels from which on screening by leading channels first pays in this format; 0: never.
  int64_t min_leading_pixels;
  // Coordinates of a panel's vectors along `count` directions, a multiple of 8: [count][lanes]. directions: [D][count].
  void (*project)(const float* panel, int64_t channels, const float* directions, int64_t count, float* coordinates);
  // Adds the vectors, each times its coordinates: sums [D][count]; `count` at most 48.
  void (*add_projected)(const float* panel, int64_t channels, const float* directions, int64_t count, float* sums);
  // Screens and selects the pairs of a query panel and the keys [key_begin, key_end), each pair once: a key is paired
  // with the queries before it. The panel's block begins at pixel query_begin, the keys' block at key_begin.
  void (*filter)(const FilterArgs&, int64_t query_panel, int64_t query_begin, int64_t key_begin, int64_t key_end,
                 Candidates&);
  void (*step)(const SparseStepArgs&, int64_t begin_group, int64_t end_group);
  // Weighs a group by each row's softmax over its entries. cosines: [entries][group_rows], -inf where a row does not
  // keep the pair; overwritten. code, and low_code or nullptr: [entries][group_rows], 0 for -inf, and for entries of
  // less than min_share in every row; weights sum to one without them.
  void (*weigh_group)(float* cosines, int64_t entries, float scale, float min_share, uint16_t* code, uint16_t* low_code,
                      WeighedRows& rows);
};

// A value panel of a transition with a number for each code of a sparse matrix.
template <typename T>
struct PairStepArgs {
  int64_t first_row;              // the pixel of the first group
  const GroupStart* group_start;  // [groups + 1]
  const int32_t* column;          // [entries]
  const T* weight;                // [codes]
  const T* from;                  // [rows][channels of the panel]
  // in and out
  T* to;
};

// Products of two pixels' vectors for every code of a sparse matrix.
template <typename T>
struct PairProductArgs {
  int64_t first_row;
  const GroupStart* group_start;
  const int32_t* column;
  int64_t depth;          // a multiple of a vector
  const T *left, *right;  // [rows][depth]
  // in and out
  T* product;  // [codes], to which left[row] . right[column] is added
};

template <typename T>
struct PairKernels {
  int64_t lanes;   // channels of a full value panel
  int64_t vector;  // elements of a vector
  // Add to `to`, for a value panel of some channels and groups [begin, end): the matrix times the values, its transpose
  // times the values, or both.
  void (*gather)(const PairStepArgs<T>&, int64_t channels, int64_t begin, int64_t end);
  void (*scatter)(const PairStepArgs<T>&, int64_t channels, int64_t begin, int64_t end);
  void (*exchange)(const PairStepArgs<T>&, int64_t channels, int64_t begin, int64_t end);
  void (*multiply)(const PairProductArgs<T>&, int64_t begin, int64_t end);
};

// A row of a score map: logits are above + weight * (below - above).
struct ScoreRowArgs {
  int64_t classes;
  int64_t width;       // in pixels, a multiple of `lanes`
  const float* above;  // [classes][width]
  const float* below;  // [classes][width]
  float weight;
  Score kind;
  float* scratch;  // [classes][lanes]
  // outputs
  float* score;           // [width]
  uint8_t* segmentation;  // [width]
};

struct ScoreKernels {
  int64_t lanes;
  void (*score_row)(const ScoreRowArgs&);
};

struct Isa {
  const char* name;
  bool (*available)();
  const Kernels<float>* float32;
  const Kernels<double>* float64;
  const SparseKernels* sparse;
  const PairKernels<float>* pairs_float32;
  const PairKernels<double>* pairs_float64;
  const ScoreKernels* score;
};

}  // namespace rwpm::cpu
