// The command line of rwpm-score, and the files that it will write. Knows no torch.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace rwpm::score {

struct Options {
  std::string package;
  std::vector<std::string> photos;
  std::string out;            // folder
  std::string library;        // of the operator; "": looked for
  std::string json;           // file for the latencies; "": none
  int threads = 0;            // 0: as many as torch takes by itself
  int repeat = 1;             // runs of a photo
  bool overlay = true;        // a picture beside every score map
  bool segmentation = false;  // a map of classes beside every score map
  bool help = false;          // only the help is wanted
};

/// A command line that makes no sense; the message names the option, what was wanted and what came.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

extern const char* const help_text;

/// Reads the words after the program's name. Throws UsageError.
Options parse(const std::vector<std::string>& words);

/// The files that one photo's results are written to; "" for one that is not wanted.
struct Outputs {
  std::string score, segmentation, overlay;
};

/// Names the files of every photo: its name without suffix, in the folder --out.
///
/// Throws std::runtime_error, before any work: two photos of one name, a file that is also read, or a file in place
/// of the folder.
std::vector<Outputs> outputs(const Options& options);

}  // namespace rwpm::score
