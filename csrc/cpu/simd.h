// Vectors and the micro-kernel, for the files that are compiled once per instruction set: RWPM_ISA_NAMESPACE names the
// copy, and the compiler's flags decide the width of a vector. Vector extensions let one source serve SSE2, AVX2,
// AVX-512 and NEON in both precisions. These files must not use templates of the standard library: the linker keeps one
// copy of each for the whole program, possibly the one compiled here, which other machines cannot run.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef RWPM_ISA_NAMESPACE
#error "RWPM_ISA_NAMESPACE must name this copy of the kernels"
#endif

namespace rwpm::cpu::RWPM_ISA_NAMESPACE {
namespace {

// Accumulators of the micro-kernel, `rows` x `columns` vectors: as many as fit the registers together with one row of
// b and one broadcast of a, and enough independent chains to hide the latency of a multiply-add.
#if defined(__AVX512F__)
constexpr int vector_bytes = 64, rows = 8, columns = 3;
#elif defined(__AVX__)
constexpr int vector_bytes = 32, rows = 4, columns = 3;
#else
constexpr int vector_bytes = 16, rows = 4, columns = 2;
#endif

static_assert(columns * vector_bytes % (sizeof(double) * rows) == 0, "a panel must hold whole blocks of rows");

#define RWPM_INLINE inline __attribute__((always_inline))
#define RWPM_INLINE_LAMBDA __attribute__((always_inline))

template <typename T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(vector_bytes)));
  typedef uint32_t Bits __attribute__((vector_size(vector_bytes)));
  static constexpr int mantissa = 23;
  static constexpr float shifter = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  static constexpr float lowest = -100.f;
  // 2^x on [-1/2, 1/2], interpolated at Chebyshev nodes: relative error 2.6e-9
  static constexpr float power[] = {1.f,           0.69314720670f, 0.24022650923f, 0.05550327227f,
                                    0.0096180567f, 0.00134004282f, 0.00015461445f};
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(vector_bytes)));
  typedef uint64_t Bits __attribute__((vector_size(vector_bytes)));
  static constexpr int mantissa = 52;
  static constexpr double shifter = 6755399441055744.;  // 1.5 * 2^52
  static constexpr double lowest = -900.;
  // relative error 4.3e-18 before rounding
  static constexpr double power[] = {1.,
                                     0.69314718055994530925,
                                     0.24022650695910159567,
                                     0.055504108664821627039,
                                     0.0096181291075872566681,
                                     0.0013333558146406470697,
                                     0.00015403530463724354209,
                                     0.000015252733841556772589,
                                     1.3215432535912376166e-6,
                                     1.0178057087733941105e-7,
                                     7.0741942972885210056e-9,
                                     4.455817908336064493e-10};
};

template <typename T>
constexpr int lanes_of = vector_bytes / int(sizeof(T));

template <typename T>
constexpr int panel_of = columns * lanes_of<T>;

template <typename T>
using Vec = typename Simd<T>::Vec;

template <typename T>
RWPM_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const Vec<T>*>(p);
}

template <typename T>
RWPM_INLINE void store(T* p, Vec<T> x) {
  *reinterpret_cast<Vec<T>*>(p) = x;
}

// 2^min(x, 0), and zero below 2^lowest: compared to a row's largest weight, which is 1, such a weight is negligible,
// and its products with values would be subnormal numbers, which processors multiply many times slower.
template <typename T>
RWPM_INLINE Vec<T> exp2_nonpositive(Vec<T> x) {
  using S = Simd<T>;
  using Bits = typename S::Bits;
  x = x < 0 ? x : Vec<T>{};
  const Vec<T> shifted = x + S::shifter;
  const Vec<T> fraction = x - (shifted - S::shifter);
  constexpr int degree = sizeof(S::power) / sizeof(T) - 1;
  Vec<T> p = fraction * S::power[degree] + S::power[degree - 1];
#pragma GCC unroll 16
  for (int k = degree - 2; k >= 0; --k) p = p * fraction + S::power[k];
  const Bits exponent = reinterpret_cast<Bits>(shifted) << S::mantissa;
  p = reinterpret_cast<Vec<T>>(reinterpret_cast<Bits>(p) + exponent);
  return x < S::lowest ? Vec<T>{} : p;
}

// out[m][n] += sum_k a[k][m] * b[k][n] for `rows` m, a_row apart, and n of a panel that is `N` vectors wide.
template <typename T, int N, int a_row = 1>
RWPM_INLINE void multiply(int64_t depth, const T* a, int64_t a_step, const T* b, int64_t b_step,
                          Vec<T> (&out)[rows][N]) {
  constexpr int ahead = 8;  // the operands stream from the L2 cache: prefetching saves a tenth of the time
  for (int64_t k = 0; k < depth; ++k, a += a_step, b += b_step) {
    __builtin_prefetch(a + ahead * a_step);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) __builtin_prefetch(b + ahead * b_step + n * lanes_of<T>);
    Vec<T> row[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) row[n] = load(b + n * lanes_of<T>);
#pragma GCC unroll 16
    for (int m = 0; m < rows; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) out[m][n] += row[n] * a[m * a_row];
    }
  }
}

// Minimum and maximum of each element; as a conditional the compiler would have to respect signed zeros.
RWPM_INLINE Vec<float> fmin(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX__)
  return _mm256_min_ps(a, b);
#elif defined(__SSE__)
  return _mm_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

RWPM_INLINE Vec<float> fmax(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// Sum of the elements, by halves: adding one element after the other would be one long chain of additions.
RWPM_INLINE float horizontal_sum(Vec<float> x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#else
  float parts[lanes_of<float>];
  __builtin_memcpy(parts, &x, sizeof(parts));
  for (int half = lanes_of<float> / 2; half > 0; half /= 2)
    for (int n = 0; n < half; ++n) parts[n] += parts[n + half];
  return parts[0];
#endif
}

// Bit n set where element n of x is at least that of the bound.
RWPM_INLINE uint32_t lanes_at_least(Vec<float> x, Vec<float> bound) {
#if defined(__AVX512F__)
  return uint32_t(_mm512_cmp_ps_mask(x, bound, _CMP_GE_OQ));
#elif defined(__AVX__)
  return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(x, bound, _CMP_GE_OQ)));
#elif defined(__SSE__)
  return uint32_t(_mm_movemask_ps(_mm_cmpge_ps(x, bound)));
#else
  uint32_t bits = 0;
  for (int n = 0; n < lanes_of<float>; ++n) bits |= uint32_t(x[n] >= bound[n]) << n;
  return bits;
#endif
}

// Runs rounds of `add(sum, factor)`, which adds a product of the factor, on independent sums, to measure the throughput
// of the instruction alone. Returns the number of calls.
template <typename Sum, typename Add>
RWPM_INLINE double run_independent_sums(int64_t rounds, const Add& add) {
  // As many as the registers hold: enough to hide the latency, even where multiply and add are two instructions.
  constexpr int sums = vector_bytes == 64 ? 24 : 12;
  Sum sum[sums] = {}, factor = {};
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+m"(factor));  // may have changed: prevents hoisting and folding
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k)
#pragma GCC unroll 24
      for (Sum& s : sum) add(s, factor);
  }
  Sum total = {};
  for (const Sum& s : sum) total += s;
  asm volatile("" : : "m"(total));
  return double(rounds) * 16 * sums;
}

template <typename T>
double multiply_adds(int64_t rounds) {
  const auto add = [](Vec<T>& sum, const Vec<T>& factor) { sum += sum * factor; };
  return run_independent_sums<Vec<T>>(rounds, add) * lanes_of<T>;
}

RWPM_INLINE int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace rwpm::cpu::RWPM_ISA_NAMESPACE
