// The instruction sets that are compiled in, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace rwpm::cpu {

// Compiled in, best first.
const std::vector<Isa>& isas();

// The best one that this machine has, or the one that the environment variable RWPM_ISA names.
// Throws std::invalid_argument when that is unknown or not available on this machine.
const Isa& chosen_isa();

template <typename T>
const Kernels<T>& kernels();

template <typename T>
const PairKernels<T>& pair_kernels();

}  // namespace rwpm::cpu
