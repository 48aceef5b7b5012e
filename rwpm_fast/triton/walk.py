"""The walk by Triton kernels: what is launched, in which order, on which memory. Nothing waits for the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import pack, selection, sparse, streaming
from .launch import launch, shared_memory
from .tiles import BLOCK, MOST_CHANNELS, padded_pixels, panels, power_of_two, split
from .tuning import selection_tile, streaming_tile

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

GROUP, PAGE = selection.GROUP.value, selection.PAGE.value

# Factors on the cosines beyond which nothing changes, and float32 would overflow.
STEEPEST, FLATTEST = 1e30, 1e-30

# At first a pixel keeps the pairs whose share of its row is at least the tolerance over a part of N; rows for which the
# rest adds up to more keep more in another pass. What nobody looks for is bounded by N times the smallest share looked
# for: `SEE_PART` of the tolerance.
KEPT_PART, FEWEST_KEPT, PASSES, SEE_PART = 1 / 40, 100, 3, 0.25

# Bytes of weights at most; and columns of a group, as a part of N, from which on streaming it is no slower.
MOST_BYTES = 2**29
DENSEST = 0.5

# Float rounding of a cosine made of products of 16-bit numbers, by half: two pixels make a pair.
ROUNDING = 2e-6


def unavailable(embeddings: Tensor, values: Tensor) -> str | None:
    """Why these kernels cannot walk such tensors, None when they can."""
    for name, t in {"embeddings": embeddings, "values": values}.items():
        if t.dtype not in DTYPES:
            return f"{name} are {t.dtype}, the kernels take float32, float16 and bfloat16"
    if embeddings.shape[-1] > MOST_CHANNELS:
        return f"embeddings have {embeddings.shape[-1]} channels, the kernels take up to {MOST_CHANNELS}"
    return None


class Split(NamedTuple):
    """Numbers as the kernels read them: one float16, or two of which the second counts 2^-11."""

    high: Tensor
    low: Tensor | None

    @classmethod
    def empty(cls, *shape: int, split: bool, device: torch.device) -> Split:
        high = torch.empty(shape, dtype=torch.float16, device=device)
        return cls(high, torch.empty_like(high) if split else None)

    @property
    def split(self) -> bool:
        return self.low is not None

    def pointers(self) -> tuple[Tensor, Tensor]:
        """Both; the first again where there is no second, which no kernel then reads."""
        return self.high, self.high if self.low is None else self.low

    def number(self) -> Tensor:
        return self.high.float() if self.low is None else self.high.float().add(self.low, alpha=2.0**-11)


@dataclass
class Graph:
    """Packed embeddings of a batch. See :mod:`rwpm_fast.triton.pack`."""

    pixels: int
    keys: Split  # [B, padded, D0 + D1]
    parts: tuple[int, int]  # D0, D1
    inverse: Tensor  # [B, padded]
    valid: Tensor  # [B, padded] int8
    off: Tensor  # [1]: a cosine of the first parts alone is off by no more than twice this
    scale: float

    @property
    def batch(self) -> int:
        return self.valid.shape[0]

    @property
    def padded(self) -> int:
        return self.valid.shape[1]


@dataclass
class Pairs:
    """The pairs that groups of rows keep."""

    order: Tensor  # [B * groups] int64
    begins: Tensor  # [B * groups] int64, -1: the group streams
    counts: Tensor  # [B * groups] int32
    columns: Tensor  # [capacity] int32
    weights: Split  # [capacity / PAGE, GROUP, PAGE]
    inverse_sum: Tensor  # [B, padded]
    dropped: Tensor  # [B, padded]
    streams: Tensor  # [B, blocks] int8


def pack_graph(embeddings: Tensor, mask: Tensor | None, temperature: float) -> Graph:
    """Pack embeddings [B, N, D], masked by [B, N]."""
    batch, pixels, channels = embeddings.shape
    padded, parts = padded_pixels(pixels), split(channels)
    width = sum(parts)
    keys = Split.empty(batch, padded, width, split=_splits(embeddings), device=embeddings.device)
    valid = torch.empty(batch, padded, dtype=torch.int8, device=embeddings.device)
    inverse = torch.empty(batch, padded, device=embeddings.device)
    off = torch.empty_like(inverse) if keys.split else inverse
    most = max(power_of_two(width), power_of_two(channels))
    rows = max(1, 8192 // most)
    masks = valid if mask is None else mask.view(torch.int8)
    launch(
        pack.pack_embeddings,
        (-(-padded // rows), batch),
        *(embeddings, masks, *keys.pointers(), off, inverse, valid, pixels, padded, channels),
        *(*embeddings.stride(), *masks.stride()),
        **dict(MASKED=mask is not None, SPLIT=keys.split, WIDTH=width, CHANNELS=most, ROWS=rows),
    )
    most_off = off.amax().view(1) + ROUNDING if keys.split else torch.full((1,), ROUNDING, device=off.device)
    scale = min(max(1 / temperature, FLATTEST), STEEPEST) * math.log2(math.e)
    return Graph(pixels, keys, parts, inverse, valid, most_off, scale)


def pack_state(values: Tensor, graph: Graph, *, check: bool) -> tuple[Split, Tensor]:
    """Values [B, N, C] as a state [B, padded, width], and the factors [B, C] that they carry there: powers of two that
    bring a channel's largest into [1/2, 1). With ``check`` a pixel whose value is not finite leaves the graph."""
    batch, pixels, channels = values.shape
    width = panels(channels)[-1].end
    most = min(power_of_two(width), 256)
    rows = 8192 // most
    largest = torch.empty(batch, -(-pixels // rows), channels, device=values.device)
    tile = {"ROWS": rows, "CHANNELS": most}
    launch(pack.largest_values, largest.shape[1::-1], values, largest, pixels, channels, *values.stride(), **tile)
    exponent = torch.frexp(largest.amax(1)).exponent.clamp(-125, 125)
    factor = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), -exponent)
    state = Split.empty(batch, graph.padded, width, split=_splits(values), device=values.device)
    launch(
        pack.pack_values,
        (-(-graph.padded // rows), batch),
        *(values, factor, graph.valid, *state.pointers(), pixels, graph.padded, channels, width, *values.stride()),
        **dict(CHECK=check, SPLIT=state.split, **tile),
    )
    return state, factor


def _splits(t: Tensor) -> bool:
    # Who lets torch multiply float32 in TF32 gets the digits of TF32, which are those of float16.
    return t.dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32


def row_sums(graph: Graph, streams: Tensor | None) -> Tensor:
    """log2 of the sums of the rows that stream, of all if None: [B, padded]."""
    log_sum = torch.empty_like(graph.inverse)
    tile = streaming_tile(sum(graph.parts) * _parts(graph.keys), 0, shared_memory(log_sum.device))
    launch(
        streaming.row_sums,
        (graph.padded // tile.rows, graph.batch),
        *(*graph.keys.pointers(), graph.inverse, graph.valid, graph.valid if streams is None else streams, log_sum),
        *(graph.scale, graph.padded),
        **dict(D0=graph.parts[0], D1=graph.parts[1], BM=tile.rows, BN=tile.columns, BLOCK=BLOCK),
        **dict(CHOSEN=streams is not None, SPLIT_KEYS=graph.keys.split),
        **dict(num_warps=tile.warps, num_stages=tile.stages),
    )
    return log_sum


def stream(
    graph: Graph, log_sum: Tensor, streams: Tensor | None, start: Split, source: Split, target: Split,
    alpha: float, adjoint: bool,
) -> None:  # fmt: skip
    """One exact transition of the blocks that stream, of all if None."""
    width = source.high.shape[2]
    for panel in panels(width):
        carried = (panel.main + panel.tail) * _parts(source)
        tile = streaming_tile(sum(graph.parts) * _parts(graph.keys), carried, shared_memory(log_sum.device))
        launch(
            streaming.step,
            (graph.padded // tile.rows, panel.count, graph.batch),
            *(*graph.keys.pointers(), graph.inverse, log_sum, graph.valid if streams is None else streams),
            *(*start.pointers(), *source.pointers(), *target.pointers()),
            *(graph.scale, alpha, graph.padded, width, panel.first),
            **dict(D0=graph.parts[0], D1=graph.parts[1], C0=panel.main, C1=panel.tail, BM=tile.rows, BN=tile.columns),
            **dict(BLOCK=BLOCK, SPLIT_KEYS=graph.keys.split, SPLIT_VALUES=source.split),
            **dict(CHOSEN=streams is not None, ADJOINT=adjoint, num_warps=tile.warps, num_stages=tile.stages),
        )


def _parts(numbers: Split) -> int:
    return 2 if numbers.split else 1


def select_pairs(graph: Graph, tolerance: float, *, split: bool) -> Pairs:
    """Look at all pairs, list those that matter, and weigh them."""
    batch, padded, pixels, device = graph.batch, graph.padded, graph.pixels, graph.valid.device
    groups, words = padded // GROUP, padded // 32
    see = tolerance * SEE_PART / pixels
    keep = max(see, min(tolerance / max(FEWEST_KEPT, pixels * KEPT_PART), 0.5 / pixels))
    keeps = torch.full_like(graph.inverse, math.log2(keep))
    dropped, log_sum = torch.empty_like(keeps), torch.empty_like(keeps)
    bits = torch.empty(batch, groups, words, dtype=torch.int32, device=device)
    counts = torch.empty(batch, groups, dtype=torch.int32, device=device)
    tile = selection_tile(sum(graph.parts), shared_memory(device))
    for number in range(PASSES):
        launch(
            selection.select,
            (padded // tile.rows, batch),
            *(
                graph.keys.high,
                graph.inverse,
                graph.valid,
                graph.off,
                keeps,
                dropped,
                log_sum,
                bits,
                counts,
                graph.scale,
            ),
            *(math.log2(see), math.log2(tolerance), pixels, padded, int(number == 0), int(number == PASSES - 1)),
            **dict(D0=graph.parts[0], D1=graph.parts[1], BM=tile.rows, BN=tile.columns),
            **dict(num_warps=tile.warps, num_stages=tile.stages),
        )

    # A block streams when a row of it drops too much, or when its groups' lists are long or find no room.
    capacity = PAGE * (min(MOST_BYTES // (GROUP * (4 if split else 2)), batch * groups * padded) // PAGE)
    wide = (dropped > tolerance).view(batch, groups, GROUP).any(2)
    listed = torch.where(wide | (counts > DENSEST * pixels), 0, (counts + PAGE - 1) // PAGE * PAGE).flatten().long()
    end = listed.cumsum(0)
    fits = (listed > 0) | (counts.flatten() == 0)
    fits = (fits & (end <= capacity)).view(batch, padded // BLOCK, BLOCK // GROUP).all(2)  # [B, blocks]
    in_block = fits.repeat_interleave(BLOCK // GROUP, 1).flatten()
    begins = torch.where(in_block, end - listed, -1)
    counts = counts.flatten()

    columns = torch.empty(capacity, dtype=torch.int32, device=device)
    weights = Split.empty(capacity // PAGE, GROUP, PAGE, split=split, device=device)
    inverse_sum = torch.empty_like(graph.inverse)
    launch(selection.list_columns, (batch * groups,), bits, counts, begins, columns, words, WORDS=32, PAGE=PAGE)
    launch(
        sparse.weigh,
        (batch * groups,),
        *(*graph.keys.pointers(), graph.inverse, graph.valid, log_sum, begins, counts, columns),
        *(*weights.pointers(), inverse_sum, graph.scale, padded),
        **dict(D0=graph.parts[0], D1=graph.parts[1], GROUP=GROUP, PAGE=PAGE, SPLIT_KEYS=graph.keys.split),
        **dict(SPLIT_VALUES=split, num_warps=4, num_stages=1 if graph.keys.split else 2),
    )
    order = listed.argsort(descending=True, stable=True)
    return Pairs(order, begins, counts, columns, weights, inverse_sum, dropped, (~fits).to(torch.int8))


def sparse_step(pairs: Pairs, start: Split, source: Split, target: Split, alpha: float) -> None:
    """One transition of the groups that have a list."""
    _, padded, width = source.high.shape
    for panel in panels(width):
        launch(
            sparse.step,
            (len(pairs.order), panel.count),
            *(pairs.order, pairs.begins, pairs.counts, pairs.columns, *pairs.weights.pointers(), pairs.inverse_sum),
            *(*start.pointers(), *source.pointers(), *target.pointers(), alpha, padded, width, panel.first),
            **dict(C0=panel.main, C1=panel.tail, GROUP=GROUP, PAGE=PAGE, SPLIT=source.split),
            **dict(num_warps=8 if source.split else 4, num_stages=2 if source.split else 3),
        )


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
) -> tuple[Tensor, Graph | None, Pairs | None]:
    """The walk of :func:`rwpm_fast.walk` on batches: embeddings [B, N, D], values [B, N, C], mask [B, N]; checked.

    Returns:
        Walked values; the packed graph, None where there was nothing to walk; the pairs kept, None where all streams.
    """
    if steps == 0 or values.numel() == 0 or embeddings.shape[1] < 2:
        return values.clone(memory_format=torch.contiguous_format), None, None
    sparse_path = tolerance > 0 and not adjoint
    graph = pack_graph(embeddings, mask, temperature)
    # A gradient that is not finite must show: only values of a forward walk are looked at.
    start, factor = pack_state(values, graph, check=not adjoint)
    pairs = select_pairs(graph, tolerance, split=start.split) if sparse_path else None
    streams = None if pairs is None else pairs.streams
    log_sum = row_sums(graph, streams)
    state, free = start, None
    for _ in range(steps):
        if free is None:
            free = Split.empty(*start.high.shape, split=start.split, device=start.high.device)
        target = free
        if pairs is not None:
            sparse_step(pairs, start, state, target, alpha)
        stream(graph, log_sum, streams, start, state, target, alpha, adjoint)
        state, free = target, (None if state is start else state)
    n, channels = values.shape[1:]
    walked = (state.number()[:, :n, :channels] / factor[:, None]).to(values.dtype)
    valid = graph.valid[:, :n] != 0
    inside = valid & (valid.sum(1, keepdim=True) > 1)  # a pixel without another keeps its value
    return torch.where(inside[..., None], walked, values), graph, pairs
