// rwpm-score: photos to anomaly maps by an exported package, without Python. See help_text in options.cpp.
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "../npy/npy.h"
#include "latency.h"
#include "options.h"
#include "overlay.h"
#include "package.h"
#include "photo.h"
#include "picture.h"
#include "whole_file.h"

namespace {

using namespace rwpm::score;
enum Status { OK = 0, FAILED = 1, USAGE = 2 };

void write_npy(const std::string& path, npy_type type, const at::Tensor& map) {
  const npy_array array{type, 2, {map.size(0), map.size(1)}, map.data_ptr()};
  char error[NPY_ERROR_SIZE];
  if (npy_write(path.c_str(), &array, error)) throw std::runtime_error(error);
}

void write(const Outputs& files, const Result& result, const Photo& photo, std::optional<double> threshold) {
  write_npy(files.score, NPY_FLOAT32, result.score);
  if (!files.segmentation.empty()) write_npy(files.segmentation, NPY_UINT8, result.segmentation);
  if (!files.overlay.empty())
    write_picture(files.overlay, overlay(photo, result.score.const_data_ptr<float>(), threshold));
}

void score_photo(Package& package, const std::string& path, const Outputs& files, int repeat, Measured& measured) {
  const Stopwatch decoding;
  Photo photo = read_photo(path);
  const double decode_ms = decoding.milliseconds();
  const at::Tensor pixels = at::from_blob(photo.pixels.data(), {photo.height, photo.width, 3}, at::kByte);
  Result result;
  std::vector<double> run_ms;
  for (int k = 0; k < repeat; ++k) {
    const Stopwatch running;
    result = package.run(pixels);
    run_ms.push_back(running.milliseconds());
  }
  const Stopwatch writing;
  write(files, result, photo, package.threshold());
  measured.write.push_back(writing.milliseconds());
  measured.decode.push_back(decode_ms);
  measured.run.insert(measured.run.end(), run_ms.begin(), run_ms.end());
}

int run(const Options& options) {
  const std::vector<Outputs> files = outputs(options);
  if (options.threads) at::set_num_threads(options.threads);
  Measured measured;
  const Stopwatch loading;
  Package package(options.package, options.library);
  measured.load_ms = loading.milliseconds();
  measured.package = options.package;
  measured.network = value(package.metadata(), "rwpm.network", options.package);
  measured.torch = torch_version();
  measured.threads = at::get_num_threads();

  std::error_code refused;
  std::filesystem::create_directories(options.out, refused);
  if (refused) throw std::runtime_error("--out: " + options.out + " cannot be made: " + refused.message());
  int failed = 0;
  for (size_t k = 0; k < files.size(); ++k) {
    try {
      score_photo(package, options.photos[k], files[k], options.repeat, measured);
      std::printf("%s  %s\n", options.photos[k].c_str(), files[k].score.c_str());
    } catch (const std::exception& error) {
      const std::string reason = error.what();
      const bool named = reason.find(options.photos[k]) == 0;
      std::fprintf(stderr, "rwpm-score: %s%s\n", named ? "" : (options.photos[k] + ": ").c_str(), reason.c_str());
      ++failed;
    }
  }
  measured.peak_bytes = peak_bytes();
  if (!measured.run.empty()) {
    std::fputs(table(measured).c_str(), stdout);
    if (!options.json.empty())
      write_whole(options.json,
                  [text = json(measured)](std::FILE* file) { return std::fputs(text.c_str(), file) >= 0; });
  }
  return failed ? FAILED : OK;
}

}  // namespace

int main(int count, char** words) {
  try {
    const Options options = parse({words + 1, words + count});
    if (options.help) {
      std::fputs(help_text, stdout);
      return OK;
    }
    return run(options);
  } catch (const UsageError& error) {
    std::fprintf(stderr, "rwpm-score: %s; see rwpm-score --help\n", error.what());
    return USAGE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rwpm-score: %s\n", error.what());
    return FAILED;
  }
}
