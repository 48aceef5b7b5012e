#include "cpu/pack.h"

#include <cmath>
#include <limits>

namespace rwpm::cpu {
namespace {

constexpr double min_norm = 1e-12;  // of an embedding, as in walk.h

// Limits of the factor on cosines beyond which results no longer change: only ties of the largest cosine have weight,
// or all pixels weigh the same. Beyond them float32 products would overflow, or the -inf of a removed pair would be
// multiplied by zero.
constexpr double max_scale = 1e30, min_scale = 1e-30;

// Clears valid[i] for rows [begin, end) with a number that is not finite, along memory, so that compilers vectorize it.
template <typename T>
void clear_non_finite(const MatrixView<T>& m, int64_t begin, int64_t end, int64_t columns, char* valid) {
  constexpr T max = std::numeric_limits<T>::max();
  const auto is_finite = [](T x) { return char(std::abs(x) <= max); };
  if (m.column_stride == 1) {
    for (int64_t i = begin; i < end; ++i) {
      const T* const row = m.data + i * m.row_stride;
      char all = 1;
      for (int64_t c = 0; c < columns; ++c) all &= is_finite(row[c]);
      valid[i] &= all;
    }
  } else if (m.row_stride == 1) {
    for (int64_t c = 0; c < columns; ++c) {
      const T* const column = m.data + c * m.column_stride;
      for (int64_t i = begin; i < end; ++i) valid[i] &= is_finite(column[i]);
    }
  } else {
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t i = begin; i < end; ++i) valid[i] &= is_finite(m.data[i * m.row_stride + c * m.column_stride]);
  }
}

// Divides the embeddings of a panel, [D][lanes], by their norms. scratch: [4][lanes].
template <typename T>
void normalize(T* panel, int64_t channels, int64_t lanes, double* scratch) {
  double *const max_abs = scratch, *const squares = max_abs + lanes, *const factor = squares + lanes,
                *const prescale = factor + lanes;
  std::fill_n(max_abs, 2 * lanes, 0.);
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) max_abs[i] = std::max(max_abs[i], std::abs(double(panel[d * lanes + i])));
  // Relative to the largest, so that no square overflows or underflows; by two factors, so that no reciprocal does.
  constexpr double upscale = 0x1p500, tiny = 0x1p-500;
  for (int64_t i = 0; i < lanes; ++i) {
    prescale[i] = max_abs[i] < tiny ? upscale : 1;
    factor[i] = max_abs[i] > 0 ? 1 / (max_abs[i] * prescale[i]) : 0;
  }
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) {
      const double x = double(panel[d * lanes + i]) * prescale[i] * factor[i];
      squares[i] += x * x;
    }
  for (int64_t i = 0; i < lanes; ++i)
    if (max_abs[i] > 0) factor[i] /= std::max(std::sqrt(squares[i]), min_norm / max_abs[i]);
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i)
      panel[d * lanes + i] = T(double(panel[d * lanes + i]) * prescale[i] * factor[i]);
}

}  // namespace

double exponent_scale(double temperature) {
  return std::clamp(std::log2(std::exp(1.)) / temperature, min_scale, max_scale);
}

template <typename T>
Vector<int64_t> valid_pixels(const Problem<T>& p, const ParallelFor& parallel_for) {
  Vector<char> valid(p.pixels, p.memory);
  parallel_for(ceil_div(p.pixels, pixel_block), [&](int64_t first, int64_t last) {
    for (int64_t begin = first * pixel_block; begin < std::min(last * pixel_block, p.pixels); begin += pixel_block) {
      const int64_t end = std::min(begin + pixel_block, p.pixels);
      for (int64_t i = begin; i < end; ++i) valid[i] = !p.mask || p.mask[i * p.mask_stride];
      clear_non_finite(p.embeddings, begin, end, p.channels, valid.data());
      if (!p.adjoint) clear_non_finite(p.values, begin, end, p.value_channels, valid.data());
    }
  });
  Vector<int64_t> pixels(p.memory);
  pixels.reserve(p.pixels);
  for (int64_t i = 0; i < p.pixels; ++i)
    if (valid[i]) pixels.push_back(i);
  return pixels;
}

template <typename T>
void pack_embeddings(const Problem<T>& p, const Vector<int64_t>& pixels, int64_t lanes, const ParallelFor& parallel_for,
                     T* panels) {
  const int64_t count = pixels.size();
  parallel_for(ceil_div(count, lanes), [&](int64_t first, int64_t last) {
    Buffer<double> scratch(4 * lanes, p.memory);
    for (int64_t panel = first; panel < last; ++panel) {
      T* const out = panels + panel * p.channels * lanes;
      const int64_t here = std::min(lanes, count - panel * lanes);
      std::fill(out, out + p.channels * lanes, T(0));
      for (int64_t d = 0; d < p.channels; ++d)
        for (int64_t i = 0; i < here; ++i)
          out[d * lanes + i] =
              p.embeddings.data[pixels[panel * lanes + i] * p.embeddings.row_stride + d * p.embeddings.column_stride];
      normalize(out, p.channels, lanes, scratch.get());
    }
  });
}

template Vector<int64_t> valid_pixels(const Problem<float>&, const ParallelFor&);
template Vector<int64_t> valid_pixels(const Problem<double>&, const ParallelFor&);
template void pack_embeddings(const Problem<float>&, const Vector<int64_t>&, int64_t, const ParallelFor&, float*);
template void pack_embeddings(const Problem<double>&, const Vector<int64_t>&, int64_t, const ParallelFor&, double*);

}  // namespace rwpm::cpu
