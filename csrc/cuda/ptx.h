// The instructions that kernels are made of, one function each. Shared memory is addressed by 32-bit numbers.
#pragma once

#include <cuda.h>

#include <cstdint>

#define RWPM_DEVICE __device__ __forceinline__

namespace rwpm::cuda {

RWPM_DEVICE uint32_t shared_address(const void* pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

RWPM_DEVICE void sync_block() { __syncthreads(); }

// A number that is the same in all lanes of a warp, which the compiler then keeps once and not in every lane.
RWPM_DEVICE int uniform(int x) { return __shfl_sync(0xffffffff, x, 0); }

RWPM_DEVICE float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The other one where one is no number.
RWPM_DEVICE float smaller(float a, float b) { return fminf(a, b); }

RWPM_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }

RWPM_DEVICE uint32_t pack_halves(float first, float second) {
  uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}

RWPM_DEVICE void unpack_halves(uint32_t halves, float& first, float& second) {
  asm("{\n\t.reg .f16 a, b;\n\tmov.b32 {a, b}, %2;\n\tcvt.f32.f16 %0, a;\n\tcvt.f32.f16 %1, b;\n\t}"
      : "=f"(first), "=f"(second)
      : "r"(halves));
}

// --- sm_80: asynchronous copies and the warp's matrix product.

// 16 bytes; zeros where there is nothing to read.
RWPM_DEVICE void copy_16(uint32_t to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

RWPM_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

RWPM_DEVICE void wait_for_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

// Four matrices [8, 8] of float16, whose rows the 32 lanes point to.
RWPM_DEVICE void load_matrices(uint32_t (&m)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

RWPM_DEVICE void load_matrices_transposed(uint32_t (&m)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

// d[0..3] [16, 8] += a [16, 16] b [16, 8], by a warp.
RWPM_DEVICE void multiply_warp(float* d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// --- sm_90: barriers in shared memory, bulk copies, clusters. The warpgroup's matrix product is in wgmma.h.

RWPM_DEVICE void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes barriers' first states known to the copy engine and to the cluster.
RWPM_DEVICE void fence_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Between what threads have read or stored, this one or those it has waited for, and a copy over it.
RWPM_DEVICE void fence_proxies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

RWPM_DEVICE void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// At the same barrier of a block of the cluster.
RWPM_DEVICE void barrier_arrive(uint32_t barrier, uint32_t block) {
  asm volatile(
      "{\n\t.reg .b32 there;\n\tmapa.shared::cluster.u32 there, %0, %1;\n\t"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t}" ::"r"(barrier),
      "r"(block)
      : "memory");
}

RWPM_DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!done);
}

// A box of a tensor [batch, pixels, channels], zero where it leaves the tensor.
RWPM_DEVICE void copy_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int channel, int pixel, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(to),
      "l"(map), "r"(barrier), "r"(channel), "r"(pixel), "r"(batch)
      : "memory");
}

// To the same place, and telling the same barrier, in every block of `blocks`, a bit each.
RWPM_DEVICE void copy_box_to_all(uint32_t to, const CUtensorMap* map, uint32_t barrier, uint16_t blocks, int channel,
                                 int pixel, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(to),
      "l"(map), "r"(barrier), "h"(blocks), "r"(channel), "r"(pixel), "r"(batch)
      : "memory");
}

// A multiple of 16 bytes.
RWPM_DEVICE void copy_bytes(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

RWPM_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

RWPM_DEVICE uint32_t cluster_size() {
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

RWPM_DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}

template <int REGISTERS>
RWPM_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS>
RWPM_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

}  // namespace rwpm::cuda
