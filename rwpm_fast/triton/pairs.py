"""The pairs that matter of a graph: found, listed, weighed; and a transition over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import selection, sparse
from .launch import launch, shared_memory
from .packed import Graph, Split
from .tiles import BLOCK, panels
from .tuning import selection_tile

GROUP, PAGE = selection.GROUP.value, selection.PAGE.value

# At first a pixel keeps the pairs whose share of its row is at least the tolerance over a part of N; rows for which the
# rest adds up to more keep more in another pass. What nobody looks for is bounded by N times the smallest share looked
# for: `SEE_PART` of the tolerance.
KEPT_PART, FEWEST_KEPT, PASSES, SEE_PART = 1 / 40, 100, 3, 0.25

# Bytes of weights at most; and columns of a group, as a part of N, from which on streaming it is no slower.
MOST_BYTES = 2**29
DENSEST = 0.5


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

    def facts(self, graph: Graph) -> dict[str, Any]:
        """Path, pairs that a transition goes over, and largest dropped mass of a batch of one; waits for the device."""
        valid = graph.valid != 0
        listed = (self.begins >= 0)[:, None] & valid.view(-1, GROUP)  # [groups, GROUP]
        rows, pixels = int(listed.sum()), int(valid.sum())
        # A pixel's own column may be among its group's.
        kept = int((listed.sum(1) * self.counts).sum()) + (pixels - rows) * (pixels - 1)
        path = "sparse" if rows == pixels else "streaming" if rows == 0 else "mixed"
        dropped = torch.where(listed, self.dropped.view(-1, GROUP), 0).amax()
        return {"path": path, "kept": kept, "dropped_mass": float(dropped)}


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
    tile = selection_tile(sum(graph.channels), shared_memory(device))
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
            D0=graph.channels[0],
            D1=graph.channels[1],
            BM=tile.rows,
            BN=tile.columns,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )

    # A block streams when a row of it drops too much, or when its groups' lists are long or find no room.
    capacity = PAGE * (min(MOST_BYTES // (GROUP * (4 if split else 2)), batch * groups * padded) // PAGE)
    wide = (dropped > tolerance).view(batch, groups, GROUP).any(2)
    unfit = (wide | (counts > DENSEST * pixels)).flatten()
    counts = counts.flatten()
    listed = torch.where(unfit, 0, (counts + PAGE - 1) // PAGE * PAGE).long()
    end = listed.cumsum(0)
    streams = (unfit | (end > capacity)).view(batch, padded // BLOCK, BLOCK // GROUP).any(2)  # [B, blocks]
    begins = torch.where(streams.repeat_interleave(BLOCK // GROUP, 1).flatten(), -1, end - listed)

    columns = torch.empty(capacity, dtype=torch.int32, device=device)
    weights = Split.empty(capacity // PAGE, GROUP, PAGE, split=split, device=device)
    inverse_sum = torch.empty_like(graph.inverse)
    launch(selection.list_columns, (batch * groups,), bits, counts, begins, columns, words, WORDS=32, PAGE=PAGE)
    launch(
        sparse.weigh,
        (batch * groups,),
        *(*graph.keys.pointers(), graph.inverse, graph.valid, log_sum, begins, counts, columns),
        *(*weights.pointers(), inverse_sum, graph.scale, padded),
        D0=graph.channels[0],
        D1=graph.channels[1],
        GROUP=GROUP,
        PAGE=PAGE,
        SPLIT_KEYS=graph.keys.split,
        SPLIT_VALUES=split,
        num_warps=4,
        num_stages=1 if graph.keys.split else 2,
    )
    order = listed.argsort(descending=True, stable=True)
    return Pairs(order, begins, counts, columns, weights, inverse_sum, dropped, streams.to(torch.int8))


def sparse_step(pairs: Pairs, start: Split, source: Split, target: Split, alpha: float) -> None:
    """One transition of the groups that have a list."""
    _, padded, width = source.high.shape
    for panel in panels(width, source.parts):
        launch(
            sparse.step,
            (len(pairs.order), panel.count),
            *(pairs.order, pairs.begins, pairs.counts, pairs.columns, *pairs.weights.pointers(), pairs.inverse_sum),
            *(*start.pointers(), *source.pointers(), *target.pointers(), alpha, padded, width, panel.first),
            C0=panel.main,
            C1=panel.tail,
            GROUP=GROUP,
            PAGE=PAGE,
            SPLIT=source.split,
            num_warps=4,
            num_stages=3,
        )
