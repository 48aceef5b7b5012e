// Memory that walks take and give back, kept for the next one: after the first frame of a size, walks of frames of that
// size or a smaller one ask the system for none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <vector>

namespace rwpm {

// A heap of its own, with lists of free blocks by size, which are split and merged with their neighbors. Thread-safe:
// walks may share one. Arrays are aligned to 64 bytes.
//
// How much a sparse walk needs depends on the photo: the pairs that it keeps. So the heap lies in a reservation of
// 8 GiB of addresses, which costs no memory: the system provides a page when it is first written to. A later frame that
// keeps more pairs than all before writes to more pages, but allocates nothing. Rights to the pages are asked for in
// large steps, of a quarter of what is in use and at least 16 MiB, so that later frames seldom ask. Only walks that
// need more than the 8 GiB reserve again. Where the addresses of the process are limited (RLIMIT_AS), it reserves in
// such steps too, and a later frame may need another.
class Workspace final : public std::pmr::memory_resource {
 public:
  Workspace() = default;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() override;  // unmaps; nothing may be in use

  // Bytes that were in use at most, with the gaps between them: about the memory that it holds.
  size_t peak_bytes() const;

 private:
  // What precedes every block. The next block begins `size` bytes later; after the last one is a header of size 0.
  struct Header {
    Header* before;
    size_t size : 63;  // bytes, with this header
    size_t free : 1;
  };
  struct FreeBlock : Header {
    FreeBlock *previous, *next;  // of its list
  };
  struct Region {
    char* begin;
    size_t size, writable;  // bytes
    Header* end;            // the header of size 0
  };
  static constexpr int lists = 512;

  void* do_allocate(size_t bytes, size_t alignment) override;
  void do_deallocate(void* block, size_t bytes, size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  Header* find(size_t size);  // a block from the lists, or nullptr
  Header* extend(size_t size);
  size_t usual_reservation() const;
  void reserve(size_t size);
  void insert(Header* block);
  void remove(Header* block);

  mutable std::mutex guard_;
  FreeBlock* first_[lists] = {};
  uint64_t filled_[lists / 64] = {};  // a bit for every list that is not empty
  std::vector<Region> regions_;       // the last one grows
};

// What walks use without a workspace: nothing is kept.
std::pmr::memory_resource* heap_memory();

}  // namespace rwpm
