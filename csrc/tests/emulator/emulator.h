// Runs a kernel's source on the host: a fiber per thread, thread by thread, so that a kernel is checked where there is
// no GPU. What runs beside the threads on a GPU (copies, warpgroup products) is done late, in an order that chance
// picks, so that a missing wait shows; threads that all wait for ever are told.
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

struct Barrier {
  int expected, pending;
  int64_t bytes = 0;
  int64_t phase = 0;

  void settle() {
    require(std::abs(bytes) < 1 << 20, "mbarrier: more bytes than it counts");
    if (pending || bytes) return;
    pending = expected;
    ++phase;
  }
};

// Threads that meet: a warp, a warpgroup, a block, a cluster.
struct Meeting {
  int size, there = 0, generation = 0;
};

// A product that a warpgroup has been asked for, as a thread holds it.
struct GroupProduct {
  float* d;
  const uint32_t* registers;  // the left operand's, or null
  uint64_t a, b;              // descriptors
  int columns;
  bool add;
};

struct Block;

struct Thread {
  Block* block;
  int number;  // in the block
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
  const void* operand = nullptr;  // what it brings to a meeting
  std::vector<std::function<void()>> open;
  std::vector<std::vector<std::function<void()>>> groups;
  std::vector<std::vector<GroupProduct>> products{1};  // by groups, the last one open
  std::map<uint32_t, int64_t> waited;                  // by barriers, the last phase it has waited for
  bool products_fenced = false, proxies_fenced = false;
  int registers = 0;
};

struct Block {
  Index index;
  unsigned rank = 0;
  std::vector<Thread> threads;
  std::unique_ptr<char[]> memory;
  char* shared = nullptr;
  uint32_t shared_bytes = 0;
  int late = 0;  // rounds that the others of its cluster are ahead
  int free_registers = 0;
  bool barriers_known = true;  // to the copy engine and to the cluster
  std::vector<Meeting> warps, warpgroups;
  Meeting all;
  std::map<uint32_t, Barrier> barriers;

  bool ended() const {
    for (const Thread& thread : threads)
      if (!thread.done) return false;
    return true;
  }
};

struct Late {
  int rounds;
  std::function<void()> run;
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  Meeting all;
  std::vector<Late> late;
  ucontext_t scheduler;
  Thread* current = nullptr;
  int64_t progress = 0;
  uint32_t chance = 1;
  bool lazy = true;  // what threads have asked for is done as late as may be, or at once

  int pick(int below) {
    chance = chance * 1664525u + 1013904223u;
    return int((chance >> 8) % uint32_t(below));
  }
};

inline Cluster* cluster = nullptr;
inline std::function<void(char*)> kernel;

inline Thread& self() { return *cluster->current; }
inline Block& block() { return *self().block; }

inline void yield() {
  Thread& me = self();
  swapcontext(&me.context, &cluster->scheduler);
}

template <typename Condition>
void wait_until(const Condition& condition) {
  while (!condition()) yield();
  ++cluster->progress;
}

// Now and then a thread loses its turn for a while, so that others run ahead of it.
inline void stall() {
  if (cluster->pick(16)) return;
  for (int rounds = cluster->pick(16); rounds > 0; --rounds) {
    ++cluster->progress;
    yield();
  }
}

// The last of the threads to come does `work` for all.
template <typename Work>
void meet(Meeting& meeting, const Work& work) {
  const int generation = meeting.generation;
  if (++meeting.there == meeting.size) {
    work();
    meeting.there = 0;
    ++meeting.generation;
    ++cluster->progress;
  } else {
    wait_until([&] { return meeting.generation != generation; });
  }
}

}  // namespace rwpm::emulator

// As CUDA names them.
inline rwpm::emulator::Index threadIdx, blockIdx;

namespace rwpm::emulator {

inline std::string failure;

inline void enter() {
  for (int rounds = block().late; rounds > 0; --rounds) {
    ++cluster->progress;
    yield();
  }
  try {
    kernel(block().shared);
  } catch (const std::exception& e) {
    failure = e.what();
  }
  self().done = true;
  ++cluster->progress;
  yield();
}

struct Launch {
  Index grid;
  unsigned cluster_size, threads;
  uint32_t shared_bytes;
  uint32_t chance;
  bool lazy;
};

inline void make_fiber(Thread& thread) {
  constexpr size_t bytes = 96 * 1024;
  thread.stack = std::make_unique<char[]>(bytes);
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.stack.get();
  thread.context.uc_stack.ss_size = bytes;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, enter, 0);
}

inline void set_up(Cluster& here, const Launch& launch, Index first) {
  here.chance = launch.chance + first.x * 7919u + first.y * 104729u + first.z * 15485863u;
  here.lazy = launch.lazy;
  here.all.size = int(launch.cluster_size * launch.threads);
  for (unsigned rank = 0; rank < launch.cluster_size; ++rank) {
    Block& block = *here.blocks.emplace_back(std::make_unique<Block>());
    block.index = {first.x + rank, first.y, first.z};
    block.rank = rank;
    block.memory = std::make_unique<char[]>(launch.shared_bytes + 1024);
    block.shared = block.memory.get() + (1024 - reinterpret_cast<uintptr_t>(block.memory.get()) % 1024);
    block.shared_bytes = launch.shared_bytes;
    block.late = launch.cluster_size > 1 ? here.pick(64) : 0;
    std::memset(block.shared, 0x7f, launch.shared_bytes);  // no numbers, read as float16
    block.all.size = int(launch.threads);
    block.warps.assign(launch.threads / 32, Meeting{32});
    block.warpgroups.assign((launch.threads + 127) / 128, Meeting{128});
    block.threads.resize(launch.threads);
    for (unsigned i = 0; i < launch.threads; ++i) {
      Thread& thread = block.threads[i];
      thread.block = &block;
      thread.number = int(i);
      thread.registers = int(std::min(65536 / launch.threads / 8 * 8, 255u));
      make_fiber(thread);
    }
  }
}

inline void run_late(Cluster& here) {
  for (size_t i = 0; i < here.late.size();) {
    if (here.late[i].rounds-- > 0) {
      ++i;
      continue;
    }
    here.late[i].run();
    here.late.erase(here.late.begin() + int64_t(i));
    ++here.progress;
  }
}

inline void run_cluster(const Launch& launch, Index first) {
  Cluster here;
  cluster = &here;
  set_up(here, launch, first);
  std::vector<Thread*> running;
  for (auto& block : here.blocks)
    for (Thread& thread : block->threads) running.push_back(&thread);
  while (!running.empty()) {
    const int64_t before = here.progress;
    run_late(here);
    const size_t turn = size_t(here.pick(int(running.size())));
    for (size_t i = 0; i < running.size(); ++i) {
      here.current = running[(i + turn) % running.size()];
      threadIdx = {unsigned(here.current->number), 0, 0};
      blockIdx = here.current->block->index;
      swapcontext(&here.scheduler, &here.current->context);
      require(failure.empty(), failure.c_str());
    }
    require(here.progress > before || !here.late.empty(), "every thread waits");
    running.erase(std::remove_if(running.begin(), running.end(), [](Thread* t) { return t->done; }), running.end());
  }
  require(here.late.empty(), "a copy arrives after its block has ended");
}

// Runs a kernel, which is given its block's shared memory.
inline void run(const Launch& launch, std::function<void(char*)> body) {
  kernel = std::move(body);
  failure.clear();
  require(launch.grid.x % launch.cluster_size == 0, "launch: a grid of no whole clusters");
  Index first;
  for (first.z = 0; first.z < launch.grid.z; ++first.z)
    for (first.y = 0; first.y < launch.grid.y; ++first.y)
      for (first.x = 0; first.x < launch.grid.x; first.x += launch.cluster_size) run_cluster(launch, first);
}

}  // namespace rwpm::emulator
