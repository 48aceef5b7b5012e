// The CPU kernels for NumPy arrays, and facts of the build and of the processor. Independent of torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <numeric>
#include <optional>
#include <tuple>

#include "cpu/buffer.h"
#include "cpu/cost.h"
#include "cpu/filter_pass.h"
#include "cpu/isa.h"
#include "cpu/ordered_scores.h"
#include "cpu/pack.h"
#include "cpu/threads.h"
#include "walk.h"

namespace py = pybind11;

namespace {

template <typename T>
rwpm::MatrixView<T> matrix_view(const py::array_t<T>& a) {
  return {a.data(), a.strides(0) / int64_t(sizeof(T)), a.strides(1) / int64_t(sizeof(T))};
}

// embeddings [N, D], values [N, C], mask [N]; shapes and settings are checked by the caller.
template <typename T>
py::array_t<T> walk(const py::array_t<T>& embeddings, const py::array_t<T>& values,
                    const std::optional<py::array_t<bool>>& mask, double alpha, int64_t steps, double temperature,
                    double tolerance, double anchor, double anchor_share, int64_t threads) {
  py::array_t<T> result({values.shape(0), values.shape(1)});
  rwpm::Problem<T> problem = {};
  problem.pixels = embeddings.shape(0);
  problem.channels = embeddings.shape(1);
  problem.value_channels = values.shape(1);
  problem.embeddings = matrix_view(embeddings);
  problem.values = matrix_view(values);
  if (mask) {
    problem.mask = mask->data();
    problem.mask_stride = mask->strides(0);
  }
  problem.alpha = alpha;
  problem.steps = steps;
  problem.temperature = temperature;
  problem.tolerance = tolerance;
  problem.anchor = anchor;
  problem.anchor_share = anchor_share;
  problem.result = result.mutable_data();
  {
    const py::gil_scoped_release release;
    rwpm::walk(problem, rwpm::parallel_for_threads(threads));
  }
  return result;
}

// A filter pass alone over embeddings [N, D]: its seconds, the pairs of pixels that it tested and the ordered pairs
// whose cosine reaches the threshold, as in FilterTiming.
std::tuple<double, int64_t, int64_t> time_filter(const py::array_t<float>& embeddings, float threshold,
                                                 int64_t threads) {
  rwpm::Problem<float> problem = {};
  problem.channels = embeddings.shape(1);
  problem.embeddings = matrix_view(embeddings);
  rwpm::cpu::Vector<int64_t> pixels(embeddings.shape(0));
  std::iota(pixels.begin(), pixels.end(), 0);
  const py::gil_scoped_release release;
  const rwpm::ParallelFor parallel_for = rwpm::parallel_for_threads(threads);
  const int64_t count = pixels.size(), lanes = rwpm::cpu::chosen_isa().sparse->lanes;
  rwpm::cpu::Buffer<float> panels(rwpm::cpu::ceil_div(count, lanes) * lanes * problem.channels, problem.memory);
  rwpm::cpu::pack_embeddings(problem, pixels, lanes, parallel_for, panels.get());
  const rwpm::cpu::FilterTiming timing =
      rwpm::cpu::time_filter(panels.get(), count, problem.channels, threshold, parallel_for);
  return {timing.seconds, timing.pairs_tested, timing.pairs_kept};
}

// Operations per second of a kernel table's `multiply_adds`, two for each multiply-add, on `threads` threads for about
// `seconds`.
double peak(double (*multiply_adds)(int64_t rounds), int64_t threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> rates(threads);
  const py::gil_scoped_release release;
  rwpm::parallel_for_threads(threads)(threads, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      const auto start = Clock::now();
      double count = 0, elapsed = 0;
      do {
        count += multiply_adds(10000);
        elapsed = std::chrono::duration<double>(Clock::now() - start).count();
      } while (elapsed < seconds);
      rates[thread] = 2 * count / elapsed;
    }
  });
  double total = 0;
  for (const double rate : rates) total += rate;
  return total;
}

// Seconds on the machine of the model that a pixel costs, and an ordered pair: streaming, filter, and if it is stored;
// and the share of pairs up to which they are stored.
std::tuple<double, double, double, double, double> walk_costs(int64_t pixels, int64_t channels, int64_t value_channels,
                                                              int64_t steps) {
  const rwpm::cpu::WalkCosts costs = rwpm::cpu::walk_costs(pixels, channels, value_channels, steps);
  return {1e-9 * costs.pixel, 1e-9 * costs.streaming, 1e-9 * costs.filter, 1e-9 * costs.stored_pair,
          costs.max_density()};
}

using Floats = py::array_t<float, py::array::c_style>;
using Counts = py::array_t<int64_t, py::array::c_style>;

// scores [N] without NaN.
Floats sort_scores(const Floats& scores) {
  Floats sorted(scores.size()), spare(scores.size());
  float *into = sorted.mutable_data(), *with = spare.mutable_data();
  {
    const py::gil_scoped_release release;
    rwpm::cpu::sort_scores(scores.data(), scores.size(), into, with);
  }
  return sorted;
}

// scores [N] and thresholds [K] ascending; adds to at_or_above and above, [K].
void count_above(const Floats& scores, const Floats& thresholds, Counts& at_or_above, Counts& above) {
  int64_t *with_equal = at_or_above.mutable_data(), *without = above.mutable_data();
  const py::gil_scoped_release release;
  rwpm::cpu::count_above(scores.data(), scores.size(), thresholds.data(), thresholds.size(), with_equal, without);
}

py::dict build() {
  py::list compiled, available;
  for (const auto& isa : rwpm::cpu::isas()) {
    compiled.append(isa.name);
    if (isa.available()) available.append(isa.name);
  }
  py::dict info;
  info["version"] = RWPM_VERSION;
  info["compiler"] = RWPM_COMPILER;
  info["build_type"] = RWPM_BUILD_TYPE;
  info["torch"] = RWPM_BUILT_FOR_TORCH;
  info["isa_compiled"] = compiled;
  info["isa_available"] = available;
  return info;
}

template <typename T>
void define(py::module_& m, const char* suffix) {
  m.def(("walk_" + std::string(suffix)).c_str(), &walk<T>, py::arg("embeddings"), py::arg("values"), py::arg("mask"),
        py::arg("alpha"), py::arg("steps"), py::arg("temperature"), py::arg("tolerance"), py::arg("anchor"),
        py::arg("anchor_share"), py::arg("threads"));
  m.def(("peak_" + std::string(suffix)).c_str(),
        [](int64_t threads, double seconds) { return peak(rwpm::cpu::kernels<T>().multiply_adds, threads, seconds); },
        py::arg("threads"), py::arg("seconds"));
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  define<float>(m, "float32");
  define<double>(m, "float64");
  m.def("time_filter", &time_filter, py::arg("embeddings"), py::arg("threshold"), py::arg("threads"));
  m.def(
      "peak_filter",
      [](int64_t threads, double seconds) {
        return peak(rwpm::cpu::chosen_isa().sparse->multiply_adds, threads, seconds);
      },
      py::arg("threads"), py::arg("seconds"));
  m.def("filter_format", [] { return rwpm::cpu::chosen_isa().sparse->format; });
  m.def("walk_costs", &walk_costs, py::arg("pixels"), py::arg("channels"), py::arg("value_channels"), py::arg("steps"));
  m.def("sort_scores", &sort_scores, py::arg("scores"));
  m.def("count_above", &count_above, py::arg("scores"), py::arg("thresholds"), py::arg("at_or_above").noconvert(),
        py::arg("above").noconvert());
  m.def("build", &build);
  m.def("chosen_isa", [] { return rwpm::cpu::chosen_isa().name; });
}
