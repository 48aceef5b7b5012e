"""The walk by Triton kernels: what is launched, in which order. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .exact import RowSums, exact_step, row_sums
from .kernels.tiles import MOST_CHANNELS
from .pack import Graph, Split, pack_graph, pack_state, unpack_state
from .sparse import Pairs, select_pairs, sparse_step

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def unsupported_reason(embeddings: Tensor, values: Tensor) -> str | None:
    """Why these kernels cannot walk such tensors, None when they can."""
    for name, t in {"embeddings": embeddings, "values": values}.items():
        if t.dtype not in DTYPES:
            return f"{name}: expected float32, float16 or bfloat16, got {t.dtype}"
    if embeddings.shape[-1] > MOST_CHANNELS:
        return f"embeddings: expected up to {MOST_CHANNELS} channels, got {embeddings.shape[-1]}"
    return None


def take_steps(
    graph: Graph,
    start: Split,
    alpha: float,
    steps: int,
    *,
    pairs: Pairs | None = None,
    sums: RowSums | None = None,
    adjoint: bool = False,
    exact_step: Callable[..., None] = exact_step,
) -> Split:
    """The state after ``steps`` transitions: over pairs, and by streaming what they say or, without pairs, all; without
    sums no block streams."""
    state, free = start, None
    for _ in range(steps):
        target = free or Split.empty(*start.high.shape, split=start.split, device=start.high.device)
        if pairs is not None:
            sparse_step(pairs, start, state, target, alpha)
        if sums is not None:
            exact_step(graph, sums, None if pairs is None else pairs.streams, start, state, target, alpha, adjoint)
        state, free = target, (None if state is start else state)
    return state


class Walked(NamedTuple):
    """Walked values [B, N, C], the graph (None: nothing to walk) and its pairs (None: all streamed)."""

    values: Tensor
    graph: Graph | None
    pairs: Pairs | None


def walk(
    embeddings: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    tolerance: float = 0.0,
    adjoint: bool = False,
    exact_step: Callable[..., None] = exact_step,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> Walked:
    """The walk of :func:`rwpm_fast.walk` on batches: embeddings [B, N, D], values [B, N, C], mask [B, N]; checked.

    Args:
        adjoint: walk by the transpose of S, exactly.
        exact_step: makes an exact transition; :func:`rwpm_fast.ops.gpu.cuda_step.exact_step` may serve in its place.
        on_phase: called when a phase has been launched: "pack", "build", "steps".
    """
    if steps == 0 or values.numel() == 0 or embeddings.shape[1] < 2:
        return Walked(values.clone(memory_format=torch.contiguous_format), None, None)
    graph = pack_graph(embeddings, mask, temperature)
    # A gradient that is not finite must show: only values of a forward walk are looked at.
    start, factor = pack_state(values, graph, check=not adjoint)
    on_phase("pack")
    pairs = select_pairs(graph, tolerance, split=start.split) if tolerance > 0 and not adjoint else None
    sums = row_sums(graph, None if pairs is None else pairs.streams)
    on_phase("build")
    state = take_steps(graph, start, alpha, steps, pairs=pairs, sums=sums, adjoint=adjoint, exact_step=exact_step)
    walked = unpack_state(state, factor, graph, values)
    on_phase("steps")
    return Walked(walked, graph, pairs)
