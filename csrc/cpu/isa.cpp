#include "cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include <cstdlib>
#include <stdexcept>
#include <string_view>

namespace rwpm::cpu {

#define RWPM_DECLARE(isa)                         \
  namespace isa {                                 \
  extern const Kernels<float> float32;            \
  extern const Kernels<double> float64;           \
  extern const SparseKernels sparse;              \
  extern const PairKernels<float> pairs_float32;  \
  extern const PairKernels<double> pairs_float64; \
  extern const ScoreKernels score;                \
  }

RWPM_DECLARE(baseline)
#if defined(__x86_64__)
RWPM_DECLARE(avx2)
RWPM_DECLARE(avx512)
RWPM_DECLARE(avx512vnni)
RWPM_DECLARE(amx)
#endif

namespace {

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

// AMX tiles of bfloat16, which Linux permits to a process on request; or in software, for tests.
bool has_amx() {
#if defined(RWPM_EMULATED_AMX)
  return has_vnni();
#elif defined(__linux__)
  constexpr unsigned tile_bit = 1u << 24, bf16_bit = 1u << 22;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  unsigned a, b, c, d;
  return has_vnni() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tile_bit) && (d & bf16_bit) &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

}  // namespace

#define RWPM_ISA(isa, available) \
  {#isa, available, &isa::float32, &isa::float64, &isa::sparse, &isa::pairs_float32, &isa::pairs_float64, &isa::score}

const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = {
#if defined(__x86_64__)
      RWPM_ISA(amx, has_amx),
      RWPM_ISA(avx512vnni, has_vnni),
      RWPM_ISA(avx512, has_avx512),
      RWPM_ISA(avx2, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }),
#endif
      RWPM_ISA(baseline, [] { return true; }),
  };
  return all;
}

const Isa& chosen_isa() {
  const char* const forced = std::getenv("RWPM_ISA");
  const std::string_view name = forced ? forced : "";
  for (const Isa& isa : isas())
    if ((name.empty() || name == isa.name) && isa.available()) return isa;
  std::string available;
  for (const Isa& isa : isas())
    if (isa.available()) available += available.empty() ? isa.name : std::string(", ") + isa.name;
  throw std::invalid_argument("RWPM_ISA: expected one that this machine has (" + available + "), got '" +
                              std::string(name) + "'");
}

template <>
const Kernels<float>& kernels() {
  return *chosen_isa().float32;
}

template <>
const Kernels<double>& kernels() {
  return *chosen_isa().float64;
}

template <>
const PairKernels<float>& pair_kernels() {
  return *chosen_isa().pairs_float32;
}

template <>
const PairKernels<double>& pair_kernels() {
  return *chosen_isa().pairs_float64;
}

}  // namespace rwpm::cpu
