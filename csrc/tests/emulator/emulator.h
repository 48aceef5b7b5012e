// Runs a kernel's source on the host, one fiber for each GPU thread, so that kernels are tested without a GPU. All
// fibers share one host thread and switch only in yield(), so that no other thread sees a half-made update of a
// counter. What a GPU does asynchronously (copies, warpgroup products) is done late, in a pseudorandom order, so that a
// missing wait shows. A deadlock, in which every thread waits, is an error.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace rwpm::emulator {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

inline void require(bool ok, const char* what) {
  if (!ok) throw std::logic_error(what);
}

// A barrier in shared memory that counts arrivals and bytes of copies.
struct Mbarrier {
  int expected, pending;  // arrivals
  int64_t pending_bytes = 0;
  int64_t phase = 0;

  void complete_phase_if_done() {
    require(std::abs(pending_bytes) < 1 << 20, "mbarrier: more bytes than it counts");
    if (pending || pending_bytes) return;
    pending = expected;
    ++phase;
  }
};

// Threads that synchronize: a warp, a warpgroup, a block, a cluster.
struct SyncGroup {
  int size, arrived = 0, generation = 0;
};

// A wgmma instruction that a thread has issued.
struct Wgmma {
  float* d;
  const uint32_t* a_registers;  // the left operand; null: in shared memory
  uint64_t a, b;                // descriptors
  int columns;
  bool add;
};

struct Block;

struct Thread {
  Block* block;
  int index;  // in the block
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
  const void* operand = nullptr;              // what it passes to the instruction of a warp
  std::vector<std::function<void()>> copies;  // cp.async that are not committed
  std::vector<std::vector<std::function<void()>>> copy_groups;
  std::vector<std::vector<Wgmma>> wgmma_groups{1};  // the last one not committed
  std::map<uint32_t, int64_t> last_phase;           // that it has waited for, by mbarrier
  bool wgmma_fenced = false, proxy_fenced = false;
  int registers = 0;
};

struct Block {
  Index index;
  unsigned rank = 0;
  std::vector<Thread> threads;
  std::unique_ptr<char[]> memory;
  char* shared = nullptr;
  uint32_t shared_bytes = 0;
  int start_delay = 0;  // rounds
  int free_registers = 0;
  bool barriers_visible = true;  // to TMA and to the cluster
  std::vector<SyncGroup> warps, warpgroups;
  SyncGroup all;
  std::map<uint32_t, Mbarrier> barriers;

  bool ended() const {
    for (const Thread& thread : threads)
      if (!thread.done) return false;
    return true;
  }
};

// A bulk copy that is still to be done.
struct PendingCopy {
  int rounds;  // until it is done
  std::function<void()> run;
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  SyncGroup all;
  std::vector<PendingCopy> pending_copies;
  ucontext_t scheduler;
  Thread* current = nullptr;
  int64_t progress = 0;
  uint32_t random_state = 1;
  bool lazy = true;  // cp.async and wgmma run at the wait for them; else cp.async when issued, wgmma when committed

  int random_below(int limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return int((random_state >> 8) % uint32_t(limit));
  }
};

inline Cluster* cluster = nullptr;
inline std::function<void(char*)> kernel;

inline Thread& this_thread() { return *cluster->current; }
inline Block& this_block() { return *this_thread().block; }

inline void yield() { swapcontext(&this_thread().context, &cluster->scheduler); }

template <typename Condition>
void wait_until(const Condition& condition) {
  while (!condition()) yield();
  ++cluster->progress;
}

// Now and then suspends a thread for some rounds, so that others run ahead of it.
inline void random_delay() {
  if (cluster->random_below(16)) return;
  for (int rounds = cluster->random_below(16); rounds > 0; --rounds) {
    ++cluster->progress;
    yield();
  }
}

// Waits for all threads of a group. The last to arrive does `work` for all, which must not yield.
template <typename Work>
void synchronize(SyncGroup& group, const Work& work) {
  const int generation = group.generation;
  if (++group.arrived == group.size) {
    work();
    group.arrived = 0;
    ++group.generation;
    ++cluster->progress;
  } else {
    wait_until([&] { return group.generation != generation; });
  }
}

}  // namespace rwpm::emulator

// The built-in variables of CUDA.
inline rwpm::emulator::Index threadIdx, blockIdx;

namespace rwpm::emulator {

inline std::string failure;

inline void run_thread() {
  for (int rounds = this_block().start_delay; rounds > 0; --rounds) {
    ++cluster->progress;
    yield();
  }
  try {
    kernel(this_block().shared);
  } catch (const std::exception& e) {
    failure = e.what();
  }
  this_thread().done = true;
  ++cluster->progress;
  yield();
}

struct Launch {
  Index grid;
  unsigned cluster_size, threads;
  uint32_t shared_bytes;
  uint32_t seed;
  bool lazy;
};

inline void make_fiber(Thread& thread) {
  constexpr size_t bytes = 96 * 1024;
  thread.stack = std::make_unique<char[]>(bytes);
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.stack.get();
  thread.context.uc_stack.ss_size = bytes;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, run_thread, 0);
}

inline void init(Cluster& state, const Launch& launch, Index first) {
  state.random_state = launch.seed + first.x * 7919u + first.y * 104729u + first.z * 15485863u;
  state.lazy = launch.lazy;
  state.all.size = int(launch.cluster_size * launch.threads);
  for (unsigned rank = 0; rank < launch.cluster_size; ++rank) {
    Block& block = *state.blocks.emplace_back(std::make_unique<Block>());
    block.index = {first.x + rank, first.y, first.z};
    block.rank = rank;
    block.memory = std::make_unique<char[]>(launch.shared_bytes + 1024);
    block.shared = block.memory.get() + (1024 - reinterpret_cast<uintptr_t>(block.memory.get()) % 1024);
    block.shared_bytes = launch.shared_bytes;
    block.start_delay = launch.cluster_size > 1 ? state.random_below(64) : 0;
    std::memset(block.shared, 0x7f, launch.shared_bytes);  // NaN, read as float16
    block.all.size = int(launch.threads);
    block.warps.assign(launch.threads / 32, SyncGroup{32});
    block.warpgroups.assign((launch.threads + 127) / 128, SyncGroup{128});
    block.threads.resize(launch.threads);
    for (unsigned i = 0; i < launch.threads; ++i) {
      Thread& thread = block.threads[i];
      thread.block = &block;
      thread.index = int(i);
      thread.registers = int(std::min(65536 / launch.threads / 8 * 8, 255u));
      make_fiber(thread);
    }
  }
}

inline void run_pending_copies(Cluster& state) {
  auto& copies = state.pending_copies;
  for (size_t i = 0; i < copies.size();) {
    if (copies[i].rounds-- > 0) {
      ++i;
      continue;
    }
    copies[i].run();
    copies.erase(copies.begin() + int64_t(i));
    ++state.progress;
  }
}

inline void run_cluster(const Launch& launch, Index first) {
  Cluster state;
  cluster = &state;
  init(state, launch, first);
  std::vector<Thread*> running;
  for (auto& block : state.blocks)
    for (Thread& thread : block->threads) running.push_back(&thread);
  while (!running.empty()) {
    const int64_t before = state.progress;
    run_pending_copies(state);
    const size_t start = size_t(state.random_below(int(running.size())));
    for (size_t i = 0; i < running.size(); ++i) {
      state.current = running[(i + start) % running.size()];
      threadIdx = {unsigned(state.current->index), 0, 0};
      blockIdx = state.current->block->index;
      swapcontext(&state.scheduler, &state.current->context);
      require(failure.empty(), failure.c_str());
    }
    require(state.progress > before || !state.pending_copies.empty(), "every thread waits");
    running.erase(std::remove_if(running.begin(), running.end(), [](Thread* t) { return t->done; }), running.end());
  }
  require(state.pending_copies.empty(), "a copy arrives after its block has ended");
}

// Runs a kernel: `body` is called by every thread with the shared memory of its block.
inline void run(const Launch& launch, std::function<void(char*)> body) {
  kernel = std::move(body);
  failure.clear();
  require(launch.grid.x % launch.cluster_size == 0, "launch: the grid is not a whole number of clusters");
  Index first;
  for (first.z = 0; first.z < launch.grid.z; ++first.z)
    for (first.y = 0; first.y < launch.grid.y; ++first.y)
      for (first.x = 0; first.x < launch.grid.x; first.x += launch.cluster_size) run_cluster(launch, first);
}

}  // namespace rwpm::emulator
