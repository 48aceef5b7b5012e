// The walk against its definition in plain loops, for the instruction set that RWPM_ISA names. Exit 77: not on this
// machine.
#include "walk.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/threads.h"

namespace {

using rwpm::tests::expect;

template <typename T>
struct Case {
  int64_t pixels, channels, value_channels;
  double alpha = 0.99;
  int64_t steps = 3;
  double temperature = 0.01;
  double anchor = -1, anchor_share = 0;
  bool adjoint = false;
  bool channels_first = false;
  std::vector<T> embeddings, values;
  std::vector<char> mask;

  std::string name() const {
    return std::string(sizeof(T) == 4 ? "float32" : "float64") + " N=" + std::to_string(pixels) +
           " D=" + std::to_string(channels) + " C=" + std::to_string(value_channels) +
           " steps=" + std::to_string(steps) + " tau=" + std::to_string(temperature) + (adjoint ? " adjoint" : "") +
           " anchor=" + std::to_string(anchor) + " share=" + std::to_string(anchor_share) +
           (channels_first ? " channels first" : "");
  }

  // A few directions with noise, so that rows have both near and far pixels.
  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<double> centers(5 * channels);
    for (double& x : centers) x = normal(random);
    embeddings.resize(pixels * channels);
    values.resize(pixels * value_channels);
    for (int64_t i = 0; i < pixels; ++i)
      for (int64_t d = 0; d < channels; ++d)
        embeddings[channels_first ? d * pixels + i : i * channels + d] =
            T(centers[i % 5 * channels + d] + 0.3 * normal(random));
    for (T& v : values) v = T(normal(random));
    mask.assign(pixels, 1);
  }

  rwpm::Problem<T> problem() const {
    rwpm::Problem<T> p = {};
    p.pixels = pixels;
    p.channels = channels;
    p.value_channels = value_channels;
    p.embeddings = channels_first ? rwpm::MatrixView<T>{embeddings.data(), 1, pixels}
                                  : rwpm::MatrixView<T>{embeddings.data(), channels, 1};
    p.values = {values.data(), value_channels, 1};
    p.mask = reinterpret_cast<const bool*>(mask.data());
    p.mask_stride = 1;
    p.alpha = alpha;
    p.steps = steps;
    p.temperature = temperature;
    p.anchor = anchor;
    p.anchor_share = anchor_share;
    p.adjoint = adjoint;
    return p;
  }

  std::vector<T> walk(int64_t threads, std::pmr::memory_resource* memory = rwpm::heap_memory()) const {
    // Filled with NaN to detect elements that are never written.
    std::vector<T> result(values.size(), std::numeric_limits<T>::quiet_NaN());
    rwpm::Problem<T> p = problem();
    p.memory = memory;
    p.result = result.data();
    rwpm::walk(p, rwpm::parallel_for_threads(threads));
    return result;
  }

  struct Gradient {
    std::vector<T> of_embeddings, of_values;
    double of_temperature = 0;
  };

  // Of the sum of the result's elements, each times its weight.
  Gradient differentiate(const std::vector<T>& weights, int64_t threads) const {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    Gradient g = {std::vector<T>(embeddings.size(), nan), std::vector<T>(values.size(), nan)};
    rwpm::differentiate(
        problem(), {{weights.data(), value_channels, 1}, g.of_embeddings.data(), g.of_values.data(), &g.of_temperature},
        rwpm::parallel_for_threads(threads));
    return g;
  }

  T embedding(int64_t i, int64_t d) const { return embeddings[channels_first ? d * pixels + i : i * channels + d]; }

  std::vector<double> definition() const {
    std::vector<int64_t> valid;
    for (int64_t i = 0; i < pixels; ++i) {
      bool ok = mask[i];
      for (int64_t d = 0; d < channels; ++d) ok = ok && std::isfinite(embedding(i, d));
      for (int64_t c = 0; c < value_channels; ++c) ok = ok && std::isfinite(values[i * value_channels + c]);
      if (ok) valid.push_back(i);
    }
    std::vector<double> result(values.begin(), values.end());
    const size_t n = valid.size();
    if (n < 2) return result;
    std::vector<double> q(n * channels), s(n * n), m(n * value_channels), log_sum(n), proceed(n, alpha);
    for (size_t i = 0; i < n; ++i) {
      double squares = 0;
      for (int64_t d = 0; d < channels; ++d) squares += std::pow(double(embedding(valid[i], d)), 2);
      for (int64_t d = 0; d < channels; ++d)
        q[i * channels + d] = embedding(valid[i], d) / std::max(std::sqrt(squares), 1e-12);
    }
    for (size_t i = 0; i < n; ++i) {
      double row_max = -std::numeric_limits<double>::infinity(), sum = 0;
      for (size_t j = 0; j < n; ++j) {
        double dot = 0;
        for (int64_t d = 0; d < channels; ++d) dot += q[i * channels + d] * q[j * channels + d];
        s[i * n + j] = dot / temperature;
        if (j != i) row_max = std::max(row_max, s[i * n + j]);
      }
      for (size_t j = 0; j < n; ++j) sum += s[i * n + j] = j == i ? 0 : std::exp(s[i * n + j] - row_max);
      for (size_t j = 0; j < n; ++j) s[i * n + j] /= sum;
      log_sum[i] = row_max + std::log(sum);
    }
    if (anchor > -1 || anchor_share > 0) {
      std::vector<double> sorted = log_sum;
      std::sort(sorted.begin(), sorted.end());
      const double logit =
          anchor_share > 0 ? sorted[size_t(std::ceil(anchor_share * double(n))) - 1] : anchor / temperature;
      for (size_t i = 0; i < n; ++i) proceed[i] = alpha / (1 + std::exp(logit - log_sum[i]));
    }
    for (size_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < value_channels; ++c) m[i * value_channels + c] = values[valid[i] * value_channels + c];
    const std::vector<double> start = m;
    std::vector<double> sum(m.size());  // of the gradients before each transposed transition
    for (int64_t t = 0; t < steps; ++t) {
      std::vector<double> next(m.size());
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) {
          const double weight = adjoint ? proceed[j] * s[j * n + i] : proceed[i] * s[i * n + j];
          for (int64_t c = 0; c < value_channels; ++c)
            next[i * value_channels + c] += weight * m[j * value_channels + c];
        }
      for (size_t k = 0; k < m.size(); ++k) {
        sum[k] += m[k];
        m[k] = next[k] + (adjoint ? 0 : (1 - proceed[k / size_t(value_channels)]) * start[k]);
      }
    }
    if (adjoint)
      for (size_t k = 0; k < m.size(); ++k) m[k] += (1 - proceed[k / size_t(value_channels)]) * sum[k];
    for (size_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < value_channels; ++c) result[valid[i] * value_channels + c] = m[i * value_channels + c];
    return result;
  }

  void test() const {
    static rwpm::Workspace workspace;  // of all cases, so that memory of one is used by the next
    const std::vector<T> one = walk(1), three = walk(3, &workspace);
    expect(one.empty() || !std::memcmp(one.data(), three.data(), one.size() * sizeof(T)),
           name() + ": same bits on 1 and 3 threads, with and without a workspace");
    const std::vector<double> expected = definition();
    double difference = 0, norm = 0;
    for (size_t k = 0; k < expected.size(); ++k) {
      if (!std::isfinite(expected[k])) {
        expect(!std::isfinite(one[k]), name() + ": a value that is not finite stays");
        continue;
      }
      difference += std::pow(one[k] - expected[k], 2);
      norm += std::pow(expected[k], 2);
    }
    const double error = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
    expect(error <= (sizeof(T) == 4 ? 1e-5 : 1e-12),
           name() + ": relative error " + std::to_string(error * 1e6) + "e-6");
  }
};

template <typename T>
void test_all() {
  unsigned seed = 0;
  const auto run = [&](int64_t pixels, int64_t channels, int64_t value_channels, auto change) {
    Case<T> c;
    c.pixels = pixels;
    c.channels = channels;
    c.value_channels = value_channels;
    change(c);
    c.fill(++seed);
    return c;
  };
  const auto same = [](Case<T>&) {};
  const auto& k = rwpm::cpu::kernels<T>();
  for (const int64_t pixels : {int64_t(0), int64_t(1), int64_t(2), int64_t(3), k.lanes - 1, k.lanes, k.lanes + 1,
                               k.tile - 1, k.tile, k.tile + 1, k.key_tile + 1})
    run(pixels, 24, 5, same).test();
  for (const int64_t channels : {1, 3, 19, 64, 65, 300}) run(70, channels, 4, same).test();
  for (const int64_t value_channels : {0, 1, 16, 17, 33, 100}) run(70, 8, value_channels, same).test();
  for (const double temperature : {1., 0.1, 0.05})
    run(90, 16, 3, [&](Case<T>& c) { c.temperature = temperature; }).test();
  run(150, 16, 7, [](Case<T>& c) { c.adjoint = true; }).test();
  run(150, 16, 7, [](Case<T>& c) { c.channels_first = true; }).test();
  for (const double alpha : {0., 0.5, 1.}) run(60, 16, 3, [&](Case<T>& c) { c.alpha = alpha; }).test();
  for (const int64_t steps : {0, 1, 2, 40}) run(60, 16, 3, [&](Case<T>& c) { c.steps = steps; }).test();
  for (const bool adjoint : {false, true}) {
    for (const double anchor : {-1., 0., 0.9, 2.})
      run(150, 16, 7, [&](Case<T>& c) { c.anchor = anchor, c.adjoint = adjoint; }).test();
    for (const double share : {0.01, 0.5, 1.})
      run(150, 16, 7, [&](Case<T>& c) { c.anchor_share = share, c.adjoint = adjoint; }).test();
  }

  Case<T> broken = run(100, 12, 3, same);
  broken.embeddings[5 * 12] = std::numeric_limits<T>::quiet_NaN();
  broken.values[40 * 3 + 1] = std::numeric_limits<T>::infinity();
  for (int64_t i = 60; i < 80; ++i) broken.mask[i] = 0;
  broken.test();
}

// The slope of a walk's weighted sum along a direction of all its inputs, by its gradient and by central differences.
void test_gradient(Case<double> c) {
  c.fill(7);
  std::mt19937 random(8);
  std::normal_distribution<double> normal;
  const auto vector = [&](size_t size) {
    std::vector<double> x(size);
    for (double& xi : x) xi = normal(random);
    return x;
  };
  const std::vector<double> weights = vector(c.values.size()), along_embeddings = vector(c.embeddings.size()),
                            along_values = vector(c.values.size());
  const double along_temperature = c.temperature;
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
    return sum;
  };
  const auto at = [&](double way) {
    Case<double> moved = c;
    for (size_t k = 0; k < moved.embeddings.size(); ++k) moved.embeddings[k] += way * along_embeddings[k];
    for (size_t k = 0; k < moved.values.size(); ++k) moved.values[k] += way * along_values[k];
    moved.temperature += way * along_temperature;
    return dot(weights, moved.walk(1));
  };
  constexpr double h = 1e-5;
  const double slope = (at(h) - at(-h)) / (2 * h);
  const Case<double>::Gradient g = c.differentiate(weights, 2);
  std::vector<double> along_rows(along_embeddings);  // as the gradient's, row by row
  if (c.channels_first)
    for (int64_t i = 0; i < c.pixels; ++i)
      for (int64_t d = 0; d < c.channels; ++d) along_rows[i * c.channels + d] = along_embeddings[d * c.pixels + i];
  const double got =
      dot(g.of_embeddings, along_rows) + dot(g.of_values, along_values) + g.of_temperature * along_temperature;
  expect(std::abs(got - slope) <= 1e-5 * std::max(1., std::abs(slope)),
         c.name() + ": expected the slope " + std::to_string(slope) + ", got " + std::to_string(got));
  const Case<double>::Gradient other = c.differentiate(weights, 3);
  expect(other.of_embeddings == g.of_embeddings && other.of_values == g.of_values &&
             other.of_temperature == g.of_temperature,
         c.name() + ": the same gradient at any number of threads");
}

void test_gradients() {
  for (const int64_t pixels : {2, 3, 24, 25, 97, 200})
    for (const int64_t steps : {1, 4})
      for (const double share : {0., 0.3}) {
        Case<double> c = {};
        c.pixels = pixels;
        c.channels = 12;
        c.value_channels = 5;
        c.steps = steps;
        c.temperature = 0.3;
        c.anchor_share = share;
        c.channels_first = pixels == 97;
        test_gradient(c);
      }
  Case<double> lasting = {};
  lasting.pixels = 40;
  lasting.channels = 12;
  lasting.value_channels = 30;
  lasting.temperature = 0.3;
  for (const int64_t steps : {32, 33, 64, 65, 1100}) {  // of one run, of several, of runs of more steps
    lasting.steps = steps;
    test_gradient(lasting);
  }
  Case<double> anchored = {};
  anchored.pixels = 60;
  anchored.channels = 12;
  anchored.value_channels = 300;  // more than are multiplied at a time
  anchored.temperature = 0.3;
  anchored.anchor = 0.6;
  test_gradient(anchored);
}

}  // namespace

int main() {
  return rwpm::tests::run([] {
    test_all<float>();
    test_all<double>();
    test_gradients();
  });
}
