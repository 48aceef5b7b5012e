// The memory that walks keep: blocks of any size, in any order, from several threads, that never overlap; and that are
// used again, so that the same requests need no more memory the second time.
#include "workspace.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

using rwpm::Workspace;
using rwpm::tests::expect;

#if defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;  // the sanitizer needs many addresses itself
#else
constexpr bool sanitized = false;
#endif

struct Block {
  unsigned char* at;
  size_t bytes;
  unsigned char mark;
};

// Of all magnitudes up to 4 MiB, most of them small.
size_t random_size(std::mt19937& random) {
  const unsigned bits = random() % 22;
  return random() % (size_t(2) << bits);
}

bool is_intact(const Block& b) {
  for (size_t k = 0; k < b.bytes; k += b.bytes / 64 + 1)
    if (b.at[k] != b.mark) return false;
  return b.bytes == 0 || b.at[b.bytes - 1] == b.mark;
}

void use(Workspace& workspace, unsigned seed, int rounds) {
  std::mt19937 random(seed);
  std::vector<Block> blocks;
  bool aligned = true, intact = true;
  const auto free_one = [&](size_t k) {
    intact = intact && is_intact(blocks[k]);
    workspace.deallocate(blocks[k].at, blocks[k].bytes, 64);
    blocks[k] = blocks.back();
    blocks.pop_back();
  };
  for (int round = 0; round < rounds; ++round) {
    if (blocks.size() > random() % 60) {
      free_one(random() % blocks.size());
      continue;
    }
    const size_t bytes = random_size(random);
    Block b = {static_cast<unsigned char*>(workspace.allocate(bytes, 64)), bytes, (unsigned char)(random())};
    aligned = aligned && reinterpret_cast<size_t>(b.at) % 64 == 0;
    std::memset(b.at, b.mark, b.bytes);
    blocks.push_back(b);
  }
  while (!blocks.empty()) free_one(blocks.size() - 1);
  expect(aligned, "blocks are aligned to 64 bytes");
  expect(intact, "blocks do not overlap, seed " + std::to_string(seed));
}

void test_requests_repeat() {
  Workspace workspace;
  expect(workspace.peak_bytes() == 0, "an empty workspace holds nothing");
  use(workspace, 1, 2000);
  const size_t once = workspace.peak_bytes();
  for (int k = 0; k < 3; ++k) use(workspace, 1, 2000);
  expect(once > 0 && workspace.peak_bytes() == once, "the same requests take the same memory");
  // All of it is one free block again; one that is an eighth larger than the request is found for sure.
  const size_t most = once / 9 * 8;
  workspace.deallocate(workspace.allocate(most, 64), most, 64);
  expect(workspace.peak_bytes() == once, "free blocks are merged");
}

void test_threads() {
  Workspace workspace;
  std::vector<std::thread> threads;
  for (unsigned seed = 2; seed < 5; ++seed) threads.emplace_back([&, seed] { use(workspace, seed, 1000); });
  for (std::thread& thread : threads) thread.join();
}

void test_too_much() {
  Workspace workspace;
  bool refused = false;
  try {
    (void)workspace.allocate(size_t(1) << 50, 64);
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  expect(refused, "more than there are addresses is std::bad_alloc");
  // More than a reservation: the next one is as large as it takes. Its pages are never written to.
  const size_t large = size_t(9) << 30;
  try {
    void* const block = workspace.allocate(large, 64);
    void* const other = workspace.allocate(64, 64);
    workspace.deallocate(other, 64, 64);
    workspace.deallocate(block, large, 64);
  } catch (const std::bad_alloc&) {
    std::printf("9 GiB not tested: the system promises less\n");
  }
}

// A request that fits into the last block, but not for sure into every block of its list.
void test_peak() {
  Workspace workspace;
  const size_t many = 31 << 19, fewer = many - (1 << 18);
  workspace.deallocate(workspace.allocate(many, 64), many, 64);
  const size_t peak = workspace.peak_bytes();
  void* const block = workspace.allocate(fewer, 64);
  expect(peak >= many && workspace.peak_bytes() == peak, "the peak does not fall");
  workspace.deallocate(block, fewer, 64);
}

// Where the addresses of the process are limited, most of them stay free for others.
void test_few_addresses() {
  std::ifstream sizes("/proc/self/statm");
  size_t pages = 0;
  if (!(sizes >> pages)) return;
  rlimit before, few;
  getrlimit(RLIMIT_AS, &before);
  const size_t rest = size_t(1) << 30;
  few = before;
  few.rlim_cur = std::min<rlim_t>(before.rlim_cur, pages * size_t(sysconf(_SC_PAGESIZE)) + rest);
  setrlimit(RLIMIT_AS, &few);
  {
    Workspace workspace;
    void* const small = workspace.allocate(1 << 20, 64);
    void* const of_others = std::malloc(rest / 2);
    expect(of_others != nullptr, "half of the addresses are left for others");
    std::free(of_others);
    const size_t large = rest / 2;
    void* const block = workspace.allocate(large, 64);
    workspace.deallocate(block, large, 64);
    workspace.deallocate(small, 1 << 20, 64);
  }
  setrlimit(RLIMIT_AS, &before);
}

}  // namespace

int main() {
  return rwpm::tests::run([] {
    test_requests_repeat();
    test_threads();
    test_too_much();
    test_peak();
    if (!sanitized) test_few_addresses();
  });
}
