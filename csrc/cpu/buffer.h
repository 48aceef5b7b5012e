// Memory for vectors: aligned and uninitialized.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "cpu/kernels.h"

namespace rwpm::cpu {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) {
    const size_t bytes = size_t(size) * sizeof(T), unit = bytes < 2 * huge_page ? alignment : huge_page;
    const size_t padded = std::max(bytes + unit - 1, unit) / unit * unit;
    data_.reset(static_cast<T*>(std::aligned_alloc(unit, padded)));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    // A buffer lives for one walk, of which page faults on small pages would take a tenth.
    if (unit == huge_page) madvise(data_.get(), padded, MADV_HUGEPAGE);
#endif
  }
  T* get() { return data_.get(); }
  const T* get() const { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t huge_page = size_t(1) << 21;
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace rwpm::cpu
