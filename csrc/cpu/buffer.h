// Arrays in the memory of a walk: it may come from a Workspace, which keeps it for the next walk. Whatever holds memory
// for longer than a moment is told where to take it from; std::vector and std::function are for what is made once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <utility>
#include <vector>

#include "cpu/kernels.h"

namespace rwpm::cpu {

using Memory = std::pmr::memory_resource;

// Initialized, and able to grow. Move it only between arrays of one memory: otherwise its elements are copied.
template <typename T>
using Vector = std::pmr::vector<T>;

// Of fixed size, aligned and uninitialized.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(int64_t size, Memory* memory)
      : memory_(memory), size_(size), data_(static_cast<T*>(memory->allocate(bytes(), alignment))) {}
  Buffer(int64_t size, T value, Memory* memory) : Buffer(size, memory) { std::fill_n(data_, size, value); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer() {
    if (data_) memory_->deallocate(data_, bytes(), alignment);
  }

  int64_t size() const { return size_; }
  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  size_t bytes() const { return size_t(size_) * sizeof(T); }
  void swap(Buffer& other) {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
  }

  Memory* memory_ = nullptr;
  int64_t size_ = 0;
  T* data_ = nullptr;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace rwpm::cpu
