// The torch operator of score maps on the CPU: schema and argument checks around rwpm::score_map.
#include <torch/csrc/stable/library.h>

#include <string>
#include <tuple>

#include "bindings/torch_common.h"
#include "score_map.h"

namespace {

using namespace rwpm::ops;

rwpm::Score score_of(const std::string& name) {
  if (name == "energy") return rwpm::Score::energy;
  if (name == "max_logit") return rwpm::Score::max_logit;
  if (name == "max_softmax") return rwpm::Score::max_softmax;
  check(name == "entropy", "score: expected energy, max_logit, max_softmax or entropy, got ", name);
  return rwpm::Score::entropy;
}

std::tuple<Tensor, Tensor> score_map(const Tensor& logits, int64_t height, int64_t width, int64_t enlarged_height,
                                     int64_t enlarged_width, bool align_corners, std::string score) {
  check(logits.dim() == 3 && logits.size(0) >= 1 && logits.size(0) <= 256 && logits.size(1) >= 1 && logits.size(2) >= 1,
        "logits: expected shape [K, h, w] with 1 to 256 classes, got [", list(shape(logits)), "]");
  check(logits.scalar_type() == ScalarType::Float, "logits: expected dtype float32, got ", name(logits.scalar_type()));
  check(height >= 1 && width >= 1 && enlarged_height >= height && enlarged_width >= width,
        "enlarged_height, enlarged_width: expected at least height and width, which are 1 or more, got ",
        enlarged_height, " x ", enlarged_width, " for ", height, " x ", width);
  Tensor result = torch::stable::new_empty(logits, {height, width});
  Tensor segmentation = torch::stable::new_empty(logits, {height, width}, ScalarType::Byte);
  rwpm::score_map({logits.size(0), logits.size(1), logits.size(2), static_cast<const float*>(logits.const_data_ptr()),
                   logits.stride(0), logits.stride(1), logits.stride(2), enlarged_height, enlarged_width, align_corners,
                   height, width, score_of(score), static_cast<float*>(result.mutable_data_ptr()),
                   static_cast<uint8_t*>(segmentation.mutable_data_ptr())},
                  parallel_for);
  return {result, segmentation};
}

}  // namespace

RWPM_LIBRARY_FRAGMENT(m) {
  m.def(
      "score_map(Tensor logits, SymInt height, SymInt width, SymInt enlarged_height, SymInt enlarged_width, *, "
      "bool align_corners=False, str score=\"energy\") -> (Tensor, Tensor)");
}

RWPM_LIBRARY_IMPL(CPU, m) { m.impl("score_map", TORCH_BOX(&score_map)); }
