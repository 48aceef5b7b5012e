// The order in which threads take the pairs of blocks of a transition.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "../walk.h"

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

  // Calls make_body() once in every thread that takes part, and what it returns with every pair that the thread takes:
  // body(number of the pair, block, other >= block). `pause` runs before every atomic operation, for tests that delay
  // threads there.
  template <typename MakeBody, typename Pause = NoPause>
  void for_each_pair(const ParallelFor& parallel_for, const MakeBody& make_body, const Pause& pause = {}) const {
    std::atomic<int64_t> next_pair = 0;
    std::vector<std::atomic<int64_t>> rounds_done(rounds_);  // by block
    const auto next = [&] {
      pause();
      return next_pair++;
    };
    parallel_for(pairs_per_round(), [&](int64_t, int64_t) {
      const auto body = make_body();
      for (int64_t k = next(); k < count(); k = next()) {
        const int64_t round = k / pairs_per_round(), offset = k % pairs_per_round();
        const int64_t a = (round + offset) % rounds_, b = (round + rounds_ - offset) % rounds_;
        // Pairs are taken in their order, so whoever is waited for is under way.
        for (const int64_t block : {a, b})
          for (pause(); rounds_done[block].load(std::memory_order_acquire) < round; pause()) std::this_thread::yield();
        if (std::max(a, b) < blocks_) body(k, std::min(a, b), std::max(a, b));
        for (const int64_t block : {a, b}) {
          pause();
          rounds_done[block].store(round + 1, std::memory_order_release);
        }
      }
    });
  }

 private:
  int64_t pairs_per_round() const { return (rounds_ + 1) / 2; }

  int64_t blocks_, rounds_;  // of an odd number of blocks, the last of them perhaps none
};

}  // namespace rwpm::cpu
