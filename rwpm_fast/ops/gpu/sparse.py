"""The pairs that matter of a graph: listed, weighed; and a transition over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .kernels import select as selection
from .kernels import sparse
from .kernels.tiles import BLOCK, panels
from .launch import device_memory, launch, shared_memory
from .pack import Graph, Split
from .screen import DENSEST, GROUP, look
from .tuning import weighing_tile

PAGE = selection.PAGE.value

# There is room for so many columns of a group on average, or for a part of N where that is more; and for no more than a
# part of the device's memory. DABNet's embeddings enlarged to 184x320 need 1300 to 2100, to 512x1024 8000 to 12500;
# smooth synthetic ones 2900 and 15500.
COLUMNS, PART_OF_PIXELS, PART_OF_MEMORY = 3072, 1 / 32, 1 / 4


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
    _, dropped, largest, bits, counts = look(graph, tolerance)

    columns, weights = _room(graph, split)
    # A block streams when a row of it drops too much, or when its groups' lists are long or find no room.
    wide = (dropped > tolerance).view(batch, groups, GROUP).any(2)
    unfit = (wide | (counts > DENSEST * pixels)).flatten()
    counts = counts.flatten()
    listed = torch.where(unfit, 0, (counts + PAGE - 1) // PAGE * PAGE).long()
    end = listed.cumsum(0)
    streams = (unfit | (end > len(columns))).view(batch, padded // BLOCK, BLOCK // GROUP).any(2)  # [B, blocks]
    begins = torch.where(streams.repeat_interleave(BLOCK // GROUP, 1).flatten(), -1, end - listed)

    inverse_sum = torch.empty_like(graph.inverse)
    launch(selection.list_columns, (batch * groups,), bits, counts, begins, columns, words, WORDS=32, PAGE=PAGE)
    tile = weighing_tile(sum(graph.channels) * graph.keys.parts, shared_memory(device))
    launch(
        sparse.weigh,
        (batch * groups, GROUP // tile.rows),
        *(*graph.keys.pointers(), graph.inverse, graph.valid, largest, begins, counts, columns),
        *(*weights.pointers(), inverse_sum, graph.scale, padded),
        D0=graph.channels[0],
        D1=graph.channels[1],
        GROUP=GROUP,
        PAGE=PAGE,
        BM=tile.rows,
        BN=tile.columns,
        SPLIT_KEYS=graph.keys.split,
        SPLIT_VALUES=split,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    order = listed.argsort(descending=True, stable=True)
    return Pairs(order, begins, counts, columns, weights, inverse_sum, dropped, streams.to(torch.int8))


def _room(graph: Graph, split: bool) -> tuple[Tensor, Split]:
    """Memory for the columns and weights of all groups; less where the device has less, down to none."""
    device, groups = graph.valid.device, graph.batch * graph.padded // GROUP
    pages = int(groups * min(graph.padded, max(COLUMNS, PART_OF_PIXELS * graph.pixels)) / PAGE)
    pages = min(pages, int(PART_OF_MEMORY * device_memory(device) / (PAGE * GROUP * (4 if split else 2))))
    while True:
        try:
            weights = Split.empty(pages, GROUP, PAGE, split=split, device=device)
            return torch.empty(pages * PAGE, dtype=torch.int32, device=device), weights
        except torch.OutOfMemoryError:
            if not pages:
                raise
            pages //= 2


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
