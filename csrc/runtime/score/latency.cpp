#include "latency.h"

#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <numeric>

#include "percentile.h"

namespace rwpm::score {

namespace {

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof(text), pattern, arguments);
  va_end(arguments);
  return text;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) < ' ')
      result += format("\\u%04x", c);
    else
      result += c;
  }
  return result + '"';
}

double frames_per_second(const Measured& measured) { return 1000 / latency(measured.run).mean; }

struct Stage {
  const char* name;
  const std::vector<double>& milliseconds;
};

std::vector<Stage> stages(const Measured& measured) {
  return {{"decode", measured.decode}, {"run", measured.run}, {"write", measured.write}};
}

}  // namespace

Latency latency(const std::vector<double>& milliseconds) {
  std::vector<double> later(milliseconds.begin() + (milliseconds.size() > 1), milliseconds.end());
  Latency result;
  result.first = milliseconds.front();
  result.mean = std::accumulate(later.begin(), later.end(), 0.0) / double(later.size());
  result.median = percentile(later, 50);
  result.p95 = percentile(later, 95);
  result.p99 = percentile(later, 99);
  return result;
}

std::optional<int64_t> peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    long long kibibytes;
    if (std::sscanf(line.c_str(), "VmHWM: %lld kB", &kibibytes) == 1) return kibibytes * 1024;
  }
  return std::nullopt;
}

std::string table(const Measured& measured) {
  std::string text = format("%-8s %6s %10s %10s %10s %10s\n", "ms", "calls", "first", "median", "p95", "p99");
  for (const Stage& stage : stages(measured)) {
    const Latency of_stage = latency(stage.milliseconds);
    text += format("%-8s %6zu %10.2f %10.2f %10.2f %10.2f\n", stage.name, stage.milliseconds.size(), of_stage.first,
                   of_stage.median, of_stage.p95, of_stage.p99);
  }
  return text + format("%.1f frames a second (run alone), %d threads, loaded in %.0f ms\n", frames_per_second(measured),
                       measured.threads, measured.load_ms);
}

std::string json(const Measured& measured) {
  std::string text = "{\n  \"package\": " + quoted(measured.package) + ",\n  \"network\": " + quoted(measured.network) +
                     ",\n  \"torch\": " + quoted(measured.torch);
  text += format(",\n  \"threads\": %d,\n  \"load_ms\": %.3f", measured.threads, measured.load_ms);
  if (measured.peak_bytes) text += format(",\n  \"peak_bytes\": %lld", (long long)*measured.peak_bytes);
  for (const Stage& stage : stages(measured)) {
    const Latency of_stage = latency(stage.milliseconds);
    text += format(
        ",\n  \"%s\": {\"calls\": %zu, \"first_ms\": %.3f, \"median_ms\": %.3f, \"p95_ms\": %.3f, \"p99_ms\": %.3f}",
        stage.name, stage.milliseconds.size(), of_stage.first, of_stage.median, of_stage.p95, of_stage.p99);
  }
  return text + format(",\n  \"frames_per_second\": %.3f\n}\n", frames_per_second(measured));
}

}  // namespace rwpm::score
