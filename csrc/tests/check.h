// Shared by the tests: counts failures, and skips when the machine lacks the instruction set that RWPM_ISA names.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>

#include "cpu/isa.h"

namespace rwpm::tests {

inline int failures = 0;

inline void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

// Exit status of a test program: 0, 1 with failures, 77 where the instruction set is not on this machine.
template <typename Body>
int run(const Body& body) {
  try {
    std::printf("instruction set: %s\n", cpu::chosen_isa().name);
  } catch (const std::invalid_argument& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  body();
  if (failures)
    std::printf("%d failures\n", failures);
  else
    std::printf("all passed\n");
  return failures ? 1 : 0;
}

}  // namespace rwpm::tests
