// What a run of the program takes: latencies of many calls and memory, as a table and as JSON. Knows no torch.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rwpm::score {

/// Milliseconds since it was made.
class Stopwatch {
 public:
  double milliseconds() const { return std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

/// One stage, in milliseconds. The first call is told apart, since it fills caches and allocates: the percentiles are
/// of the later ones, or of the first where there is no other.
struct Latency {
  double first = 0, median = 0, p95 = 0, p99 = 0, mean = 0;
};

/// milliseconds: one a call, in order; at least one.
Latency latency(const std::vector<double>& milliseconds);

/// What a run of the program measured.
struct Measured {
  std::string package, network, torch;
  int threads = 0;
  double load_ms = 0;                 // of the package and the operator library
  std::optional<int64_t> peak_bytes;  // of memory of the process, where the system tells
  // Milliseconds a photo, a run of the model, and a photo's results. All empty, or none.
  std::vector<double> decode, run, write;
};

/// Most memory that this process has held so far, in bytes (VmHWM of /proc/self/status); none where it is unknown.
std::optional<int64_t> peak_bytes();

/// Table for people: a row a stage, then the frames a second that the runs alone would give.
std::string table(const Measured& measured);

/// The same as JSON, with names that end in the unit; newline at the end.
std::string json(const Measured& measured);

}  // namespace rwpm::score
