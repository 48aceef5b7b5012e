// Checks of the arguments of a walk that the bindings share, with the messages of rwpm_fast/ops/settings.py and
// rwpm_fast/ops/validation.py. Independent of torch and of ONNX Runtime.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace rwpm::arguments {

struct ArgumentError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A number that is printed as in Python, as the shortest text that reads back as the same number.
template <typename T>
struct Number {
  T x;
  operator std::string() const {
    char buffer[32];
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), x).ptr);
  }
  friend std::ostream& operator<<(std::ostream& out, const Number& number) { return out << std::string(number); }
};

template <typename T>
Number<T> text(T x) {
  return {x};
}

inline std::string list(const std::vector<int64_t>& sizes) {
  std::ostringstream out;
  for (size_t i = 0; i < sizes.size(); ++i) out << (i ? ", " : "") << sizes[i];
  return out.str();
}

// Throws ArgumentError unless ok. The parts are put together to its message only then.
template <typename... Parts>
void check(bool ok, const Parts&... parts) {
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  throw ArgumentError(message.str());
}

inline void check_graph_settings(double temperature, double tolerance) {
  check(temperature > 0 && std::isfinite(temperature), "temperature: expected a positive finite number, got ",
        text(temperature));
  check(tolerance >= 0 && tolerance < 1, "tolerance: expected a number in [0, 1), got ", text(tolerance));
}

inline void check_walk_settings(double alpha, int64_t steps) {
  check(alpha >= 0 && alpha <= 1, "alpha: expected a number in [0, 1], got ", text(alpha));
  check(steps >= 0, "steps: expected 0 or more transitions, got ", steps);
}

inline void check_anchor(double anchor, double anchor_share) {
  check(!std::isnan(anchor), "anchor: expected a cosine, or -1 for no anchor, got ", text(anchor));
  check(anchor_share >= 0 && anchor_share <= 1, "anchor_share: expected a number in [0, 1], got ", text(anchor_share));
  check(anchor_share == 0 || anchor <= -1, "anchor_share: expected 0 with an anchor, got ", text(anchor_share),
        " and anchor ", text(anchor));
}

// embeddings [N, D] or [B, N, D].
inline void check_embeddings_shape(const std::vector<int64_t>& embeddings) {
  check(embeddings.size() == 2 || embeddings.size() == 3, "embeddings: expected shape [N, D] or [B, N, D], got [",
        list(embeddings), "]");
}

// values [..., N, C] of embeddings [..., N, D].
inline void check_values_shape(const std::vector<int64_t>& values, const std::vector<int64_t>& embeddings) {
  const std::vector<int64_t> pixels(embeddings.begin(), embeddings.end() - 1);
  check(values.size() == embeddings.size() && std::equal(pixels.begin(), pixels.end(), values.begin()),
        "values: expected shape [", list(pixels), ", C] to match embeddings [", list(embeddings), "], got [",
        list(values), "]");
}

// mask [..., N] of embeddings [..., N, D].
inline void check_mask_shape(const std::vector<int64_t>& mask, const std::vector<int64_t>& embeddings) {
  const std::vector<int64_t> pixels(embeddings.begin(), embeddings.end() - 1);
  check(mask == pixels, "mask: expected shape [", list(pixels), "] to match embeddings [", list(embeddings), "], got [",
        list(mask), "]");
}

}  // namespace rwpm::arguments
