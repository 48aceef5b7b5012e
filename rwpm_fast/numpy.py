"""The walk for NumPy arrays without torch, by the same CPU kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .checks import check_integers
from .io.arrays import check_unmasked
from .native import cores, native
from .ops.settings import DEFAULTS, WalkSettings
from .ops.validation import check_shapes

__all__ = ["walk"]


def walk(
    embeddings: NDArray,
    values: NDArray | None = None,
    *,
    mask: NDArray | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    threads: int | None = None,
) -> NDArray:
    """Walk values with restart on the graph of pixel similarities; see :func:`rwpm_fast.walk` for the definition.

    Args:
        embeddings: [N, D] or [B, N, D], float16, float32 or float64, any strides.
        values: [..., N, C], walked on the graph of the embeddings; the embeddings themselves when None.
        mask: [..., N] bool, True = valid; all when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk. No value is off by more than
            ``2 * steps * tolerance * max|v|``.
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor. See :func:`rwpm_fast.walk`.
        anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.
        threads: number of threads, >= 1; all cores that this process may use when None. The bits of the result do not
            depend on it.

    Returns:
        Walked values [..., N, C], C-contiguous, in the values' dtype; computed in float64 when either input is float64,
        in float32 otherwise.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes or settings that do not fit.
        RuntimeError: the compiled module is not built.
    """
    walk_settings = WalkSettings(alpha, steps, temperature, tolerance, anchor=anchor, anchor_share=anchor_share)
    arrays = {"embeddings": embeddings, "values": values, "mask": mask}
    for name, a in arrays.items():
        if a is not None and not isinstance(a, np.ndarray):
            raise TypeError(f"{name}: expected a numpy.ndarray, got {type(a).__name__}")
        check_unmasked(name, a)
    check_shapes(embeddings, values, mask)
    for name in ("embeddings", "values"):
        a = arrays[name]
        if a is not None and a.dtype not in (np.float16, np.float32, np.float64):
            raise TypeError(f"{name}: expected dtype float16, float32 or float64, got {a.dtype}")
    if mask is not None and mask.dtype != np.bool_:
        raise TypeError(f"mask: expected dtype bool, got {mask.dtype}")
    threads = cores() if threads is None else threads
    check_integers(threads=threads)
    if threads < 1:
        raise ValueError(f"threads: expected 1 or more, got {threads}")

    values = embeddings if values is None else values
    dtype = np.result_type(embeddings, values, np.float32)
    kernel = getattr(native(), f"walk_{dtype}")
    result = np.empty(values.shape, values.dtype)

    def batched(a: NDArray) -> NDArray:
        return a if embeddings.ndim == 3 else a[None]

    settings = {**walk_settings.operator_kwargs(), "threads": threads}
    masks = [None] * len(batched(embeddings)) if mask is None else batched(mask)
    for e, v, m, out in zip(batched(embeddings), batched(values), masks, batched(result), strict=True):
        # Aligned, because fields of packed records have strides that are not multiples of the element size.
        out[...] = kernel(np.require(e, dtype, "A"), np.require(v, dtype, "A"), m, **settings)
    return result
