#include "cpu/streamed_graph.h"

#include <algorithm>
#include <cmath>

#include "cpu/cost.h"
#include "cpu/isa.h"
#include "cpu/stopwatch.h"

namespace rwpm::cpu {

template <typename T>
StreamedGraph<T>::StreamedGraph(const Problem<T>& p, const Vector<int64_t>& pixels, const ParallelFor& parallel_for,
                                double& pack_seconds, double& build_seconds)
    : kernels_(kernels<T>()),
      parallel_for_(parallel_for),
      memory_(p.memory),
      pixels_(pixels.size()),
      rows_(ceil_div(pixels_, kernels_.lanes) * kernels_.lanes),
      channels_(p.channels),
      panels_(rows_ * channels_, memory_),
      row_max_(rows_, memory_),
      inv_row_sum_(rows_, memory_),
      graph_{pixels_, channels_, T(exponent_scale(p.temperature)), panels_.get(), row_max_.get(), inv_row_sum_.get()},
      schedule_(ceil_div(pixels_, kernels_.block)),
      pair_size_(kernels_.block * kernels_.block),
      cached_pairs_(p.steps < 2 ? 0 : std::min(schedule_.count(), max_cache_bytes / int64_t(pair_size_ * sizeof(T)))),
      cosines_(cached_pairs_ * pair_size_, memory_) {
  Stopwatch watch;
  pack_embeddings(p, pixels, kernels_.lanes, parallel_for, panels_.get());
  pack_seconds += watch.lap();
  parallel_for(ceil_div(pixels_, kernels_.tile), [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(kernels_.tile * kernels_.key_tile, memory_);
    for (int64_t tile = begin; tile < end; ++tile) kernels_.normalize(graph_, tile, scratch.get());
  });
  build_seconds += watch.lap();
}

template <typename T>
ValueLayout StreamedGraph<T>::layout(int64_t channels) const {
  return {rows_, ceil_div(channels, kernels_.vector) * kernels_.vector, kernels_.lanes};
}

template <typename T>
Vector<T> StreamedGraph<T>::log_sums() const {
  Vector<T> log_sum(pixels_, memory_);
  for (int64_t i = 0; i < pixels_; ++i) log_sum[i] = row_max_[i] * graph_.scale - std::log2(inv_row_sum_[i]);
  return log_sum;
}

template <typename T>
void StreamedGraph<T>::shrink_rows(const Vector<T>& weight) {
  for (size_t i = 0; i < weight.size(); ++i) inv_row_sum_[i] *= 1 - weight[i];
}

template <typename T>
template <typename Body>
void StreamedGraph<T>::for_each_pair(int64_t scratch_size, const Body& body) {
  const auto make_body = [&] {
    return [&, scratch = Buffer<T>(scratch_size, memory_)](int64_t pair, int64_t block, int64_t other) mutable {
      body(block, other, pair < cached_pairs_ ? &cosines_[pair * pair_size_] : nullptr, scratch.get());
    };
  };
  schedule_.for_each_pair(parallel_for_, make_body, {}, memory_);
}

template <typename T>
void StreamedGraph<T>::add_product(int64_t channels, bool transposed, const T* from, T* to, T alpha) {
  const StepArgs<T> args = {layout(channels).width, alpha, transposed, from, to};
  for_each_pair(2 * pair_size_, [&](int64_t block, int64_t other, T* cosines, T* scratch) {
    kernels_.step(graph_, args, block, other, !cosines_known_, cosines, scratch);
  });
  cosines_known_ = true;
}

template <typename T>
Buffer<T> StreamedGraph<T>::unit(int64_t channels) const {
  const ValueLayout l = layout(channels);
  Buffer<T> unit(l.size(), T(0), memory_);
  unpack_panels(panels_.get(), channels_, kernels_.lanes, pixels_, l, parallel_for_, unit.get());
  return unit;
}

template <typename T>
void StreamedGraph<T>::add_pair_gradient(int64_t depth, int64_t stride, const T* left, const T* right, const T* offset,
                                         int64_t channels, const T* unit, T* to) {
  const int64_t lanes = kernels_.lanes;
  Buffer<T> left_panels(rows_ * depth, memory_), right_panels(rows_ * depth, memory_);
  parallel_for_(rows_ / lanes, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      for (int64_t i = 0; i < lanes; ++i)
        for (int64_t d = 0; d < depth; ++d) {
          const int64_t from = (panel * lanes + i) * stride + d, at = (panel * depth + d) * lanes + i;
          left_panels[at] = left[from];
          right_panels[at] = right[from];
        }
  });
  const PairGradientArgs<T> args = {depth, left_panels.get(), right_panels.get(), offset, layout(channels).width, unit,
                                    to};
  for_each_pair(3 * pair_size_, [&](int64_t block, int64_t other, T* cosines, T* scratch) {
    kernels_.add_pair_gradient(graph_, args, block, other, cosines_known_ ? cosines : nullptr, scratch);
  });
}

template class StreamedGraph<float>;
template class StreamedGraph<double>;

}  // namespace rwpm::cpu
