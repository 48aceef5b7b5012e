#include "cpu/sparse_products.h"

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace rwpm::cpu {
namespace {

// Threads that scatter: by value panels and, where these are fewer, by parts of the rows, each into an array of its
// own. A fixed number, so that sums do not depend on the number of threads.
constexpr int64_t scattering = 8;

}  // namespace

template <typename T>
SparseProducts<T>::SparseProducts(const Vector<RowGroups>& rows, int64_t pixels, const float* row_scale,
                                  const T* row_factor, const ParallelFor& parallel_for, Memory* memory)
    : parallel_for_(parallel_for),
      memory_(memory),
      padded_(ceil_div(pixels, group_rows) * group_rows),
      tasks_(group_ranges(rows, memory)) {
  int64_t codes = 0;
  for (const RowGroups& m : rows) codes += m.group_start[m.groups].code;
  weight_ = Buffer<T>(codes, memory);
  for_each_task([&](const GroupRange& task) {
    for (int64_t g = task.begin; g < task.end; ++g) {
      const int64_t row = (task.rows->first_group + g) * group_rows;
      for_each_entry(*task.rows, g, [&](int64_t, int64_t first_row, int64_t code, int64_t count) {
        for (int64_t k = 0; k < count; ++k) {
          const int64_t i = row + first_row + k;
          const T weight = i < pixels ? T(task.rows->weight(code + k, row_scale[i])) : T(0);
          weight_[task.first_code + code + k] = row_factor && i < pixels ? weight * row_factor[i] : weight;
        }
      });
    }
  });
}

template <typename T>
template <typename Body>
void SparseProducts<T>::for_each_task(const Body& body) const {
  parallel_for_dynamic(tasks_.size(), parallel_for_, [&](const auto& next) {
    for (int64_t k = next(); k < int64_t(tasks_.size()); k = next()) body(tasks_[k]);
  });
}

template <typename T>
ValueLayout SparseProducts<T>::layout(int64_t channels) const {
  const PairKernels<T>& kernels = pair_kernels<T>();
  return {padded_, ceil_div(channels, kernels.vector) * kernels.vector, kernels.lanes};
}

template <typename T>
void SparseProducts<T>::add_product(int64_t channels, bool transposed, const T* from, T* to) const {
  add(transposed ? Way::scatter : Way::gather, channels, from, to);
}

template <typename T>
void SparseProducts<T>::add(Way way, int64_t channels, const T* from, T* to) const {
  const PairKernels<T>& kernels = pair_kernels<T>();
  const ValueLayout l = layout(channels);
  const auto step_of = way == Way::gather ? kernels.gather : way == Way::scatter ? kernels.scatter : kernels.exchange;
  const auto run = [&](const GroupRange& task, int64_t channel, T* panel_to) {
    const RowGroups& m = *task.rows;
    const PairStepArgs<T> args = {m.first_group * group_rows, m.group_start, m.column, weight_.get() + task.first_code,
                                  from + channel * padded_,   panel_to};
    step_of(args, std::min(l.lanes, l.width - channel), task.begin, task.end);
  };
  if (way == Way::gather)
    return for_each_task([&](const GroupRange& task) {
      for (int64_t channel = 0; channel < l.width; channel += l.lanes) run(task, channel, to + channel * padded_);
    });
  const int64_t panels = ceil_div(l.width, l.lanes), count = tasks_.size();
  const int64_t parts = std::clamp(scattering / panels, int64_t(1), std::max<int64_t>(count, 1));
  // The first part adds to `to` itself.
  Buffer<T> others((parts - 1) * l.size(), T(0), memory_);
  parallel_for_dynamic(panels * parts, parallel_for_, [&](const auto& next) {
    for (int64_t k = next(); k < panels * parts; k = next()) {
      const int64_t part = k / panels, channel = k % panels * l.lanes;
      T* const target = (part == 0 ? to : others.get() + (part - 1) * l.size()) + channel * padded_;
      for (int64_t t = count * part / parts; t < count * (part + 1) / parts; ++t) run(tasks_[t], channel, target);
    }
  });
  if (parts == 1) return;
  parallel_for_(l.size(), [&](int64_t begin, int64_t end) {
    for (int64_t part = 0; part < parts - 1; ++part) {
      const T* const other = others.get() + part * l.size();
      for (int64_t k = begin; k < end; ++k) to[k] += other[k];
    }
  });
}

template <typename T>
void SparseProducts<T>::add_pair_gradient(int64_t, int64_t stride, const T* left, const T* right, const T* offset,
                                          int64_t channels, const T* unit, T* to) {
  if (product_.size() == 0) product_ = Buffer<T>(weight_.size(), T(0), memory_);
  for_each_task([&](const GroupRange& task) {
    const RowGroups& m = *task.rows;
    const PairProductArgs<T> args = {m.first_group * group_rows,      m.group_start, m.column, stride, left, right,
                                     product_.get() + task.first_code};
    pair_kernels<T>().multiply(args, task.begin, task.end);
    if (!offset) return;
    for (int64_t g = task.begin; g < task.end; ++g) {
      const int64_t row = (m.first_group + g) * group_rows;
      for_each_entry(m, g, [&](int64_t, int64_t first_row, int64_t code, int64_t count) {
        for (int64_t at = task.first_code + code, k = 0; k < count; ++k, ++at)
          weight_[at] *= product_[at] + offset[row + first_row + k];
      });
    }
  });
  if (!offset) return;
  product_ = Buffer<T>();
  add(Way::exchange, channels, unit, to);
}

template class SparseProducts<float>;
template class SparseProducts<double>;

}  // namespace rwpm::cpu
