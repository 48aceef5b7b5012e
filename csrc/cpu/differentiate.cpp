#include "cpu/differentiate.h"

#include <algorithm>
#include <cmath>

#include "cpu/anchor.h"
#include "cpu/isa.h"
#include "cpu/pack.h"
#include "cpu/sparse_products.h"
#include "cpu/streamed_graph.h"

namespace rwpm::cpu {
namespace {

// Numbers of a row of P's factors that are held at a time, about: more need more memory, fewer more passes over pairs.
constexpr int64_t factor_depth = 512;

// Products S m_t that are kept at a time. A longer walk keeps a state for each run of as many steps, or of as many as
// there are then runs, and takes the run again when the gradient comes to it.
constexpr int64_t kept_steps = 32;

constexpr double min_norm = 1e-12;  // of an embedding: one that is no longer has no direction, and no gradient

// How the weights r of own_weights follow the sums of the rows.
template <typename T>
struct AnchorSlope {
  Vector<T> own_weight;  // empty without an anchor
  int64_t chosen = -1;   // the row whose log Z is s0 / tau; -1: s0 is given
};

template <typename T>
AnchorSlope<T> anchor_slope(const Problem<T>& p, const Vector<T>& log_sum) {
  AnchorSlope<T> slope{Vector<T>(p.memory)};
  if (!is_anchored(p)) return slope;
  slope.own_weight = own_weights(p, log_sum);
  if (p.anchor_share > 0) {
    // The last of the rows that are anchored, which has half the weight of its own.
    for (int64_t i = 0; i < int64_t(log_sum.size()); ++i)
      if (slope.own_weight[i] >= T(0.5) && (slope.chosen < 0 || log_sum[i] > log_sum[slope.chosen])) slope.chosen = i;
  }
  return slope;
}

// A walk backwards. Values and gradients are in layout(C) of the graph, which offers layout(), add_product() and
// add_pair_gradient() of StreamedGraph or SparseProducts.
template <typename T, typename Graph>
class Backward {
 public:
  Backward(const Problem<T>& p, const Gradients<T>& gradients, const Vector<int64_t>& pixels, Graph& graph,
           const AnchorSlope<T>& anchor, const ParallelFor& parallel_for)
      : p_(p),
        out_(gradients),
        pixels_(pixels),
        graph_(graph),
        anchor_(anchor),
        parallel_for_(parallel_for),
        count_(pixels.size()),
        layout_(graph.layout(p.value_channels)),
        unit_layout_(graph.layout(p.channels + 1)),
        proceed_(layout_.rows, T(0), p.memory),
        restart_(layout_.rows, T(0), p.memory),
        offset_(layout_.rows, T(0), p.memory),
        by_proceed_(layout_.rows, T(0), p.memory),
        run_steps_(steps_of_a_run(p.steps)),
        start_(layout_.size(), p.memory),
        run_starts_(p.memory),
        products_(p.memory) {
    for (int64_t i = 0; i < count_; ++i) {
      const double proceed = p.alpha * (1 - (anchor.own_weight.empty() ? 0. : double(anchor.own_weight[i])));
      proceed_[i] = T(proceed);
      restart_[i] = T(1 - proceed);
    }
  }

  // unit: embeddings of length one, in layout(D + 1). Their last channel is set to 1.
  void run(Buffer<T>& unit) {
    for (int64_t i = 0; i < count_; ++i) unit[unit_layout_.at(i, p_.channels)] = 1;
    walk_again();
    Buffer<T> by_unit(unit_layout_.size(), T(0), p_.memory);
    step_back(unit, by_unit);
    through_length(unit, by_unit);
  }

 private:
  // Calls visit(row, index in the layout) for all values.
  template <typename Visit>
  void for_each_element(const Visit& visit) const {
    parallel_for_(count_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) for_each_channel(i, [&](int64_t, int64_t at) { visit(i, at); });
    });
  }

  // Calls visit(channel, index in the layout) for the channels of a row.
  template <typename Visit>
  void for_each_channel(int64_t row, const Visit& visit) const {
    for (int64_t channel = 0; channel < p_.value_channels; channel += layout_.lanes) {
      const int64_t at = layout_.at(row, channel), n = std::min(layout_.lanes, p_.value_channels - channel);
      for (int64_t k = 0; k < n; ++k) visit(channel + k, at + k);
    }
  }

  static int64_t steps_of_a_run(int64_t steps) {
    return std::min(steps, std::max(kept_steps, int64_t(std::ceil(std::sqrt(double(steps))))));
  }

  // An element of the state after a step of a run: of the products that are there.
  T after(int64_t step, int64_t row, int64_t at) const {
    return proceed_[row] * products_[step][at] + restart_[row] * start_[at];
  }

  // An element of m_t, t in the run whose products are there.
  T state(int64_t t, int64_t row, int64_t at) const {
    const int64_t step = t % run_steps_;
    return step == 0 ? run_starts_[t / run_steps_][at] : after(step - 1, row, at);
  }

  void walk_again() {
    pack_values(p_.values, p_.value_channels, pixels_, layout_, parallel_for_, start_.get());
    const int64_t runs = ceil_div(p_.steps, run_steps_);
    run_starts_.reserve(runs);
    products_.reserve(run_steps_);
    for (int64_t k = 0; k < run_steps_; ++k) products_.emplace_back(layout_.size(), p_.memory);
    for (int64_t run = 0; run < runs; ++run) {
      Buffer<T>& first = run_starts_.emplace_back(layout_.size(), T(0), p_.memory);
      for_each_element(
          [&](int64_t i, int64_t at) { first[at] = run == 0 ? start_[at] : after(run_steps_ - 1, i, at); });
      take_run(run);
    }
  }

  // Makes the products of a run.
  void take_run(int64_t run) {
    Buffer<T> m(layout_.size(), T(0), p_.memory);
    for (int64_t t = run * run_steps_; t < std::min((run + 1) * run_steps_, p_.steps); ++t) {
      for_each_element([&](int64_t i, int64_t at) { m[at] = state(t, i, at); });
      Buffer<T>& product = products_[t % run_steps_];
      std::fill_n(product.get(), layout_.size(), T(0));
      graph_.add_product(p_.value_channels, false, m.get(), product.get());
    }
  }

  void step_back(const Buffer<T>& unit, Buffer<T>& by_unit) {
    const int64_t C = p_.value_channels, steps_at_once = std::clamp(factor_depth / C, int64_t(1), p_.steps);
    constexpr int64_t pad = alignment / sizeof(T);
    const int64_t stride = ceil_div(steps_at_once * C, pad) * pad;
    Buffer<T> gradient(layout_.size(), p_.memory), scaled(layout_.size(), T(0), p_.memory);
    Buffer<T> total(layout_.size(), T(0), p_.memory);
    Buffer<T> left(layout_.rows * stride, T(0), p_.memory), right(layout_.rows * stride, T(0), p_.memory);
    pack_values(out_.of_result, C, pixels_, layout_, parallel_for_, gradient.get());
    for (int64_t t = p_.steps - 1; t >= 0; --t) {
      if ((t + 1) % run_steps_ == 0 && t + 1 < p_.steps) take_run(t / run_steps_);
      const Buffer<T>& products = products_[t % run_steps_];
      const int64_t slot = (p_.steps - 1 - t) % steps_at_once * C;
      parallel_for_(count_, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          T rho = 0, by_proceed = 0;
          for_each_channel(i, [&](int64_t c, int64_t at) {
            const T g = gradient[at], product = products[at];
            total[at] += restart_[i] * g;
            scaled[at] = proceed_[i] * g;
            left[i * stride + slot + c] = scaled[at];
            right[i * stride + slot + c] = state(t, i, at);
            rho += scaled[at] * product;
            by_proceed += g * (product - start_[at]);
          });
          offset_[i] -= rho;
          by_proceed_[i] += by_proceed;
        }
      });
      std::fill_n(gradient.get(), layout_.size(), T(0));
      graph_.add_product(C, true, scaled.get(), gradient.get());
      const int64_t depth = slot + C;
      if (t == 0) {
        if (depth < steps_at_once * C) clear(left, stride, depth);
        add_anchor();
      }
      if (t == 0 || depth == steps_at_once * C)
        graph_.add_pair_gradient(depth, stride, left.get(), right.get(), t == 0 ? offset_.get() : nullptr,
                                 p_.channels + 1, unit.get(), by_unit.get());
    }
    parallel_for_(layout_.size(), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) gradient[k] += total[k];
    });
    unpack_values(gradient.get(), C, pixels_, layout_, parallel_for_, out_.of_values);
  }

  // Of rows that an earlier chunk of steps has filled: products with them vanish.
  void clear(Buffer<T>& rows, int64_t stride, int64_t depth) {
    for (int64_t i = 0; i < layout_.rows; ++i) std::fill_n(rows.get() + i * stride + depth, stride - depth, T(0));
  }

  // dL/d log Z of what the anchor does, to the offsets, and its share of dL/dtau.
  void add_anchor() {
    if (anchor_.own_weight.empty()) return;
    double by_logit = 0;  // dL / d(s0 / tau)
    for (int64_t i = 0; i < count_; ++i) {
      const double r = anchor_.own_weight[i], by_log_sum = double(by_proceed_[i]) * p_.alpha * r * (1 - r);
      offset_[i] += T(by_log_sum);
      by_logit -= by_log_sum;
    }
    if (anchor_.chosen >= 0)
      offset_[anchor_.chosen] += T(by_logit);  // kappa sums to 0
    else
      *out_.of_temperature += by_logit * (1 - p_.anchor) * inverse_temperature() * inverse_temperature();
  }

  double inverse_temperature() const { return exponent_scale(p_.temperature) * std::log(2.); }

  // From unit embeddings to embeddings and temperature.
  void through_length(const Buffer<T>& unit, const Buffer<T>& by_unit) {
    const double scale = inverse_temperature();
    Buffer<double> radial(count_, p_.memory);  // sum of (H + H^T) (cosine - 1)
    parallel_for_(ceil_div(count_, pixel_block), [&](int64_t first, int64_t last) {
      for (int64_t begin = first * pixel_block; begin < std::min(last * pixel_block, count_); begin += pixel_block)
        block_through_length(begin, std::min(begin + pixel_block, count_), unit, by_unit, scale, radial);
    });
    double sum = 0;
    for (int64_t i = 0; i < count_; ++i) sum += radial[i];
    *out_.of_temperature -= scale * scale / 2 * sum;
  }

  void block_through_length(int64_t begin, int64_t end, const Buffer<T>& unit, const Buffer<T>& by_unit, double scale,
                            Buffer<double>& radial) const {
    double peak[pixel_block] = {}, squares[pixel_block] = {};
    const auto embedding = [&](int64_t i, int64_t d) {
      return double(p_.embeddings.data[pixels_[i] * p_.embeddings.row_stride + d * p_.embeddings.column_stride]);
    };
    for (int64_t d = 0; d < p_.channels; ++d)
      for (int64_t i = begin; i < end; ++i) peak[i - begin] = std::max(peak[i - begin], std::abs(embedding(i, d)));
    for (int64_t d = 0; d < p_.channels; ++d)
      for (int64_t i = begin; i < end; ++i) {
        const double x = peak[i - begin] > 0 ? embedding(i, d) / peak[i - begin] : 0;
        squares[i - begin] += x * x;
      }
    for (int64_t i = begin; i < end; ++i) {
      const double length = std::sqrt(squares[i - begin]);  // relative to the peak
      double dot = 0;
      for (int64_t d = 0; d < p_.channels; ++d)
        dot += double(unit[unit_layout_.at(i, d)]) * double(by_unit[unit_layout_.at(i, d)]);
      radial[i] = dot - double(by_unit[unit_layout_.at(i, p_.channels)]);
      T* const out = out_.of_embeddings + pixels_[i] * p_.channels;
      const bool directed = length * peak[i - begin] > min_norm;
      for (int64_t d = 0; d < p_.channels; ++d) {
        const int64_t at = unit_layout_.at(i, d);
        out[d] = directed ? T((double(by_unit[at]) - double(unit[at]) * dot) * scale / length / peak[i - begin]) : T(0);
      }
    }
  }

  const Problem<T>& p_;
  const Gradients<T>& out_;
  const Vector<int64_t>& pixels_;
  Graph& graph_;
  const AnchorSlope<T>& anchor_;
  const ParallelFor& parallel_for_;
  const int64_t count_;
  const ValueLayout layout_, unit_layout_;
  Buffer<T> proceed_, restart_, offset_, by_proceed_;  // [rows]
  const int64_t run_steps_;                            // steps of a run
  Buffer<T> start_;
  Vector<Buffer<T>> run_starts_;  // m_t, t the first step of each run
  Vector<Buffer<T>> products_;    // S m_t of a run
};

}  // namespace

template <typename T>
void differentiate_sparse(const Problem<T>& p, const Gradients<T>& gradients, const Vector<int64_t>& pixels,
                          const Vector<RowGroups>& rows, const float* row_scale, const Vector<T>& log_sum,
                          const ParallelFor& parallel_for) {
  SparseProducts<T> graph(rows, pixels.size(), row_scale, nullptr, parallel_for, p.memory);
  const ValueLayout layout = graph.layout(p.channels + 1);
  Buffer<T> unit(layout.size(), T(0), p.memory);
  {
    const int64_t count = pixels.size(), lanes = pixel_block;
    Buffer<T> panels(ceil_div(count, lanes) * lanes * p.channels, p.memory);
    pack_embeddings(p, pixels, lanes, parallel_for, panels.get());
    unpack_panels(panels.get(), p.channels, lanes, count, layout, parallel_for, unit.get());
  }
  Backward<T, SparseProducts<T>>(p, gradients, pixels, graph, anchor_slope(p, log_sum), parallel_for).run(unit);
}

template <typename T>
void differentiate_streaming(const Problem<T>& p, const Gradients<T>& gradients, const Vector<int64_t>& pixels,
                             const ParallelFor& parallel_for) {
  double unused = 0;
  StreamedGraph<T> graph(p, pixels, parallel_for, unused, unused);
  Buffer<T> unit = graph.unit(p.channels + 1);
  const AnchorSlope<T> anchor = anchor_slope(p, is_anchored(p) ? graph.log_sums() : Vector<T>(p.memory));
  Backward<T, StreamedGraph<T>>(p, gradients, pixels, graph, anchor, parallel_for).run(unit);
}

#define RWPM_INSTANTIATE(T)                                                                                         \
  template void differentiate_sparse(const Problem<T>&, const Gradients<T>&, const Vector<int64_t>&,                \
                                     const Vector<RowGroups>&, const float*, const Vector<T>&, const ParallelFor&); \
  template void differentiate_streaming(const Problem<T>&, const Gradients<T>&, const Vector<int64_t>&,             \
                                        const ParallelFor&);
RWPM_INSTANTIATE(float)
RWPM_INSTANTIATE(double)

}  // namespace rwpm::cpu
