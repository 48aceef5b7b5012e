#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace rwpm::cpu {

#define RWPM_DECLARE(isa)               \
  namespace isa {                       \
  extern const Kernels<float> float32;  \
  extern const Kernels<double> float64; \
  }

RWPM_DECLARE(baseline)
#if defined(__x86_64__)
RWPM_DECLARE(avx2)
RWPM_DECLARE(avx512)
#endif

const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = {
#if defined(__x86_64__)
      {"avx512",
       [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
       },
       &avx512::float32, &avx512::float64},
      {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, &avx2::float32,
       &avx2::float64},
#endif
      {"baseline", [] { return true; }, &baseline::float32, &baseline::float64},
  };
  return all;
}

const Isa& chosen_isa() {
  const char* const forced = std::getenv("RWPM_ISA");
  const std::string name = forced ? forced : "";
  std::string available;
  for (const Isa& isa : isas()) {
    if (!isa.available()) continue;
    if (name.empty() || name == isa.name) return isa;
    available += available.empty() ? isa.name : std::string(", ") + isa.name;
  }
  throw std::invalid_argument("RWPM_ISA: expected one that this machine has (" + available + "), got '" + name + "'");
}

template <>
const Kernels<float>& kernels() {
  return *chosen_isa().float32;
}

template <>
const Kernels<double>& kernels() {
  return *chosen_isa().float64;
}

}  // namespace rwpm::cpu
