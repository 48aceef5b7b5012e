// Kernels on the listed pairs of a sparse matrix, with a number for each code of its entries: products with the matrix
// and its transpose, and products of two pixels' vectors for every pair. For gradients and float64.
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

constexpr int64_t ahead = 16;  // entries whose operands are prefetched

template <typename T>
RWPM_INLINE T sum_of_elements(Vec<T> x) {
  constexpr int lanes = lanes_of<T>;
  T parts[lanes];
  __builtin_memcpy(parts, &x, sizeof(parts));
#pragma GCC unroll 8
  for (int half = lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (int n = 0; n < half; ++n) parts[n] += parts[n + half];
  return parts[0];
}

// The part of a group's entries that have codes for its rows [first, first + codes).
struct Run {
  int64_t begin, end, code;
};

// Calls visit(run, first row, codes of an entry) for the three runs of a group; the last two as integral constants.
template <int value>
struct Constant {
  static constexpr int get = value;
};

template <typename Visit>
RWPM_INLINE void for_each_run(const GroupStart* group_start, int64_t g, const Visit& visit) {
  constexpr int half = group_rows / 2;
  const GroupStart& at = group_start[g];
  const int64_t halves = at.code + (at.first_half - at.entry) * group_rows;
  visit(Run{at.entry, at.first_half, at.code}, Constant<0>(), Constant<group_rows>());
  visit(Run{at.first_half, at.second_half, halves}, Constant<0>(), Constant<half>());
  visit(Run{at.second_half, group_start[g + 1].entry, halves + (at.second_half - at.first_half) * half},
        Constant<half>(), Constant<half>());
}

// One value panel of N vectors: what gathers adds the values of a group's columns to its rows, what scatters adds those
// of its rows to its columns.
template <typename T, int N, bool gathers, bool scatters>
void exchange_panel(const PairStepArgs<T>& s, int64_t begin, int64_t end) {
  constexpr int width = N * lanes_of<T>;
  const int64_t last = s.group_start[end].entry - 1;
  for (int64_t g = begin; g < end; ++g) {
    const int64_t row = (s.first_row + g * group_rows) * width;
    Vec<T> sum[group_rows][N] = {}, own[group_rows][N];
    for (int k = 0; k < group_rows; ++k)
      for (int n = 0; n < N; ++n) own[k][n] = load(s.from + row + k * width + n * lanes_of<T>);
    for_each_run(s.group_start, g, [&](const Run& run, auto first, auto codes) RWPM_INLINE_LAMBDA {
      const T* weight = s.weight + run.code;
      for (int64_t e = run.begin; e < run.end; ++e, weight += codes.get) {
        const int64_t next = int64_t(s.column[min(e + ahead, last)]) * width, at = int64_t(s.column[e]) * width;
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          if (gathers) __builtin_prefetch(s.from + next + n * lanes_of<T>);
          if (scatters) __builtin_prefetch(s.to + next + n * lanes_of<T>, 1);
        }
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          if (gathers) {
            const Vec<T> value = load(s.from + at + n * lanes_of<T>);
#pragma GCC unroll 4
            for (int k = 0; k < codes.get; ++k) sum[first.get + k][n] += value * weight[k];
          }
          if (scatters) {
            Vec<T> value = load(s.to + at + n * lanes_of<T>);
#pragma GCC unroll 4
            for (int k = 0; k < codes.get; ++k) value += own[first.get + k][n] * weight[k];
            store(s.to + at + n * lanes_of<T>, value);
          }
        }
      }
    });
    if (gathers)
      for (int k = 0; k < group_rows; ++k)
        for (int n = 0; n < N; ++n) {
          T* const to = s.to + row + k * width + n * lanes_of<T>;
          store(to, load(to) + sum[k][n]);
        }
  }
}

template <typename T, bool gathers, bool scatters>
void exchange(const PairStepArgs<T>& s, int64_t width, int64_t begin, int64_t end) {
  constexpr void (*of_vectors[])(const PairStepArgs<T>&, int64_t, int64_t) = {
      nullptr, exchange_panel<T, 1, gathers, scatters>, exchange_panel<T, 2, gathers, scatters>,
      exchange_panel<T, columns, gathers, scatters>};
  of_vectors[width / lanes_of<T>](s, begin, end);
}

// product[code] += left[row] . right[column]
template <typename T>
void multiply_pairs(const PairProductArgs<T>& s, int64_t begin, int64_t end) {
  constexpr int at_once = vector_bytes == 64 ? 4 : 2;  // entries: their sums and a row's vectors fit the registers
  const int64_t last = s.group_start[end].entry - 1;
  for (int64_t g = begin; g < end; ++g) {
    const T* const rows = s.left + (s.first_row + g * group_rows) * s.depth;
    for_each_run(s.group_start, g, [&](const Run& run, auto first, auto codes) RWPM_INLINE_LAMBDA {
      const T* const left = rows + first.get * s.depth;
      T* product = s.product + run.code;
      const auto multiply = [&](int64_t e, auto entries) RWPM_INLINE_LAMBDA {
        Vec<T> sum[entries.get][codes.get] = {};
        const T* right[entries.get];
        const T* next[entries.get];
        for (int m = 0; m < entries.get; ++m) {
          right[m] = s.right + s.column[e + m] * s.depth;
          next[m] = s.right + s.column[min(e + m + entries.get, last)] * s.depth;
        }
        for (int64_t d = 0; d < s.depth; d += lanes_of<T>) {
          Vec<T> x[codes.get];
#pragma GCC unroll 4
          for (int k = 0; k < codes.get; ++k) x[k] = load(left + k * s.depth + d);
#pragma GCC unroll 4
          for (int m = 0; m < entries.get; ++m) {
            __builtin_prefetch(next[m] + d);
            const Vec<T> y = load(right[m] + d);
#pragma GCC unroll 4
            for (int k = 0; k < codes.get; ++k) sum[m][k] += x[k] * y;
          }
        }
        for (int m = 0; m < entries.get; ++m)
          for (int k = 0; k < codes.get; ++k) *product++ += sum_of_elements<T>(sum[m][k]);
      };
      int64_t e = run.begin;
      for (; e + at_once <= run.end; e += at_once) multiply(e, Constant<at_once>());
      for (; e < run.end; ++e) multiply(e, Constant<1>());
    });
  }
}

template <typename T>
constexpr PairKernels<T> table = {
    panel_of<T>,      lanes_of<T>, exchange<T, true, false>, exchange<T, false, true>, exchange<T, true, true>,
    multiply_pairs<T>};

}  // namespace

extern const PairKernels<float> pairs_float32;
extern const PairKernels<double> pairs_float64;
const PairKernels<float> pairs_float32 = table<float>;
const PairKernels<double> pairs_float64 = table<double>;

}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
