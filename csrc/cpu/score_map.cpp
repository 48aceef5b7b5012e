// Rows of a score map: enlarge two rows of logits to the photo's width, blend them, score. A row of logits is enlarged
// once for all rows of the photo between it and its neighbors.
#include "score_map.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/isa.h"

namespace rwpm {
namespace {

// Where the pixels of one side of the enlarged map come from: between `from` and the next, if any.
struct Source {
  int64_t from, next;
  float weight;  // of `next`
};

std::vector<Source> sources(int64_t size, int64_t enlarged, int64_t wanted, bool align_corners) {
  std::vector<Source> result(wanted);
  const float scale =
      align_corners ? (enlarged > 1 ? float(size - 1) / float(enlarged - 1) : 0.f) : float(size) / float(enlarged);
  for (int64_t i = 0; i < wanted; ++i) {
    const float place = align_corners ? scale * float(i) : std::max(std::fma(scale, float(i) + 0.5f, -0.5f), 0.f);
    const int64_t from = std::min(int64_t(place), size - 1);
    result[i] = {from, std::min(from + 1, size - 1), std::clamp(place - float(from), 0.f, 1.f)};
  }
  return result;
}

// A row of logits [classes][stride] in the photo's width.
class EnlargedRow {
 public:
  EnlargedRow(const ScoreMapProblem& problem, const std::vector<Source>& columns, int64_t stride)
      : problem_(problem),
        columns_(columns),
        stride_(stride),
        // what pads a row is computed with, and dropped
        values_(problem.classes * stride, 0, heap_memory()) {}

  const float* get(int64_t row) {
    if (row != row_) fill(row);
    row_ = row;
    return values_.get();
  }

  bool holds(int64_t row) const { return row == row_; }

 private:
  void fill(int64_t row) {
    for (int64_t k = 0; k < problem_.classes; ++k) {
      const float* const from = problem_.logits + k * problem_.class_stride + row * problem_.row_stride;
      float* const to = &values_[k * stride_];
      for (size_t x = 0; x < columns_.size(); ++x) {
        const Source& source = columns_[x];
        const float left = from[source.from * problem_.column_stride],
                    right = from[source.next * problem_.column_stride];
        to[x] = left + source.weight * (right - left);
      }
    }
  }

  const ScoreMapProblem& problem_;
  const std::vector<Source>& columns_;
  int64_t stride_, row_ = -1;
  cpu::Buffer<float> values_;
};

}  // namespace

void score_map(const ScoreMapProblem& p, const ParallelFor& parallel_for) {
  const cpu::ScoreKernels& kernels = *cpu::chosen_isa().score;
  const std::vector<Source> rows = sources(p.map_height, p.enlarged_height, p.height, p.align_corners);
  const std::vector<Source> columns = sources(p.map_width, p.enlarged_width, p.width, p.align_corners);
  const int64_t stride = cpu::ceil_div(p.width, kernels.lanes) * kernels.lanes;
  parallel_for(p.height, [&](int64_t begin, int64_t end) {
    EnlargedRow first(p, columns, stride), second(p, columns, stride);
    cpu::Buffer<float> score(stride, heap_memory()), scratch(p.classes * kernels.lanes, heap_memory());
    cpu::Buffer<uint8_t> segmentation(stride, heap_memory());
    for (int64_t y = begin; y < end; ++y) {
      const Source& source = rows[y];
      // The two rows alternate, so that the lower one of a pair is kept as the upper one of the next.
      EnlargedRow& upper = second.holds(source.from) ? second : first;
      EnlargedRow& lower = &upper == &first ? second : first;
      const float* const above = upper.get(source.from);
      const float* const below = source.next == source.from ? above : lower.get(source.next);
      kernels.score_row(
          {p.classes, stride, above, below, source.weight, p.score, scratch.get(), score.get(), segmentation.get()});
      std::memcpy(p.score_map + y * p.width, score.get(), p.width * sizeof(float));
      std::memcpy(p.segmentation + y * p.width, segmentation.get(), p.width);
    }
  });
}

}  // namespace rwpm
