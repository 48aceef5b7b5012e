// The matrix product of a warpgroup on sm_90a. It runs asynchronously: registers that it reads or writes may be touched
// only after a wait for its group. Names and the tests' stand-in are as in ptx.h.
#pragma once

#include "cuda/ptx.h"

namespace rwpm::cuda {

// Before the first product of a group: makes earlier writes to its registers visible to it.
RWPM_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

RWPM_DEVICE void wgmma_commit_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until no more than PENDING groups are running.
template <int PENDING>
RWPM_DEVICE void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// After a wait: keeps the compiler from moving accesses of the accumulators to before the wait. Emits no instruction.
template <int COUNT>
RWPM_DEVICE void keep_in_registers(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i]));
}

// Before a fence: keeps the compiler from computing the left operands after the fence. Emits no instruction.
template <int COUNT>
RWPM_DEVICE void keep_in_registers(uint32_t (&a)[COUNT][4]) {
#pragma unroll
  for (int i = 0; i < COUNT * 4; ++i) asm volatile("" : "+r"(a[i / 4][i % 4]));
}

// The same number, hidden from the optimizer: what a loop derives from it is computed in the loop, and not hoisted into
// registers that stay occupied.
RWPM_DEVICE uint32_t opaque(uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

// wgmma.mma_async m64nNk16: d [64, N] in float32 = or += a b, for a [64, 16] and b [16, N] in float16. `wgmma_ss` takes
// both from shared memory by K-major descriptors; `wgmma_rs` takes a from registers, b by an MN-major descriptor, and
// adds.
template <int N>
RWPM_DEVICE void wgmma_ss(float (&d)[N / 2], uint64_t a, uint64_t b, bool add);
template <int N>
RWPM_DEVICE void wgmma_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b);

// Names and operands of the accumulators, eight at a time.
#define RWPM_N0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define RWPM_N1 "%8,%9,%10,%11,%12,%13,%14,%15"
#define RWPM_N2 "%16,%17,%18,%19,%20,%21,%22,%23"
#define RWPM_N3 "%24,%25,%26,%27,%28,%29,%30,%31"
#define RWPM_N4 "%32,%33,%34,%35,%36,%37,%38,%39"
#define RWPM_N5 "%40,%41,%42,%43,%44,%45,%46,%47"
#define RWPM_N6 "%48,%49,%50,%51,%52,%53,%54,%55"
#define RWPM_N7 "%56,%57,%58,%59,%60,%61,%62,%63"
#define RWPM_N8 "%64,%65,%66,%67,%68,%69,%70,%71"
#define RWPM_N9 "%72,%73,%74,%75,%76,%77,%78,%79"
#define RWPM_N10 "%80,%81,%82,%83,%84,%85,%86,%87"
#define RWPM_N11 "%88,%89,%90,%91,%92,%93,%94,%95"
#define RWPM_N12 "%96,%97,%98,%99,%100,%101,%102,%103"
#define RWPM_N13 "%104,%105,%106,%107,%108,%109,%110,%111"
#define RWPM_N14 "%112,%113,%114,%115,%116,%117,%118,%119"
#define RWPM_N15 "%120,%121,%122,%123,%124,%125,%126,%127"
#define RWPM_NAMES16 RWPM_N0 "," RWPM_N1
#define RWPM_NAMES32 RWPM_NAMES16 "," RWPM_N2 "," RWPM_N3
#define RWPM_NAMES40 RWPM_NAMES32 "," RWPM_N4
#define RWPM_NAMES48 RWPM_NAMES40 "," RWPM_N5
#define RWPM_NAMES56 RWPM_NAMES48 "," RWPM_N6
#define RWPM_NAMES64 RWPM_NAMES56 "," RWPM_N7
#define RWPM_NAMES128 \
  RWPM_NAMES64 "," RWPM_N8 "," RWPM_N9 "," RWPM_N10 "," RWPM_N11 "," RWPM_N12 "," RWPM_N13 "," RWPM_N14 "," RWPM_N15

#define RWPM_D8(i)                                                                                            \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define RWPM_OPERANDS16 RWPM_D8(0), RWPM_D8(8)
#define RWPM_OPERANDS32 RWPM_OPERANDS16, RWPM_D8(16), RWPM_D8(24)
#define RWPM_OPERANDS40 RWPM_OPERANDS32, RWPM_D8(32)
#define RWPM_OPERANDS48 RWPM_OPERANDS40, RWPM_D8(40)
#define RWPM_OPERANDS56 RWPM_OPERANDS48, RWPM_D8(48)
#define RWPM_OPERANDS64 RWPM_OPERANDS56, RWPM_D8(56)
#define RWPM_OPERANDS128                                                                                        \
  RWPM_OPERANDS64, RWPM_D8(64), RWPM_D8(72), RWPM_D8(80), RWPM_D8(88), RWPM_D8(96), RWPM_D8(104), RWPM_D8(112), \
      RWPM_D8(120)

// Columns of the result, number of accumulators, and the numbers of the operands that follow them.
#define RWPM_WGMMA_SS(n, count, i0, i1, i2)                                                   \
  template <>                                                                                 \
  RWPM_DEVICE void wgmma_ss<n>(float (&d)[n / 2], uint64_t a, uint64_t b, bool add) {         \
    asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" i2                              \
                 ", 0;\n\t"                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {" RWPM_NAMES##count \
                 "}, %" i0 ", %" i1 ", add, 1, 1, 0, 0;\n\t}"                                 \
                 : RWPM_OPERANDS##count                                                       \
                 : "l"(a), "l"(b), "r"(int(add)));                                            \
  }

#define RWPM_WGMMA_RS(n, count, i0, i1, i2, i3, i4)                                           \
  template <>                                                                                 \
  RWPM_DEVICE void wgmma_rs<n>(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b) {       \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.f16.f16 {" RWPM_NAMES##count \
                 "}, {%" i0 ",%" i1 ",%" i2 ",%" i3 "}, %" i4 ", 1, 1, 1, 1;"                 \
                 : RWPM_OPERANDS##count                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                       \
  }

RWPM_WGMMA_SS(64, 32, "32", "33", "34")
RWPM_WGMMA_SS(80, 40, "40", "41", "42")
RWPM_WGMMA_SS(96, 48, "48", "49", "50")
RWPM_WGMMA_SS(112, 56, "56", "57", "58")
RWPM_WGMMA_SS(128, 64, "64", "65", "66")

RWPM_WGMMA_RS(32, 16, "16", "17", "18", "19", "20")
RWPM_WGMMA_RS(64, 32, "32", "33", "34", "35", "36")
RWPM_WGMMA_RS(128, 64, "64", "65", "66", "67", "68")
RWPM_WGMMA_RS(256, 128, "128", "129", "130", "131", "132")

#undef RWPM_WGMMA_RS
#undef RWPM_WGMMA_SS

}  // namespace rwpm::cuda
