"""The walk by Triton kernels, or why it cannot be had: nothing here needs Triton until it is asked for."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from .walk_info import WalkInfo

OLDEST_TORCH = (2, 6)  # the first with torch.library.triton_op


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        return None, f"it needs torch >= {'.'.join(map(str, OLDEST_TORCH))}, this is torch {torch.__version__}"
    try:
        from .triton import op
    except ImportError as error:
        return None, f"{error}; install Triton: pip install triton"
    return op, None


def unavailable(embeddings: Tensor, values: Tensor | None) -> str | None:
    """Why Triton's kernels cannot walk such tensors, with the way out; None when they can."""
    op, reason = _load()
    if op is None:
        return reason
    if not embeddings.is_cuda and not op.INTERPRETED:
        return (
            f"expected tensors on a GPU, got {embeddings.device}; TRITON_INTERPRET=1 runs the kernels anywhere, slowly"
        )
    return op.unavailable(embeddings, embeddings if values is None else values)


def walk(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, *, adjoint: bool = False, **settings
) -> Tensor:
    """The walk of :func:`rwpm_fast.walk` on checked tensors that :func:`unavailable` finds nothing against."""
    with _device(embeddings):
        return _load()[0].walk(embeddings, values, mask, **settings, adjoint=adjoint)


def walk_by_cuda(embeddings: Tensor, values: Tensor | None, mask: Tensor | None, **settings) -> Tensor:
    """The same with the exact transitions in CUDA C++, where :func:`rwpm_fast.cuda.unusable` has no objection."""
    with _device(embeddings):
        return _load()[0].walk_by_cuda(embeddings, values, mask, **settings)


def compile_matrix(embeddings: Tensor, *, temperature: float, tolerance: float):
    """The matrix of embeddings [n, D]: :class:`rwpm_fast.triton.matrix.PagedMatrix`; None where it would stream."""
    from .triton.matrix import compile_matrix

    with _device(embeddings):
        return compile_matrix(embeddings, temperature=temperature, tolerance=tolerance)


def walk_with_info(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, **settings
) -> tuple[Tensor, WalkInfo | tuple[WalkInfo, ...]]:
    """The same with what it did; image by image, and waiting for the device after every phase to see its time."""
    if embeddings.dim() == 3:
        parts = [
            walk_with_info(e, None if values is None else values[b], None if mask is None else mask[b], **settings)
            for b, e in enumerate(embeddings)
        ]
        empty = embeddings if values is None else values
        results = [result for result, _ in parts]
        return torch.stack(results) if results else empty.new_empty(empty.shape), tuple(info for _, info in parts)

    seconds = {"pack": 0.0, "compile": 0.0, "steps": 0.0}

    def now() -> float:
        if embeddings.is_cuda:
            torch.cuda.synchronize(embeddings.device)
        return time.perf_counter()

    begun = now()

    def reached(phase: str) -> None:
        nonlocal begun
        seconds[phase], begun = now() - begun, now()

    with _device(embeddings):
        result, did = _load()[0].walk_with_facts(embeddings, values, mask, **settings, reached=reached)
    return result, WalkInfo(**did, seconds=seconds)


def _device(t: Tensor):
    return torch.cuda.device(t.device) if t.is_cuda else nullcontext()
