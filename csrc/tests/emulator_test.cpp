// That the emulator refuses what a GPU would fault, hang or go wrong at, and only that.

#include <cstdio>
#include <functional>
#include <string>

#include "check.h"
#include "cuda/wgmma.h"

namespace {

using namespace rwpm::cuda;
using rwpm::tests::expect;

constexpr uint32_t shared_bytes = 8192, barrier = 8000;

alignas(16) uint16_t table[64 * 64];

// Runs a kernel in blocks of 128 threads; what it was refused for, or "".
std::string refused(const std::function<void()>& kernel, unsigned cluster_size = 1, unsigned blocks = 0) {
  try {
    run({{blocks ? blocks : cluster_size, 1, 1}, cluster_size, 128, shared_bytes, 1, true}, [&](char*) { kernel(); });
  } catch (const std::logic_error& e) {
    return e.what();
  }
  return "";
}

void expect_refused(const std::string& why, const std::function<void()>& kernel, unsigned cluster_size = 1,
                    unsigned blocks = 0) {
  const std::string what = refused(kernel, cluster_size, blocks);
  expect(what.find(why) != std::string::npos, "'" + why + "', got '" + what + "'");
}

// The first thread makes a barrier, of which all know then.
void make_barrier(uint32_t arrivals, bool fence = true) {
  if (threadIdx.x == 0) {
    barrier_init(barrier, arrivals);
    if (fence) fence_barriers();
  }
  sync_cluster();
}

// Brings 64 bytes, over what threads may have read, `rounds` times.
void bring(uint32_t to, int rounds, bool fence) {
  make_barrier(1);
  for (int round = 0; round < rounds; ++round) {
    if (threadIdx.x == 0) {
      if (fence) fence_proxies();
      barrier_expect(barrier, 64);
      copy_bytes(to, table, 64, barrier);
    }
    barrier_wait(barrier, uint32_t(round) & 1);
    sync_block();
  }
}

void bring_box(const CUtensorMap& map, uint32_t to, uint16_t blocks = 1) {
  make_barrier(1);
  if (threadIdx.x) return;
  barrier_expect(barrier, uint32_t(map.box_pixels * map.box_channels * 2));
  copy_box_to_all(to, &map, barrier, blocks, 0, 0, 0);
  barrier_wait(barrier, 0);
}

void check_copies() {
  expect(refused([] { bring(0, 3, true); }) == "", "copies in turn");
  expect_refused("no fence between the proxies", [] { bring(0, 1, false); });
  expect_refused("beyond what the block has", [] { bring(shared_bytes - 48, 1, true); });
  expect_refused("over an mbarrier", [] { bring(barrier - 32, 1, true); });

  const CUtensorMap map = {table, 64, 64, 1, 64, 8};
  expect(refused([&] { bring_box(map, 1024); }) == "", "a box");
  expect_refused("not at a whole swizzle", [&] { bring_box(map, 512); });
  expect_refused("that is not in the cluster", [&] { bring_box(map, 1024, 3); });
  for (const CUtensorMap& bad : {CUtensorMap{table + 4, 64, 64, 1, 64, 8},
                                 {table, 60, 64, 1, 64, 8},
                                 {table, 64, 64, 0, 64, 8},
                                 {table, 64, 64, 1, 48, 8},
                                 {table, 64, 64, 1, 64, 257}})
    expect_refused("tensor map", [&] { bring_box(bad, 1024); });
}

void check_barriers() {
  const auto arrive_twice = [](bool fence) {
    make_barrier(256, fence);
    for (uint32_t phase = 0; phase < 2; ++phase) {
      for (uint32_t block = 0; block < 2; ++block) barrier_arrive(barrier, block);
      barrier_wait(barrier, phase);
    }
    sync_cluster();
  };
  expect(refused([&] { arrive_twice(true); }, 2) == "", "a barrier of two blocks");
  // Blocks do not begin together.
  expect_refused(
      "used before it was made",
      [] {
        if (threadIdx.x == 0) barrier_init(barrier, 256);
        sync_block();
        for (uint32_t block = 0; block < 2; ++block) barrier_arrive(barrier, block);
        sync_cluster();
      },
      2);
  expect_refused("not made known", [&] { arrive_twice(false); }, 2);
  expect_refused("no whole clusters", [] {}, 2, 3);
  expect_refused("more arrivals than expected", [] {
    make_barrier(1);
    if (threadIdx.x == 0) barrier_expect(barrier, 16);
    sync_block();
    if (threadIdx.x == 1) barrier_arrive(barrier, 0);
  });
  expect_refused("more bytes than it counts", [] {
    make_barrier(1);
    if (threadIdx.x == 0) barrier_expect(barrier, 1 << 20);
  });
  expect_refused("not to be made so", [] { make_barrier(0); });
  expect_refused("not to be made so", [] {
    make_barrier(1);
    make_barrier(1);
  });
  expect_refused("another phase than the next", [] {
    make_barrier(128);
    barrier_arrive(barrier, 0);
    barrier_wait(barrier, 0);
    barrier_wait(barrier, 0);
  });
  // A waiter that the others do not wait for: two phases are over when it looks.
  expect_refused("two phases on", [] {
    make_barrier(1);
    for (uint32_t phase = 0; phase < 3 && threadIdx.x == 0; ++phase) barrier_arrive(barrier, 0);
    sync_block();
    barrier_wait(barrier, 0);
  });
  expect_refused("every thread waits", [] {
    make_barrier(1);
    barrier_wait(barrier, 0);
  });
}

void multiply(uint32_t start, bool fence, uint64_t bits = uint64_t(1) << 62) {
  float d[8] = {};
  const uint32_t a[4] = {};
  if (fence) fence_products();
  multiply_rows<16>(d, a, start >> 4 | uint64_t(64) << 32 | bits);
  commit_products();
  wait_for_products<0>();
}

void check_products() {
  expect(refused([] { multiply(1024, true); }) == "", "a product");
  expect_refused("no fence since", [] { multiply(1024, false); });
  expect_refused("no fence since", [] {
    multiply(1024, true);
    multiply(1024, false);
  });
  expect_refused("not in the first row of a swizzle", [] { multiply(1024 + 128, true); });
  expect_refused("beyond what the block has", [] { multiply(7168, true); });
  expect_refused("bits that must be zero", [] { multiply(1024, true, 0); });
}

void check_registers() {
  // 128 threads begin with 255 each, of which the first gives and the last takes.
  expect_refused("fewer than it has", [] { take_registers<240>(); });
  expect_refused("every thread waits", [] { take_registers<256>(); });
  expect(refused([] {
           if (threadIdx.x < 32)
             give_registers<240>();
           else if (threadIdx.x >= 96)
             take_registers<256>();
         }) == "",
         "registers that change hands");
}

}  // namespace

int main() {
  check_copies();
  check_barriers();
  check_products();
  check_registers();
  std::printf(rwpm::tests::failures ? "%d failures\n" : "all passed\n", rwpm::tests::failures);
  return rwpm::tests::failures ? 1 : 0;
}
