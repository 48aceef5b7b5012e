// Memory for vectors: aligned and not initialised.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels.h"

namespace rwpm::cpu {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(static_cast<T*>(std::aligned_alloc(alignment, padded_bytes(size)))) {
    if (!data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static size_t padded_bytes(int64_t size) {
    const size_t bytes = size_t(std::max<int64_t>(size, 1)) * sizeof(T);
    return (bytes + alignment - 1) / alignment * alignment;
  }
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace rwpm::cpu
