// An exported model in a C++ program: package.h, package.cpp, metadata.* and operator_library.* are what an application
// takes over; the rest of this folder is the program rwpm-score.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>

#include "metadata.h"

namespace torch::inductor {
class AOTIModelPackageLoader;
}

namespace rwpm::score {

/// What a model makes of a photo.
struct Result {
  at::Tensor score;         // float32 [H, W], higher is more anomalous; contiguous
  at::Tensor segmentation;  // uint8 [H, W], class index, whose names are in metadata "rwpm.classes"; contiguous
};

/// A package of `rwpm-fast export NETWORK --format pt2`, loaded into this process.
///
/// A package checks nothing by itself: of another layout, type or size it makes other numbers, or reads beyond the end
/// of memory. This class does the checks. One call at a time.
///
///     rwpm::score::Package package("model.pt2", "librwpm_ops.so");
///     // pixels: RGB of one frame, height x width x 3 bytes
///     at::Tensor photo = at::from_blob(pixels, {height, width, 3}, at::kByte);
///     rwpm::score::Result result = package.run(photo);
class Package {
 public:
  /// Loads a package: checks its metadata, loads the operator library, then the model's code.
  ///
  /// library: path of librwpm_ops.so; if empty, see load_operator_library.
  /// Throws std::runtime_error with one line: no export, without metadata, of another torch, of a processor with other
  /// instructions, operator library not found or of another ABI.
  explicit Package(const std::string& path, const std::string& library = "");
  ~Package();
  Package(Package&&) noexcept;
  Package& operator=(Package&&) noexcept;

  /// Scores a photo.
  ///
  /// photo: uint8 [H, W, 3] on the CPU, RGB, H and W at least min_side(). Other strides than those of contiguous
  /// memory, such as of a permuted or cropped photo, cost a copy; contiguous photos are read where they are.
  /// Throws std::runtime_error: a photo of another type, shape or device, or a model that fails, returns something
  /// else than a Result, or scores that are not finite; one line.
  Result run(const at::Tensor& photo);

  /// What the export says of itself; see rwpm_fast.deploy.metadata for the keys.
  const Metadata& metadata() const { return metadata_; }

  /// Pixels that a side of a photo needs at least.
  int64_t min_side() const { return score::min_side(metadata_, path_); }

  /// The threshold of the score that it was exported with, if there is one.
  std::optional<double> threshold() const { return score::threshold(metadata_, path_); }

 private:
  std::string path_;
  Metadata metadata_;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader_;
};

/// Version of the torch that this process runs, "2.13": of the library, not of the headers.
std::string torch_version();

}  // namespace rwpm::score
