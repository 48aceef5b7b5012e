// The instructions that the kernels use, one function each, which bears the name of the PTX instruction or CUDA
// intrinsic that it wraps. Shared memory is addressed by 32-bit numbers. The tests put another file of this name first
// on the include path, which defines the same functions on the host.
#pragma once

#include <cuda.h>

#include <cstdint>

#define RWPM_DEVICE __device__ __forceinline__

namespace rwpm::cuda {

RWPM_DEVICE uint32_t cvta_to_shared(const void* pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

RWPM_DEVICE void syncthreads() { __syncthreads(); }

// The first lane's value. Of a number that all lanes of a warp share, it lets the compiler keep one copy for the warp.
RWPM_DEVICE int shfl_sync_lane0(int x) { return __shfl_sync(0xffffffff, x, 0); }

RWPM_DEVICE float ex2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// IEEE minimum: the other operand where one is NaN.
RWPM_DEVICE float fmin(float a, float b) { return fminf(a, b); }

RWPM_DEVICE float fma(float a, float b, float c) { return fmaf(a, b, c); }

// Two floats as a pair of float16, the first in the low half.
RWPM_DEVICE uint32_t cvt_rn_f16x2_f32(float first, float second) {
  uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}

RWPM_DEVICE void cvt_f32_f16x2(uint32_t halves, float& first, float& second) {
  asm("{\n\t.reg .f16 a, b;\n\tmov.b32 {a, b}, %2;\n\tcvt.f32.f16 %0, a;\n\tcvt.f32.f16 %1, b;\n\t}"
      : "=f"(first), "=f"(second)
      : "r"(halves));
}

// --- sm_80: asynchronous copies and the matrix product of a warp.

// Copies 16 bytes, or stores 16 zeros if not `valid`.
RWPM_DEVICE void cp_async_16(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

RWPM_DEVICE void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until none of the thread's groups is pending.
RWPM_DEVICE void cp_async_wait_group_0() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

// Loads four matrices [8, 8] of float16; each of the 32 lanes passes the address of one row.
RWPM_DEVICE void ldmatrix_x4(uint32_t (&m)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

RWPM_DEVICE void ldmatrix_x4_trans(uint32_t (&m)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(row)
               : "memory");
}

// d[0..3] [16, 8] += a [16, 16] b [16, 8], by a warp.
RWPM_DEVICE void mma_m16n8k16(float* d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// --- sm_90: barriers in shared memory, bulk copies (TMA), clusters. The matrix product of a warpgroup is in wgmma.h.

RWPM_DEVICE void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialized barriers visible to TMA and to the cluster.
RWPM_DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Orders what this thread, and threads that it has waited for, read or stored in shared memory before a later bulk copy
// over it.
RWPM_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Arrives, and makes the barrier's current phase wait for `bytes` more of bulk copies.
RWPM_DEVICE void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Arrives at the barrier at the same address of a block of the cluster.
RWPM_DEVICE void mbarrier_arrive_cluster(uint32_t barrier, uint32_t block) {
  asm volatile(
      "{\n\t.reg .b32 remote;\n\tmapa.shared::cluster.u32 remote, %0, %1;\n\t"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n\t}" ::"r"(barrier),
      "r"(block)
      : "memory");
}

// Repeats mbarrier.try_wait.parity until the phase of this parity is complete.
RWPM_DEVICE void mbarrier_wait_parity(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!done);
}

// Loads a box of a tensor [batch, pixels, channels], filled with zeros where it leaves the tensor.
RWPM_DEVICE void cp_async_bulk_tensor_3d(uint32_t to, const CUtensorMap* map, uint32_t barrier, int channel, int pixel,
                                         int batch) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(to),
      "l"(map), "r"(barrier), "r"(channel), "r"(pixel), "r"(batch)
      : "memory");
}

// The same, to the same place and with completion on the same barrier in every block of the cluster whose bit is set in
// `blocks`.
RWPM_DEVICE void cp_async_bulk_tensor_3d_multicast(uint32_t to, const CUtensorMap* map, uint32_t barrier,
                                                   uint16_t blocks, int channel, int pixel, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(to),
      "l"(map), "r"(barrier), "h"(blocks), "r"(channel), "r"(pixel), "r"(batch)
      : "memory");
}

// Copies a multiple of 16 bytes.
RWPM_DEVICE void cp_async_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

RWPM_DEVICE uint32_t cluster_ctarank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

RWPM_DEVICE uint32_t cluster_nctarank() {
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

RWPM_DEVICE void barrier_cluster_arrive_wait() {
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}

// Raises the number of registers of each thread of a warpgroup, waiting until the block has released enough.
template <int REGISTERS>
RWPM_DEVICE void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// Lowers it.
template <int REGISTERS>
RWPM_DEVICE void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

}  // namespace rwpm::cuda
