// The order in which threads process the pairs of blocks of a transition.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>

#include "cpu/buffer.h"
#include "walk.h"

namespace rwpm::cpu {

struct NoPause {
  void operator()() const {}
};

// A round-robin tournament of blocks of pixels: every two blocks are paired once, and every block with itself, in
// rounds in which no block is in two pairs. A block's pairs run one after the other in the order of the rounds, so that
// what a block adds up comes in the same order on any number of threads.
class RoundRobinSchedule {
 public:
  explicit RoundRobinSchedule(int64_t blocks) : blocks_(blocks), rounds_(blocks | 1) {}

  // Numbers of pairs are below this; where the number of blocks is even some are of no pair.
  int64_t count() const { return rounds_ * pairs_per_round(); }

  // Calls make_body() once in every thread that takes part, and the body that it returns for every pair that the thread
  // takes: body(number of the pair, block, other >= block). After an exception of either, pairs are left out;
  // parallel_for has to rethrow it. `pause` runs before every atomic operation on the order of the pairs, for tests
  // that delay threads there.
  //
  // Why no thread waits forever: pairs are taken in the order of their numbers, and a thread that has taken one does
  // nothing else until it is done. Of the pairs that are taken and not done, the one with the smallest number waits for
  // no other: the pairs of its blocks in earlier rounds have smaller numbers, so they are taken, so they are done. This
  // holds for any number of threads, and when parallel_for runs its ranges one after the other. It requires
  // that rounds_done never decreases: a block is in one running pair at a time, and that pair stores once. A pair of a
  // block with itself that stored twice could do so after the block's next pair, and set the count back. A pair that
  // throws is never done; `failed` releases the threads that wait for it.
  //
  // Memory orders: release and acquire on rounds_done make what a pair has written visible to the next pair of its
  // block. The other two atomics guard no data: one hands out numbers, the other ends a wait after which nothing is
  // read.
  template <typename MakeBody, typename Pause = NoPause>
  void for_each_pair(const ParallelFor& parallel_for, const MakeBody& make_body, const Pause& pause = {},
                     Memory* memory = heap_memory()) const {
    std::atomic<int64_t> next_pair = 0;
    Vector<std::atomic<int64_t>> rounds_done(rounds_, memory);  // by block
    std::atomic<bool> failed = false;                           // some pair is never done
    const auto take_pair = [&] {
      pause();
      return next_pair.fetch_add(1, std::memory_order_relaxed);
    };
    const auto wait_for = [&](int64_t block, int64_t round) {
      for (pause(); rounds_done[block].load(std::memory_order_acquire) < round; pause()) {
        if (failed.load(std::memory_order_relaxed)) return false;
        std::this_thread::yield();
      }
      return true;
    };
    const auto finish = [&](int64_t block, int64_t round) {
      pause();
      rounds_done[block].store(round + 1, std::memory_order_release);
    };
    parallel_for(pairs_per_round(), [&](int64_t, int64_t) {
      try {
        auto body = make_body();
        for (int64_t k = take_pair(); k < count(); k = take_pair()) {
          const int64_t round = k / pairs_per_round(), offset = k % pairs_per_round();
          const int64_t a = (round + offset) % rounds_, b = (round + rounds_ - offset) % rounds_;
          if (!wait_for(a, round) || !wait_for(b, round)) return;
          if (std::max(a, b) < blocks_) body(k, std::min(a, b), std::max(a, b));
          finish(a, round);
          if (b != a) finish(b, round);
        }
      } catch (...) {
        failed.store(true, std::memory_order_relaxed);
        throw;
      }
    });
  }

 private:
  int64_t pairs_per_round() const { return (rounds_ + 1) / 2; }

  int64_t blocks_, rounds_;  // of an odd number of blocks, the last of them perhaps none
};

}  // namespace rwpm::cpu
