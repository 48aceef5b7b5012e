"""The walk in Triton: NVIDIA and AMD GPUs, and, for tests, any processor through Triton's interpreter.

``tiles`` (sizes, and the product that all kernels share) -> ``pack`` (what the kernels read) -> ``streaming`` (every
weight made anew in every step), ``screening``, ``selection`` and ``sparse`` (the pairs that matter, kept): kernels ->
``exact``, ``look``, ``pairs`` (their launches) -> ``walk``.
Imported on first use: the package needs no Triton.
"""
