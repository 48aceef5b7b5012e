// Threads that stay: every call covers its range once, whatever the count, and an exception comes out after all parts
// have ended and leaves the pool usable. Under ThreadSanitizer where a program that is built with it runs.
#include "thread_pool.h"

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

int failures = 0;

void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

void test(int64_t threads) {
  rwpm::ThreadPool pool(threads);
  const std::string name = std::to_string(threads) + " threads";
  for (int call = 0; call < 300; ++call) {
    const int64_t count = call % 7 == 6 ? 1000 : call % 7;
    std::vector<int> visits(count);  // not atomic: a part's writes have to be seen when run() returns
    pool.run(count, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++visits[i];
    });
    for (const int n : visits) expect(n == 1, name + ": every number once");
    if (call % 10) continue;
    std::string caught;
    std::vector<int> ended(threads);
    try {
      pool.run(threads, [&](int64_t begin, int64_t) {
        ended[begin] = 1;
        throw std::runtime_error("of a part");
      });
    } catch (const std::runtime_error& e) {
      caught = e.what();
    }
    expect(caught == "of a part", name + ": an exception comes out");
    for (const int n : ended) expect(n == 1, name + ": no part is left out");
  }
}

}  // namespace

int main() {
  for (const int64_t threads : {1, 2, 5}) test(threads);
  rwpm::ThreadPool unused(3);
  std::printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures ? 1 : 0;
}
