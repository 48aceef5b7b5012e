#include "package.h"

#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "operator_library.h"

namespace rwpm::score {

namespace {

using Loader = torch::inductor::AOTIModelPackageLoader;
constexpr const char* model_name = "model";

// The first line of what torch says; the others are a trace of its own code.
std::string first_line(const std::exception& error) {
  const auto* const of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = of_torch ? of_torch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// Only the metadata are read, so that nothing of a package runs that cannot run here.
Metadata read_metadata(const std::string& path) {
  if (!std::ifstream(path)) throw std::runtime_error(path + ": cannot be read: " + std::strerror(errno));
  try {
    return Loader::load_metadata_from_package(path, model_name);
  } catch (const std::exception& error) {
    throw std::runtime_error(path +
                             ": expected a package of rwpm-fast export NETWORK --format pt2, got another file (" +
                             first_line(error) + ")");
  }
}

void load_operators(const Metadata& metadata, const std::string& path, const std::string& library) {
  const std::optional<OperatorLibrary> operators = load_operator_library(library, path);
  if (!operators) {
    if (!walks(metadata, path)) return;  // perhaps it calls another of the operators: load_code finds out
    throw std::runtime_error(path + ": calls the operator rwpm::walk of " + operator_library_name +
                             ", which was not found; " + operator_library_source);
  }
  const std::string& wanted = value(metadata, "rwpm.op_abi", path);
  if (std::to_string(operators->abi) != wanted)
    throw std::runtime_error(path + ": expected an operator library of ABI " + wanted + ", got ABI " +
                             std::to_string(operators->abi) + " of " + operators->path +
                             "; export again with its version of rwpm-fast, or take the library of version " +
                             value(metadata, "rwpm.version", path));
}

std::unique_ptr<Loader> load_code(const std::string& path) {
  try {
    return std::make_unique<Loader>(path, model_name);
  } catch (const std::exception& error) {
    // The metadata tell of the walk only, and not of the other operators that the code may call.
    const std::string reason = first_line(error), missing = "Could not find schema for ";
    const size_t at = reason.find(missing);
    if (at == std::string::npos) throw std::runtime_error(path + ": does not load: " + reason);
    const size_t name = at + missing.size();
    throw std::runtime_error(path + ": calls the operator " +
                             reason.substr(name, reason.find_last_not_of(". ") + 1 - name) +
                             ", which no library has registered; those of rwpm are in " + operator_library_name + ": " +
                             operator_library_source);
  }
}

std::string described(const at::Tensor& tensor) {
  std::ostringstream text;
  text << c10::toString(tensor.scalar_type()) << " " << tensor.sizes() << " on " << tensor.device();
  return text.str();
}

void check_photo(const at::Tensor& photo, int64_t min_side) {
  if (!photo.defined()) throw std::runtime_error("photo: expected a tensor, got an undefined one");
  if (photo.scalar_type() != at::kByte || photo.dim() != 3 || photo.size(2) != 3 || !photo.is_cpu())
    throw std::runtime_error(
        "photo: expected Byte [H, W, 3] on cpu, RGB 0..255, got " + described(photo) +
        (photo.dim() == 3 && photo.size(0) == 3 ? "; permute({1, 2, 0}) turns channels last" : ""));
  if (photo.size(0) < min_side || photo.size(1) < min_side)
    throw std::runtime_error("photo: expected at least " + std::to_string(min_side) + " pixels a side, got " +
                             std::to_string(photo.size(1)) + "x" + std::to_string(photo.size(0)) +
                             "; enlarge it first");
}

// A traced graph cannot check its own numbers.
void check_finite(const at::Tensor& score, const std::string& path) {
  const float* const numbers = score.const_data_ptr<float>();
  const int64_t broken = std::count_if(numbers, numbers + score.numel(), [](float x) { return !std::isfinite(x); });
  if (broken)
    throw std::runtime_error(path + ": expected finite scores, got " + std::to_string(broken) + " of " +
                             std::to_string(score.numel()) + " that are not");
}

Result checked(const std::vector<at::Tensor>& outputs, const at::Tensor& photo, const std::string& path) {
  const auto is_map = [&](const at::Tensor& map, at::ScalarType type) {
    return map.scalar_type() == type && map.sizes() == photo.sizes().slice(0, 2);
  };
  if (outputs.size() == 2 && is_map(outputs[0], at::kFloat) && is_map(outputs[1], at::kByte)) {
    Result result{outputs[0].contiguous(), outputs[1].contiguous()};
    check_finite(result.score, path);
    return result;
  }
  std::string got;
  for (const at::Tensor& output : outputs) got += (got.empty() ? "" : ", ") + described(output);
  throw std::runtime_error(path +
                           ": expected a model that returns score Float [H, W] and segmentation Byte [H, W] of " +
                           "the photo's size, got " + got);
}

}  // namespace

std::string torch_version() {
  const uint64_t version = aoti_torch_abi_version();  // major, minor, patch and a tag, from the highest byte on
  return std::to_string(version >> 56) + "." + std::to_string(version >> 48 & 0xff);
}

Package::Package(const std::string& path, const std::string& library) : path_(path), metadata_(read_metadata(path)) {
  check_runs_here(metadata_, torch_version(), path);
  threshold(), min_side();  // so that broken ones are told before the first photo
  load_operators(metadata_, path, library);
  loader_ = load_code(path);
}

Package::~Package() = default;
Package::Package(Package&&) noexcept = default;
Package& Package::operator=(Package&&) noexcept = default;

Result Package::run(const at::Tensor& photo) {
  check_photo(photo, min_side());
  const c10::InferenceMode no_gradient;
  std::vector<at::Tensor> outputs;
  try {
    outputs = loader_->run({photo.contiguous()});
  } catch (const std::exception& error) {
    throw std::runtime_error(path_ + ": fails on a photo of " + described(photo) + ": " + first_line(error));
  }
  return checked(outputs, photo, path_);
}

}  // namespace rwpm::score
