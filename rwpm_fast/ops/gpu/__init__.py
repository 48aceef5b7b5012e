"""The walk in Triton: NVIDIA and AMD GPUs, and, for tests, any processor through Triton's interpreter.

Kernels are in ``kernels``; the modules here that launch them have the same names: ``pack`` (what all kernels read) ->
``exact`` (every weight computed again in every step) -> ``screen`` (which pairs matter; launches ``kernels.select``
too) -> ``sparse`` (those pairs listed, weighed and walked) -> ``walk`` (all of it, in order) -> ``op`` (the operator)
and ``matrix`` (the pairs kept for many walks). Gradients go ``transpose`` (products with the transpose of lists) ->
``gradient`` (all products that they need) -> ``backward`` (all of it, in order) -> ``op``. ``cuda_step`` is an exact
step in CUDA C++; ``tuning`` chooses tiles.
Imported on first use: the package needs no Triton.
"""
