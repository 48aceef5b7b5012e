#include "options.h"

#include <charconv>
#include <filesystem>
#include <map>

#include "picture.h"

namespace rwpm::score {

namespace fs = std::filesystem;

const char* const help_text =
    R"(usage: rwpm-score PACKAGE.pt2 PHOTO... --out DIR [options]

Scores photos by an exported model, without Python: for every photo an anomaly map (.npy, float32 [H, W], higher is more
anomalous) and a picture of it over the photo (_overlay.png). Latencies are printed at the end.

  PACKAGE.pt2     of rwpm-fast export NETWORK --format pt2
  PHOTO           PNG, JPEG or PPM
  --out DIR       folder for the results, made if missing
  --library FILE  librwpm_ops.so, which holds the operator of the walk (default: the one beside the package, or in the
                  system's search path)
  --segmentation  write the map of classes as well (.segmentation.npy, uint8 [H, W])
  --no-overlay    write no picture
  --threads N     threads of a run (default: torch's choice)
  --repeat R      runs of every photo, for the latencies (default: 1)
  --json FILE     write the latencies to a file
  --help          print this text
)";

namespace {

int positive(const std::string& option, const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1)
    throw UsageError(option + ": expected a whole number from 1, got " + text);
  return number;
}

}  // namespace

Options parse(const std::vector<std::string>& words) {
  Options options;
  std::vector<std::string> files;
  bool only_files = false;  // after "--"
  for (size_t k = 0; k < words.size(); ++k) {
    const std::string& word = words[k];
    const auto argument = [&]() -> const std::string& {
      if (++k == words.size() || words[k].empty()) throw UsageError(word + ": expected a value after it");
      return words[k];
    };
    if (only_files || word.empty() || word[0] != '-')
      files.push_back(word);
    else if (word == "--")
      only_files = true;
    else if (word == "--help" || word == "-h")
      options.help = true;
    else if (word == "--out")
      options.out = argument();
    else if (word == "--library")
      options.library = argument();
    else if (word == "--json")
      options.json = argument();
    else if (word == "--threads")
      options.threads = positive(word, argument());
    else if (word == "--repeat")
      options.repeat = positive(word, argument());
    else if (word == "--no-overlay")
      options.overlay = false;
    else if (word == "--segmentation")
      options.segmentation = true;
    else
      throw UsageError(word + ": no such option");
  }
  if (options.help) return options;
  if (files.size() < 2) throw UsageError("expected a package and at least one photo");
  if (options.out.empty()) throw UsageError("--out: expected a folder for the results");
  options.package = files[0];
  options.photos.assign(files.begin() + 1, files.end());
  return options;
}

std::vector<Outputs> outputs(const Options& options) {
  if (fs::exists(options.out) && !fs::is_directory(options.out))
    throw std::runtime_error("--out: expected a folder, got the file " + options.out);
  std::vector<Outputs> all;
  std::map<std::string, std::string> writers;  // of a file, and what it is made of
  const auto add = [&](const std::string& file, const std::string& writer) {
    const auto [other, is_new] = writers.emplace(file, writer);
    if (!is_new)
      throw std::runtime_error(other->second + " and " + writer + ": both would write " + file +
                               "; score photos of one name apart");
  };
  for (const std::string& photo : options.photos) {
    const std::string stem = (fs::path(options.out) / fs::path(photo).stem()).string();
    Outputs files{stem + ".npy", options.segmentation ? stem + ".segmentation.npy" : "",
                  options.overlay ? stem + "_overlay" + picture_suffix : ""};
    for (const std::string& file : {files.score, files.segmentation, files.overlay})
      if (!file.empty()) add(file, photo);
    all.push_back(std::move(files));
  }
  if (!options.json.empty()) add(options.json, "--json");

  std::vector<std::string> inputs = options.photos;
  inputs.push_back(options.package);
  if (!options.library.empty()) inputs.push_back(options.library);
  for (const auto& [file, writer] : writers) {
    std::error_code missing;  // a file that is not there yet is none that is read
    if (!fs::exists(file, missing)) continue;
    for (const std::string& input : inputs)
      if (fs::equivalent(file, input, missing))
        throw std::runtime_error(writer + ": would replace " + input + ", which is read; give another --out or --json");
  }
  return all;
}

}  // namespace rwpm::score
