// The schedule of the exact walk, with threads delayed before its atomic operations: it must end, process every pair
// once, and keep a block's pairs apart and in their order. Built a second time with ThreadSanitizer, which then checks
// that a pair sees what the earlier pairs of its blocks have written.
#include "cpu/schedule.h"

#include <chrono>
#include <cstdlib>
#include <future>
#include <string>
#include <utility>

#include "check.h"
#include "cpu/threads.h"

namespace {

using rwpm::ParallelFor;
using rwpm::RangeBody;
using rwpm::cpu::NoPause;
using rwpm::cpu::RoundRobinSchedule;
using rwpm::tests::expect;
using std::chrono::microseconds;

constexpr auto relaxed = std::memory_order_relaxed;  // so that the test itself orders nothing between threads

constexpr auto patience = std::chrono::seconds(60);  // a run takes milliseconds

// Ends the program when `run` does not return: threads that wait for each other cannot be stopped.
template <typename Run>
void expect_to_end(const std::string& what, const Run& run) {
  const std::future<void> ended = std::async(std::launch::async, run);
  if (ended.wait_for(patience) == std::future_status::ready) return;
  std::printf("FAILED: %s: threads wait for each other\n", what.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

// Delays one atomic operation of a run, the `number`th, until the other threads have done `others` more, and then the
// others until it is done. No thread waits for long, because the other may have ended.
class OnePause {
 public:
  OnePause(int64_t number, int64_t others) : number_(number), last_(number + others) {}

  void operator()() const {
    const int64_t number = done_.fetch_add(1, relaxed);
    if (number == number_) {
      paused_.store(std::this_thread::get_id(), relaxed);
      wait_until([&] { return done_.load(relaxed) > last_; });
    } else if (paused_.load(relaxed) == std::this_thread::get_id()) {
      over_.store(true, relaxed);
    } else if (number >= last_) {
      wait_until([&] { return over_.load(relaxed); });
    }
  }

 private:
  template <typename Condition>
  static void wait_until(const Condition& condition) {
    const auto limit = std::chrono::steady_clock::now() + microseconds(5000);
    while (!condition() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  }

  const int64_t number_, last_;
  mutable std::atomic<int64_t> done_ = 0;
  mutable std::atomic<std::thread::id> paused_{};
  mutable std::atomic<bool> over_ = false;
};

// Delays some atomic operations, and yields the processor at others.
class RandomPauses {
 public:
  explicit RandomPauses(uint32_t seed) : chance_(seed) {}
  void operator()() const {
    const uint32_t chance = (chance_.fetch_add(0x9e3779b9u, relaxed) * 0x85ebca6bu) >> 16;
    if (chance % 64 == 0)
      std::this_thread::sleep_for(microseconds(chance / 64 % 100));
    else if (chance % 4 == 0)
      std::this_thread::yield();
  }

 private:
  mutable std::atomic<uint32_t> chance_;
};

struct Visit {
  int64_t pair, block, other;
  bool operator==(const Visit& v) const { return pair == v.pair && block == v.block && other == v.other; }
};

// The pairs of each block in the order in which they ran; guarded only by the schedule.
using Visits = std::vector<std::vector<Visit>>;

template <typename Pause = NoPause>
Visits visits(int64_t blocks, const ParallelFor& parallel_for, const std::string& what, const Pause& pause = {}) {
  const RoundRobinSchedule schedule(blocks);
  Visits visits(blocks);
  std::vector<std::atomic<bool>> busy(blocks);
  std::atomic<bool> overlap = false;
  expect_to_end(what, [&] {
    const auto make_body = [&] {
      return [&](int64_t pair, int64_t block, int64_t other) {
        if (busy[block].exchange(true, relaxed)) overlap = true;
        if (other != block && busy[other].exchange(true, relaxed)) overlap = true;
        visits[block].push_back({pair, block, other});
        if (other != block) visits[other].push_back({pair, block, other});
        busy[block].store(false, relaxed);
        busy[other].store(false, relaxed);
      };
    };
    schedule.for_each_pair(parallel_for, make_body, pause);
  });
  expect(!overlap, what + ": a block is in two pairs at once");
  return visits;
}

std::string name(int64_t blocks, int64_t threads) {
  return std::to_string(blocks) + " blocks, " + std::to_string(threads) + " threads";
}

// All ranges one after the other on the calling thread.
const ParallelFor forwards = [](int64_t count, const RangeBody& body) {
  for (int64_t k = 0; k < count; ++k) body(k, k + 1);
};
const ParallelFor backwards = [](int64_t count, const RangeBody& body) {
  for (int64_t k = count; k > 0; --k) body(k - 1, k);
};
// As torch does within a parallel region.
const ParallelFor at_once = [](int64_t count, const RangeBody& body) { body(0, count); };

// Every pair once, with a number below count(), and no others.
void test_pairs(int64_t blocks, const Visits& visits, const std::string& what) {
  const int64_t count = RoundRobinSchedule(blocks).count();
  std::vector<int64_t> seen(blocks * blocks);
  std::vector<char> number_taken(count);
  for (int64_t block = 0; block < blocks; ++block)
    for (const Visit& v : visits[block]) {
      expect(v.block <= v.other && (v.block == block || v.other == block), what + ": a block in a pair of others");
      ++seen[v.block * blocks + v.other];
      if (v.block != block) continue;
      expect(v.pair >= 0 && v.pair < count && !number_taken[v.pair], what + ": a pair's number twice or too large");
      number_taken[v.pair] = 1;
    }
  for (int64_t a = 0; a < blocks; ++a)
    for (int64_t b = a; b < blocks; ++b)
      expect(seen[a * blocks + b] == (a == b ? 1 : 2),
             what + ": blocks " + std::to_string(a) + " and " + std::to_string(b) + " are not paired once");
}

void test_blocks(int64_t blocks) {
  const Visits expected = visits(blocks, at_once, name(blocks, 1));
  test_pairs(blocks, expected, name(blocks, 1));
  const auto test = [&](const Visits& found, const std::string& what) {
    expect(found == expected, what + ": not the order of one thread");
  };
  test(visits(blocks, forwards, "ranges in turn"), name(blocks, 1) + ", ranges in turn");
  test(visits(blocks, backwards, "ranges backwards"), name(blocks, 1) + ", ranges backwards");
  for (int64_t threads = 1; threads <= 8; ++threads) {
    const ParallelFor parallel_for = rwpm::parallel_for_threads(threads);
    const std::string what = name(blocks, threads);
    test(visits(blocks, parallel_for, what), what);
    for (uint32_t seed = 0; seed < 5; ++seed) {
      const std::string with = what + ", random pauses " + std::to_string(seed);
      test(visits(blocks, parallel_for, with, RandomPauses(seed)), with);
    }
  }
}

// A run for each atomic operation, in the order in which the threads reach them, with a pause there while the other
// threads process half a round, one and a half, or two and a half.
void test_one_pause(int64_t blocks, int64_t threads) {
  const Visits expected = visits(blocks, at_once, name(blocks, 1));
  const int64_t of_pair = 5;  // operations: its number, and of two blocks the rounds done, read and written
  const int64_t rounds = blocks | 1, of_round = of_pair * RoundRobinSchedule(blocks).count() / rounds;
  for (const int64_t others : {of_round / 2, of_round * 3 / 2, of_round * 5 / 2})
    for (int64_t k = 0; k < rounds * of_round + threads; ++k) {
      const std::string what = name(blocks, threads) + ", a pause of " + std::to_string(others) +
                               " operations at operation " + std::to_string(k);
      const Visits found = visits(blocks, rwpm::parallel_for_threads(threads), what, OnePause(k, others));
      expect(found == expected, what + ": not the order of one thread");
    }
}

struct Broken : std::exception {};

// Whether a schedule ends with an exception, thrown by the call of make_body() of number `thread` or by the body of
// `pair`, if such a call or pair exists.
template <typename Pause = NoPause>
bool breaks(int64_t blocks, const ParallelFor& parallel_for, int64_t thread, int64_t pair, const std::string& what,
            const Pause& pause = {}) {
  bool thrown = false;
  expect_to_end(what, [&] {
    std::atomic<int64_t> threads = 0;
    const auto make_body = [&] {
      if (threads.fetch_add(1, relaxed) == thread) throw Broken();
      return [&](int64_t number, int64_t, int64_t) {
        if (number == pair) throw Broken();
      };
    };
    try {
      RoundRobinSchedule(blocks).for_each_pair(parallel_for, make_body, pause);
    } catch (const Broken&) {
      thrown = true;
    }
  });
  return thrown;
}

void test_exceptions(int64_t blocks) {
  constexpr int64_t none = -1;
  const Visits all = visits(blocks, at_once, name(blocks, 1));
  for (int64_t threads = 1; threads <= 4; ++threads) {
    const ParallelFor parallel_for = rwpm::parallel_for_threads(threads);
    const std::string what = name(blocks, threads) + ", an exception ";
    for (int64_t thread = 0; thread < std::min(threads, (blocks + 1) / 2); ++thread)
      for (uint32_t seed = 0; seed < 5; ++seed)
        expect(breaks(blocks, parallel_for, thread, none, what + "of make_body", RandomPauses(seed)),
               what + "of make_body is lost");
    for (const std::vector<Visit>& of_block : all)
      for (const Visit& v : of_block)
        expect(breaks(blocks, parallel_for, none, v.pair, what + "of a pair", RandomPauses(uint32_t(v.pair))),
               what + "of a pair is lost");
  }
  for (const ParallelFor& parallel_for : {forwards, backwards, at_once}) {
    expect(breaks(blocks, parallel_for, 0, none, "make_body, ranges in turn"), "an exception in turn is lost");
    expect(breaks(blocks, parallel_for, none, 0, "a pair, ranges in turn"), "an exception in turn is lost");
  }
}

}  // namespace

int main() {
  for (const int64_t threads : {2, 3}) test_one_pause(6, threads);
  for (const int64_t blocks : {1, 2, 5, 6, 7, 33}) test_blocks(blocks);
  for (const int64_t blocks : {1, 2, 5, 6}) test_exceptions(blocks);
  std::printf(rwpm::tests::failures ? "%d failures\n" : "all passed\n", rwpm::tests::failures);
  return rwpm::tests::failures ? 1 : 0;
}
