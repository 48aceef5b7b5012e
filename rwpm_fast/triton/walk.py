"""The walk by Triton kernels: what is launched, in which order. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from . import streaming
from .launch import launch, shared_memory
from .packed import Graph, Split, pack_graph, pack_state, unpack_state
from .pairs import Pairs, select_pairs, sparse_step
from .tiles import BLOCK, MOST_CHANNELS, panels
from .tuning import streaming_tile

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def unavailable(embeddings: Tensor, values: Tensor) -> str | None:
    """Why these kernels cannot walk such tensors, None when they can."""
    for name, t in {"embeddings": embeddings, "values": values}.items():
        if t.dtype not in DTYPES:
            return f"{name}: expected float32, float16 or bfloat16, got {t.dtype}"
    if embeddings.shape[-1] > MOST_CHANNELS:
        return f"embeddings: expected up to {MOST_CHANNELS} channels, got {embeddings.shape[-1]}"
    return None


class RowSums(NamedTuple):
    """Of every row the largest logit and one over the sum of the weights beside it, [B, padded]."""

    largest: Tensor
    inverse: Tensor


def row_sums(graph: Graph, streams: Tensor | None) -> RowSums:
    """The sums of the rows that stream, of all if None."""
    sums = RowSums(torch.empty_like(graph.inverse), torch.empty_like(graph.inverse))
    tile = streaming_tile(sum(graph.channels) * graph.keys.parts, 0, shared_memory(graph.valid.device))
    launch(
        streaming.row_sums,
        (graph.padded // tile.rows, graph.batch),
        *(*graph.keys.pointers(), graph.inverse, graph.valid, graph.valid if streams is None else streams, *sums),
        *(graph.scale, graph.padded),
        D0=graph.channels[0],
        D1=graph.channels[1],
        BM=tile.rows,
        BN=tile.columns,
        BLOCK=BLOCK,
        CHOSEN=streams is not None,
        SPLIT_KEYS=graph.keys.split,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return sums


def stream(
    graph: Graph, sums: RowSums, streams: Tensor | None, start: Split, source: Split, target: Split,
    alpha: float, adjoint: bool,
) -> None:  # fmt: skip
    """One exact transition of the blocks that stream, of all if None."""
    width = source.high.shape[2]
    for panel in panels(width, source.parts):
        carried = (panel.main + panel.tail) * source.parts
        tile = streaming_tile(sum(graph.channels) * graph.keys.parts, carried, shared_memory(graph.valid.device))
        launch(
            streaming.step,
            (graph.padded // tile.rows, panel.count, graph.batch),
            *(*graph.keys.pointers(), graph.inverse, *sums, graph.valid if streams is None else streams),
            *(*start.pointers(), *source.pointers(), *target.pointers()),
            *(graph.scale, alpha, graph.padded, width, panel.first),
            D0=graph.channels[0],
            D1=graph.channels[1],
            C0=panel.main,
            C1=panel.tail,
            BM=tile.rows,
            BN=tile.columns,
            BLOCK=BLOCK,
            SPLIT_KEYS=graph.keys.split,
            SPLIT_VALUES=source.split,
            CHOSEN=streams is not None,
            ADJOINT=adjoint,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )


def take_steps(
    graph: Graph,
    start: Split,
    alpha: float,
    steps: int,
    *,
    pairs: Pairs | None = None,
    sums: RowSums | None = None,
    adjoint: bool = False,
    stream: Callable[..., None] = stream,
) -> Split:
    """The state after ``steps`` transitions: over pairs, and by streaming what they say or, without pairs, all; without
    sums no block streams."""
    state, free = start, None
    for _ in range(steps):
        target = free or Split.empty(*start.high.shape, split=start.split, device=start.high.device)
        if pairs is not None:
            sparse_step(pairs, start, state, target, alpha)
        if sums is not None:
            stream(graph, sums, None if pairs is None else pairs.streams, start, state, target, alpha, adjoint)
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
    stream: Callable[..., None] = stream,
    reached: Callable[[str], None] = lambda phase: None,
) -> Walked:
    """The walk of :func:`rwpm_fast.walk` on batches: embeddings [B, N, D], values [B, N, C], mask [B, N]; checked.

    Args:
        adjoint: walk by the transpose of S, exactly.
        stream: what makes an exact transition; :func:`rwpm_fast.cuda.stream` in its place.
        reached: called when a phase has been launched: "pack", "compile", "steps".
    """
    if steps == 0 or values.numel() == 0 or embeddings.shape[1] < 2:
        return Walked(values.clone(memory_format=torch.contiguous_format), None, None)
    graph = pack_graph(embeddings, mask, temperature)
    # A gradient that is not finite must show: only values of a forward walk are looked at.
    start, factor = pack_state(values, graph, check=not adjoint)
    reached("pack")
    pairs = select_pairs(graph, tolerance, split=start.split) if tolerance > 0 and not adjoint else None
    sums = row_sums(graph, None if pairs is None else pairs.streams)
    reached("compile")
    state = take_steps(graph, start, alpha, steps, pairs=pairs, sums=sums, adjoint=adjoint, stream=stream)
    walked = unpack_state(state, factor, graph, values)
    reached("steps")
    return Walked(walked, graph, pairs)
