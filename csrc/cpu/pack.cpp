#include "cpu/pack.h"

#include <cmath>

namespace rwpm::cpu {
namespace {

constexpr double shortest = 1e-12;  // norm below which an embedding counts as no direction

// Factors on the cosines beyond which nothing changes: every tie is told from the rest, or every pixel weighs the same.
// Outside them float32 products would overflow, or a removed pair's infinity meet a zero.
constexpr double steepest = 1e30, flattest = 1e-30;

template <typename T>
void clear_non_finite(const Matrix<T>& m, int64_t begin, int64_t end, int64_t columns, char* valid) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t i = begin; i < end; ++i) valid[i] &= std::isfinite(m.data[i * m.row_stride + c * m.column_stride]);
}

// Divides the embeddings of a panel, [D][lanes], by their norms.
template <typename T>
void normalize(T* panel, int64_t channels, int64_t lanes) {
  std::vector<double> largest(lanes), squares(lanes), factor(lanes);
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) largest[i] = std::max(largest[i], std::abs(double(panel[d * lanes + i])));
  // Relative to the largest, so that no square over- or underflows; in two factors, so that no reciprocal does.
  constexpr double up = 0x1p500, smallest = 0x1p-500;
  std::vector<double> first(lanes);
  for (int64_t i = 0; i < lanes; ++i) {
    first[i] = largest[i] < smallest ? up : 1;
    factor[i] = largest[i] > 0 ? 1 / (largest[i] * first[i]) : 0;
  }
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) {
      const double x = double(panel[d * lanes + i]) * first[i] * factor[i];
      squares[i] += x * x;
    }
  for (int64_t i = 0; i < lanes; ++i)
    if (largest[i] > 0) factor[i] /= std::max(std::sqrt(squares[i]), shortest / largest[i]);
  for (int64_t d = 0; d < channels; ++d)
    for (int64_t i = 0; i < lanes; ++i) panel[d * lanes + i] = T(double(panel[d * lanes + i]) * first[i] * factor[i]);
}

}  // namespace

double exponent_scale(double temperature) {
  return std::clamp(std::log2(std::exp(1.)) / temperature, flattest, steepest);
}

template <typename T>
std::vector<int64_t> valid_pixels(const Problem<T>& p, const ParallelFor& parallel_for) {
  std::vector<char> valid(p.pixels);
  parallel_for(ceil_div(p.pixels, pixel_block), [&](int64_t first, int64_t last) {
    for (int64_t begin = first * pixel_block; begin < std::min(last * pixel_block, p.pixels); begin += pixel_block) {
      const int64_t end = std::min(begin + pixel_block, p.pixels);
      for (int64_t i = begin; i < end; ++i) valid[i] = !p.mask || p.mask[i * p.mask_stride];
      clear_non_finite(p.embeddings, begin, end, p.channels, valid.data());
      if (!p.adjoint) clear_non_finite(p.values, begin, end, p.value_channels, valid.data());
    }
  });
  std::vector<int64_t> pixels;
  for (int64_t i = 0; i < p.pixels; ++i)
    if (valid[i]) pixels.push_back(i);
  return pixels;
}

template <typename T>
void pack_embeddings(const Problem<T>& p, const std::vector<int64_t>& pixels, int64_t lanes,
                     const ParallelFor& parallel_for, T* panels) {
  const int64_t count = pixels.size();
  parallel_for(ceil_div(count, lanes), [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      T* const out = panels + panel * p.channels * lanes;
      const int64_t here = std::min(lanes, count - panel * lanes);
      std::fill(out, out + p.channels * lanes, T(0));
      for (int64_t d = 0; d < p.channels; ++d)
        for (int64_t i = 0; i < here; ++i)
          out[d * lanes + i] =
              p.embeddings.data[pixels[panel * lanes + i] * p.embeddings.row_stride + d * p.embeddings.column_stride];
      normalize(out, p.channels, lanes);
    }
  });
}

template std::vector<int64_t> valid_pixels(const Problem<float>&, const ParallelFor&);
template std::vector<int64_t> valid_pixels(const Problem<double>&, const ParallelFor&);
template void pack_embeddings(const Problem<float>&, const std::vector<int64_t>&, int64_t, const ParallelFor&, float*);
template void pack_embeddings(const Problem<double>&, const std::vector<int64_t>&, int64_t, const ParallelFor&,
                              double*);

}  // namespace rwpm::cpu
