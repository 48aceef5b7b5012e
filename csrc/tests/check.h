// Shared by the tests of the kernels: skips when the machine lacks the instruction set that RWPM_ISA names.
#pragma once

#include <cstdio>
#include <stdexcept>

#include "cpu/isa.h"
#include "expect.h"

namespace rwpm::tests {

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
  return outcome();
}

}  // namespace rwpm::tests
