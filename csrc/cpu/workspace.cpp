#include "workspace.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "cpu/buffer.h"

namespace rwpm {
namespace {

constexpr size_t huge_page = size_t(1) << 21;
constexpr size_t reservation = size_t(1) << 33;  // bytes of addresses
constexpr size_t min_step = size_t(1) << 24;     // bytes that become writable at a time
constexpr size_t unit = cpu::alignment;          // sizes of blocks are multiples of it

size_t round_up(size_t x, size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// The number of the list of free blocks of at least `size` bytes and less than that of the next list: 8 lists to a
// power of two.
int list_of(size_t size) {
  const int power = 63 - __builtin_clzll(size);
  return (power - 3) * 8 + int(size >> (power - 3)) - 8;
}

// The first list all of whose blocks have at least `size` bytes.
int first_list(size_t size) {
  const int list = list_of(size);
  const size_t smallest = size_t(8 + list % 8) << (list / 8);
  return smallest < size ? list + 1 : list;
}

void use_huge_pages(void* begin, size_t bytes) {
#if defined(__linux__)
  madvise(begin, bytes, MADV_HUGEPAGE);
#else
  (void)begin, (void)bytes;
#endif
}

class HeapMemory final : public std::pmr::memory_resource {
  void* do_allocate(size_t bytes, size_t alignment) override {
    // An array lives for one walk, of which page faults on small pages would take a tenth.
    const bool huge = bytes >= 2 * huge_page && alignment == unit;
    if (huge) alignment = huge_page;
    const size_t padded = round_up(std::max<size_t>(bytes, 1), alignment);
    void* const block =
        alignment <= alignof(std::max_align_t) ? std::malloc(padded) : std::aligned_alloc(alignment, padded);
    if (!block) throw std::bad_alloc();
    if (huge) use_huge_pages(block, padded);
    return block;
  }
  void do_deallocate(void* block, size_t, size_t) override { std::free(block); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
};

}  // namespace

std::pmr::memory_resource* heap_memory() {
  static HeapMemory heap;
  return &heap;
}

Workspace::~Workspace() {
  for (const Region& region : regions_) munmap(region.begin, region.size);
}

size_t Workspace::peak_bytes() const {
  const std::lock_guard<std::mutex> lock(guard_);
  size_t sum = 0;
  for (const Region& region : regions_) sum += size_t(reinterpret_cast<char*>(region.end) - region.begin);
  return sum;
}

void* Workspace::do_allocate(size_t bytes, size_t alignment) {
  if (bytes > reservation * 4096 || alignment > unit) throw std::bad_alloc();
  const size_t size = round_up(std::max(bytes + sizeof(Header), sizeof(FreeBlock)), unit);
  const std::lock_guard<std::mutex> lock(guard_);
  Header* block = find(size);
  if (!block) block = extend(size);
  if (block->size > size) {
    Header* const rest = reinterpret_cast<Header*>(reinterpret_cast<char*>(block) + size);
    *rest = {block, block->size - size, 0};
    reinterpret_cast<Header*>(reinterpret_cast<char*>(rest) + rest->size)->before = rest;
    block->size = size;
    insert(rest);
  }
  return block + 1;
}

void Workspace::do_deallocate(void* memory, size_t, size_t) {
  const std::lock_guard<std::mutex> lock(guard_);
  Header* block = static_cast<Header*>(memory) - 1;
  const auto next = [&] { return reinterpret_cast<Header*>(reinterpret_cast<char*>(block) + block->size); };
  if (Header* const other = next(); other->free) {
    remove(other);
    block->size += other->size;
  }
  if (Header* const other = block->before; other && other->free) {
    remove(other);
    other->size += block->size;
    block = other;
  }
  next()->before = block;
  insert(block);
}

Workspace::Header* Workspace::find(size_t size) {
  for (int list = first_list(size); list < lists; list = (list / 64 + 1) * 64)
    if (const uint64_t found = filled_[list / 64] >> (list % 64)) {
      Header* const block = first_[list + __builtin_ctzll(found)];
      remove(block);
      return block;
    }
  return nullptr;
}

// The last block if it is free and large enough, which find() may pass over; else a new block behind the last one, or
// the last one, made larger if it is free.
Workspace::Header* Workspace::extend(size_t size) {
  if (!regions_.empty())
    if (Header* const last = regions_.back().end->before; last && last->free && last->size >= size) {
      remove(last);
      return last;
    }
  if (regions_.empty() ||
      reinterpret_cast<char*>(regions_.back().end) + size + unit > regions_.back().begin + regions_.back().size)
    reserve(size);
  Region& region = regions_.back();
  Header* block = region.end;
  if (block->before && block->before->free) block = block->before;
  char* const end = reinterpret_cast<char*>(block) + size;
  const size_t used = size_t(end + sizeof(Header) - region.begin);
  if (used > region.writable) {
    const size_t step = round_up(std::max({used - region.writable, min_step, used / 4}), huge_page);
    const size_t writable = std::min(region.size, region.writable + step);
    if (mprotect(region.begin + region.writable, writable - region.writable, PROT_READ | PROT_WRITE))
      throw std::bad_alloc();
    region.writable = writable;
  }
  if (block != region.end) remove(block);
  block->size = size;
  region.end = reinterpret_cast<Header*>(end);
  *region.end = {block, 0, 0};
  return block;
}

// Addresses beyond what is asked for: as many as any walk is likely to need, or little more than is held where the
// process may not have so many, since the rest of it needs some too.
size_t Workspace::usual_reservation() const {
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY) return reservation;
  size_t held = 0;
  for (const Region& region : regions_) held += region.size;
  return std::max(min_step, round_up(held / 4, huge_page));
}

// Addresses without rights, so that they count for nothing even where the system promises no more than it has.
void Workspace::reserve(size_t size) {
  regions_.reserve(regions_.size() + 1);  // so that nothing throws once the addresses are there
  const size_t needed = round_up(size + 2 * unit, huge_page);
  for (size_t bytes = std::max(usual_reservation(), needed);;
       bytes = std::max(round_up(bytes / 2, huge_page), needed)) {
    void* const begin = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED && bytes == needed) throw std::bad_alloc();
    if (begin == MAP_FAILED) continue;
    if (mprotect(begin, huge_page, PROT_READ | PROT_WRITE)) {
      munmap(begin, bytes);
      throw std::bad_alloc();
    }
    use_huge_pages(begin, bytes);
    // Arrays begin where a header ends, at multiples of the unit.
    Header* const end = static_cast<Header*>(begin) + unit / sizeof(Header) - 1;
    *end = {nullptr, 0, 0};
    regions_.push_back({static_cast<char*>(begin), bytes, huge_page, end});
    return;
  }
}

void Workspace::insert(Header* block) {
  const int list = list_of(block->size);
  FreeBlock* const next = first_[list];
  first_[list] = new (block) FreeBlock{{block->before, block->size, 1}, nullptr, next};
  if (next) next->previous = first_[list];
  filled_[list / 64] |= uint64_t(1) << (list % 64);
}

void Workspace::remove(Header* header) {
  auto* const block = static_cast<FreeBlock*>(header);
  const int list = list_of(block->size);
  if (block->next) block->next->previous = block->previous;
  if (block->previous)
    block->previous->next = block->next;
  else if (!(first_[list] = block->next))
    filled_[list / 64] &= ~(uint64_t(1) << (list % 64));
  block->free = 0;
}

}  // namespace rwpm
