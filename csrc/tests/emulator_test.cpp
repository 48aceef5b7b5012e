// Tests that the emulator (tests/emulator) reports what a GPU would fault, hang or go wrong at, and nothing else.
#include <cstdio>
#include <functional>
#include <string>

#include "check.h"
#include "cuda/wgmma.h"

namespace {

using namespace rwpm::cuda;
using rwpm::tests::expect;

constexpr uint32_t shared_bytes = 8192, barrier = 8000;

alignas(16) uint16_t tensor[64 * 64];

// Runs a kernel in blocks of 128 threads. Returns the error that the emulator reports, or "".
std::string error_of(const std::function<void()>& kernel, unsigned cluster_size = 1, unsigned blocks = 0) {
  try {
    run({{blocks ? blocks : cluster_size, 1, 1}, cluster_size, 128, shared_bytes, 1, true}, [&](char*) { kernel(); });
  } catch (const std::logic_error& e) {
    return e.what();
  }
  return "";
}

void expect_error(const std::string& text, const std::function<void()>& kernel, unsigned cluster_size = 1,
                  unsigned blocks = 0) {
  const std::string error = error_of(kernel, cluster_size, blocks);
  expect(error.find(text) != std::string::npos, "'" + text + "', got '" + error + "'");
}

// The first thread initializes a barrier, and all wait until it has.
void init_barrier(uint32_t arrivals, bool fence = true) {
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, arrivals);
    if (fence) fence_mbarrier_init();
  }
  barrier_cluster_arrive_wait();
}

// Copies 64 bytes `rounds` times, each over what threads may have read of the last.
void copy(uint32_t to, int rounds, bool fence) {
  init_barrier(1);
  for (int round = 0; round < rounds; ++round) {
    if (threadIdx.x == 0) {
      if (fence) fence_proxy_async();
      mbarrier_arrive_expect_tx(barrier, 64);
      cp_async_bulk(to, tensor, 64, barrier);
    }
    mbarrier_wait_parity(barrier, uint32_t(round) & 1);
    syncthreads();
  }
}

void copy_box(const CUtensorMap& map, uint32_t to, uint16_t blocks = 1) {
  init_barrier(1);
  if (threadIdx.x) return;
  mbarrier_arrive_expect_tx(barrier, uint32_t(map.box_pixels * map.box_channels * 2));
  cp_async_bulk_tensor_3d_multicast(to, &map, barrier, blocks, 0, 0, 0);
  mbarrier_wait_parity(barrier, 0);
}

void check_copies() {
  expect(error_of([] { copy(0, 3, true); }) == "", "copies in turn");
  expect_error("no fence between the proxies", [] { copy(0, 1, false); });
  expect_error("beyond what the block has", [] { copy(shared_bytes - 48, 1, true); });
  expect_error("over an mbarrier", [] { copy(barrier - 32, 1, true); });

  const CUtensorMap map = {tensor, 64, 64, 1, 64, 8};
  expect(error_of([&] { copy_box(map, 1024); }) == "", "a box");
  expect_error("not at a whole swizzle", [&] { copy_box(map, 512); });
  expect_error("that is not in the cluster", [&] { copy_box(map, 1024, 3); });
  for (const CUtensorMap& bad : {CUtensorMap{tensor + 4, 64, 64, 1, 64, 8},
                                 {tensor, 60, 64, 1, 64, 8},
                                 {tensor, 64, 64, 0, 64, 8},
                                 {tensor, 64, 64, 1, 48, 8},
                                 {tensor, 64, 64, 1, 64, 257}})
    expect_error("tensor map", [&] { copy_box(bad, 1024); });
}

void check_barriers() {
  const auto arrive_twice = [](bool fence) {
    init_barrier(256, fence);
    for (uint32_t phase = 0; phase < 2; ++phase) {
      for (uint32_t block = 0; block < 2; ++block) mbarrier_arrive_cluster(barrier, block);
      mbarrier_wait_parity(barrier, phase);
    }
    barrier_cluster_arrive_wait();
  };
  expect(error_of([&] { arrive_twice(true); }, 2) == "", "a barrier of two blocks");
  // Blocks do not start together.
  expect_error(
      "used before it was initialized",
      [] {
        if (threadIdx.x == 0) mbarrier_init(barrier, 256);
        syncthreads();
        for (uint32_t block = 0; block < 2; ++block) mbarrier_arrive_cluster(barrier, block);
        barrier_cluster_arrive_wait();
      },
      2);
  expect_error("not made visible", [&] { arrive_twice(false); }, 2);
  expect_error("not a whole number of clusters", [] {}, 2, 3);
  expect_error("more arrivals than expected", [] {
    init_barrier(1);
    if (threadIdx.x == 0) mbarrier_arrive_expect_tx(barrier, 16);
    syncthreads();
    if (threadIdx.x == 1) mbarrier_arrive_cluster(barrier, 0);
  });
  expect_error("more bytes than it counts", [] {
    init_barrier(1);
    if (threadIdx.x == 0) mbarrier_arrive_expect_tx(barrier, 1 << 20);
  });
  expect_error("invalid number of arrivals", [] { init_barrier(0); });
  expect_error("initialized twice", [] {
    init_barrier(1);
    init_barrier(1);
  });
  expect_error("another phase than the next", [] {
    init_barrier(128);
    mbarrier_arrive_cluster(barrier, 0);
    mbarrier_wait_parity(barrier, 0);
    mbarrier_wait_parity(barrier, 0);
  });
  // Nobody waits for these threads: two phases are complete when they test the barrier.
  expect_error("two phases completed", [] {
    init_barrier(1);
    for (uint32_t phase = 0; phase < 3 && threadIdx.x == 0; ++phase) mbarrier_arrive_cluster(barrier, 0);
    syncthreads();
    mbarrier_wait_parity(barrier, 0);
  });
  expect_error("every thread waits", [] {
    init_barrier(1);
    mbarrier_wait_parity(barrier, 0);
  });
}

void multiply(uint32_t start, bool fence, uint64_t bits = uint64_t(1) << 62) {
  float d[8] = {};
  const uint32_t a[4] = {};
  if (fence) wgmma_fence();
  wgmma_rs<16>(d, a, start >> 4 | uint64_t(64) << 32 | bits);
  wgmma_commit_group();
  wgmma_wait_group<0>();
}

void check_products() {
  expect(error_of([] { multiply(1024, true); }) == "", "a product");
  expect_error("no fence since", [] { multiply(1024, false); });
  expect_error("no fence since", [] {
    multiply(1024, true);
    multiply(1024, false);
  });
  expect_error("not in the first row of a swizzle", [] { multiply(1024 + 128, true); });
  expect_error("beyond what the block has", [] { multiply(7168, true); });
  expect_error("bits that must be zero", [] { multiply(1024, true, 0); });
}

void check_registers() {
  // 128 threads start with 255 registers each; the first warp releases some, which the last then gets.
  expect_error("fewer than it has", [] { setmaxnreg_inc<240>(); });
  expect_error("every thread waits", [] { setmaxnreg_inc<256>(); });
  expect(error_of([] {
           if (threadIdx.x < 32)
             setmaxnreg_dec<240>();
           else if (threadIdx.x >= 96)
             setmaxnreg_inc<256>();
         }) == "",
         "registers that pass from one warp to another");
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
