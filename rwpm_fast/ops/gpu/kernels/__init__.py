"""The Triton kernels. ``@triton.jit`` stands in this folder only; the namesakes one level up launch them."""
