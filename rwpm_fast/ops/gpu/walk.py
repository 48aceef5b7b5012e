"""The walk by Triton kernels: what is launched, in which order. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..anchor import own_weights
from ..settings import is_anchored
from .anchor import log_sums, take_transposed_steps
from .exact import RowSums, exact_step, row_sums
from .kernels.tiles import MAX_CHANNELS
from .pack import HalfPair, PackedGraph, pack_graph, pack_state, unpack_state
from .screen import DEFAULT_CONFIG, ScreenConfig
from .sparse import Pairs, build_pairs, sparse_step

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def unsupported_reason(embeddings: Tensor, values: Tensor) -> str | None:
    """Say why these kernels cannot walk such tensors; None when they can."""
    for name, t in {"embeddings": embeddings, "values": values}.items():
        if t.dtype not in DTYPES:
            return f"{name}: expected float32, float16 or bfloat16, got {t.dtype}"
    if embeddings.shape[-1] > MAX_CHANNELS:
        return f"embeddings: expected up to {MAX_CHANNELS} channels, got {embeddings.shape[-1]}"
    return None


def take_steps(
    graph: PackedGraph,
    start: HalfPair,
    alpha: Tensor,
    steps: int,
    *,
    pairs: Pairs | None = None,
    sums: RowSums | None = None,
    adjoint: bool = False,
    exact_step: Callable[..., None] = exact_step,
) -> HalfPair:
    """Walk a packed state.

    Args:
        graph: packed embeddings.
        start: [B, padded, C].
        alpha: [B, padded], in [0, 1].
        steps: number of transitions, >= 0.
        pairs: kept pairs of the rows that do not stream; None: every row streams.
        sums: of the rows that stream; None: no row does.
        adjoint: whether to take the transpose of S; without pairs alone.
        exact_step: makes an exact transition; see :func:`walk_batch`.

    Returns:
        The state after the last step.
    """
    state, free = start, None
    for _ in range(steps):
        target = free or HalfPair.empty(*start.high.shape, has_low=start.has_low, device=start.high.device)
        if pairs is not None:
            sparse_step(pairs, start, state, target, alpha)
        if sums is not None:
            streaming_blocks = None if pairs is None else pairs.streaming_blocks
            exact_step(graph, sums, streaming_blocks, start, state, target, alpha, adjoint)
        state, free = target, (None if state is start else state)
    return state


class WalkResult(NamedTuple):
    """A walk and what it was made with.

    Attributes:
        values: [B, N, C], walked.
        graph: packed embeddings; None: there was nothing to walk.
        pairs: kept pairs; None: every row streamed.
        own_weight: [B, padded], weight of every pixel's own value; None without an anchor.
    """

    values: Tensor
    graph: PackedGraph | None
    pairs: Pairs | None
    own_weight: Tensor | None


def walk_batch(
    embeddings: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    tolerance: float = 0.0,
    anchor: float = -1.0,
    anchor_share: float = 0.0,
    adjoint: bool = False,
    exact_step: Callable[..., None] = exact_step,
    on_phase: Callable[[str], None] = lambda phase: None,
    config: ScreenConfig = DEFAULT_CONFIG,
) -> WalkResult:
    """Walk batches of checked tensors; see :func:`rwpm_fast.walk`.

    Args:
        embeddings: [B, N, D].
        values: [B, N, C].
        mask: [B, N], or None.
        alpha: probability to go on, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: of the softmax, > 0.
        tolerance: share of its mass that a row may drop, in [0, 1); 0: the exact walk.
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.
        adjoint: whether to walk by the transpose of S; without a tolerance alone (see
            :func:`rwpm_fast.ops.gpu.backward.walk_adjoint`).
        exact_step: makes an exact transition; :func:`rwpm_fast.ops.gpu.cuda_step.exact_step` may serve in its place.
        on_phase: called when a phase has been launched: "pack", "build", "steps".
        config: how pairs are screened and selected.
    """
    if steps == 0 or values.numel() == 0 or embeddings.shape[1] < 2:
        return WalkResult(values.clone(memory_format=torch.contiguous_format), None, None, None)
    graph = pack_graph(embeddings, mask, temperature)
    # A gradient that is not finite must show: values are checked in a forward walk only.
    start, factor = pack_state(values, graph, check=not adjoint)
    on_phase("pack")
    pairs = None
    if tolerance > 0:
        pairs = build_pairs(graph, tolerance, has_low=start.has_low, config=config)
    sums = row_sums(graph, None if pairs is None else pairs.streaming_blocks)
    own_weight = None
    if is_anchored(anchor, anchor_share):
        own_weight = own_weights(
            log_sums(sums, pairs), temperature=temperature, anchor=anchor, anchor_share=anchor_share
        )
    continuing = graph.per_row(alpha) if own_weight is None else alpha * (1 - own_weight)
    on_phase("build")
    if adjoint and own_weight is not None:
        state = take_transposed_steps(graph, start, continuing, steps, sums=sums, exact_step=exact_step)
    else:
        state = take_steps(
            graph, start, continuing, steps, pairs=pairs, sums=sums, adjoint=adjoint, exact_step=exact_step
        ).to_float()
    walked = unpack_state(state, factor, graph, values)
    on_phase("steps")
    return WalkResult(walked, graph, pairs, own_weight)
