"""``rwpm_fast.walk``: the operator with checks, a choice of backend, and information on what it did."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from . import registration as registration  # registers the operator
from .backends import BACKENDS, check_backend, choose_backend
from .info import Infos
from .settings import DEFAULTS, WalkSettings
from .validation import NO_EMBEDDING_GRADIENT, check_apart, check_inputs, check_out


@overload
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
    return_info: Literal[False] = False,
    out: Tensor | None = None,
) -> Tensor: ...
@overload
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
    return_info: Literal[True],
    out: Tensor | None = None,
) -> tuple[Tensor, Infos]: ...
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
    return_info: bool = False,
    out: Tensor | None = None,
) -> Tensor | tuple[Tensor, Infos]:
    """Walk values with restart on the graph of pixel similarities (equation S.5 of the RWPM supplement).

    The walk is ``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v``; ``S`` is the softmax over cosines of
    the embeddings at ``temperature`` with self-affinity removed. An anchor gives it back at a similarity of choice. A
    pixel that is masked out, or whose embedding or value is not finite, is no part of the graph and keeps its value.
    By default a row of ``S`` may drop 1e-4 of its mass, which leaves a sparse matrix where few pairs matter; walk with
    ``tolerance=0`` for the exact walk, which is the default of ``torch.ops.rwpm.walk``.

    Memory of the exact walk grows with N (D + C), never with N^2; up to 256 MiB hold cosines that steps keep for later
    ones. A sparse matrix takes up to 1 GiB on the CPU, and graphs that need more stream; on a GPU up to a quarter of
    its memory and N^2 / 512 bytes, a bit for every pixel and group of 64. The compiled kernels give the same bits at
    any number of threads, and Triton's in any run on one device. Autocast changes no dtype.

    Example:
        >>> walked = rwpm_fast.walk(embeddings, logits)  # no value is off by more than 2 * 20 * 1e-4 * max|v|
        >>> exact = rwpm_fast.walk(embeddings, logits, tolerance=0)

    Args:
        embeddings: [N, D] or [B, N, D], float32, float64, float16 or bfloat16, any strides.
        values: [..., N, C], walked on the graph of the embeddings; the embeddings themselves when None.
        mask: [..., N] bool, True = valid; all when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0. The released code does T + 1 for its T.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1). 0 is the exact walk, streamed. Above 0 the compiled float32
            kernels keep the pairs that matter as a sparse matrix, many times faster where the graph is sparse (at
            tau = 0.01 it is), and stream where it is not. No value is then off by more than
            ``2 * steps * tolerance * max|v|``, and most are by far less; :meth:`rwpm_fast.Transition.error_bound`
            proves it, and gives the sharper bound of the mass that was dropped. float64, plain torch and graphs of
            fewer than 512 pixels on the CPU stream whatever the tolerance.
        anchor: cosine s0: every pixel has itself as one more neighbor, at this similarity, so that one that resembles
            no other keeps its value; -1 or lower: no anchor, the published walk. See :func:`rwpm_fast.reference.walk`.
        anchor_share: share of the pixels to anchor, in [0, 1]: s0 follows from the image, so that these pixels, those
            that resemble others least, weigh their own value at least as much as all others; 0: s0 is ``anchor``.
        backend: "auto" (the compiled kernels on the CPU, Triton's on a GPU, plain torch where they cannot serve), "cpu"
            or "triton" (these or an error), "cuda" (Triton's, except that exact transitions in 16 bits run in CUDA
            C++), "torch" (plain torch, any device).
        return_info: also return information on the walk: a :class:`rwpm_fast.ops.info.WalkInfo`, for a batch a tuple
            of them.
        out: contiguous tensor of the values' shape, dtype and device that receives the result and is returned; it
            shares no memory with an input, and there is no gradient. The compiled CPU kernels write float32 and float64
            results into it at once, other results are copied. Together with :class:`rwpm_fast.Workspace` a walk on the
            CPU then takes no memory for numbers.

    Returns:
        Walked values [..., N, C], contiguous, in the values' dtype; computed in float64 when either input is float64,
        in float32 otherwise. On a GPU, 16-bit inputs are multiplied in 16 bits with float32 sums, and 16-bit values
        are kept in float16 between the steps. Differentiable with respect to the values; the gradient is that of the
        exact walk.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes, devices or settings that do not fit.
        NotImplementedError: the embeddings require a gradient.
        RuntimeError: ``backend`` names kernels that cannot serve; the message says why.
    """
    settings = WalkSettings(alpha, steps, temperature, tolerance, anchor=anchor, anchor_share=anchor_share)
    check_inputs(embeddings, values, mask)
    if embeddings.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(NO_EMBEDDING_GRADIENT)
    check_backend(backend)
    if out is not None:
        check_out(out, embeddings, values)
        if any(t is not None and t.requires_grad for t in (values, out)) and torch.is_grad_enabled():
            raise NotImplementedError("out: gives no gradient; leave it out, or walk under torch.no_grad()")
        if not torch.compiler.is_compiling():  # tensors have no addresses then
            check_apart(out, embeddings, values, mask)
    if backend == "auto" and not return_info:
        inputs, options = (embeddings, values, mask), settings.operator_kwargs()
        if out is None:
            return torch.ops.rwpm.walk.default(*inputs, **options)
        return torch.ops.rwpm.walk.out(*inputs, **options, out=out)
    if backend == "auto":
        chosen = choose_backend(embeddings, values)
    else:
        if backend != "cpu" and values is not None and values.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError(f'values: backend="{backend}" gives no gradient; use backend="auto"')
        chosen = BACKENDS[backend]
        if (reason := chosen.unsupported_reason(embeddings, values)) is not None:
            raise RuntimeError(f'backend="{backend}": {reason}')
    if return_info:
        walked, infos = chosen.walk_with_info(embeddings, values, mask, settings)
        return (walked if out is None else out.copy_(walked)), infos
    walked = chosen.walk(embeddings, values, mask, settings)
    return walked if out is None else out.copy_(walked)
