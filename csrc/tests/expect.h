// Shared by the tests: counts failures.
#pragma once

#include <cstdio>
#include <string>

namespace rwpm::tests {

inline int failures = 0;

inline void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// Prints the outcome; exit status of a test program.
inline int outcome() {
  if (failures)
    std::printf("%d failures\n", failures);
  else
    std::printf("all passed\n");
  return failures ? 1 : 0;
}

}  // namespace rwpm::tests
