// Weighs what the passes of the filter select, block by block, and adds it to a sparse matrix.
#pragma once

#include <atomic>
#include <cstdint>

#include "cpu/filter_pass.h"
#include "cpu/grouped_matrix.h"
#include "cpu/hints.h"

namespace rwpm::cpu {

// Pairs that screening rejects have a mass of at most N times the smallest share that passes it: this fraction of the
// tolerance.
constexpr double screen_fraction = 0.25;

// Adds to the matrix what the active rows keep, pass by pass.
class MatrixBuilder {
 public:
  // next: to which the hints of rows are noted, by their sums over their own panels; or nullptr.
  MatrixBuilder(const BuildContext& context, double tolerance, bool with_low_codes, const Buffer<float>& own_sums,
                Hints* next)
      : matrix(context.pixels, context.memory),
        over_budget(context.pixels, context.memory),
        context_(context),
        tolerance_(tolerance),
        with_low_codes_(with_low_codes),
        own_sums_(own_sums),
        next_(next) {}

  // Weighs a block of a pass and adds it to the matrix, without entries of less than min_share in every row. Sets the
  // rows' dropped_mass, and whether they are over budget. Returns whether further blocks are worth it.
  bool add(const QuantizedGraph& graph, FilterPass& pass, int64_t block, float min_share);

  GroupedMatrix matrix;
  Vector<char> over_budget;  // [N]
  std::atomic<bool> too_coarse{
      false};  // no pass can bring some row into its budget: rounding takes what screening leaves

 private:
  const BuildContext& context_;
  const double tolerance_;
  const bool with_low_codes_;
  const Buffer<float>& own_sums_;
  Hints* const next_;
};

// Ordered pairs of a block.
int64_t count_pairs(const GroupedMatrix::Block& block);

}  // namespace rwpm::cpu
