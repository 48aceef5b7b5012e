"""The pairs of a graph that matter, listed and weighed, and a transition over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .kernels import select as select_kernels
from .kernels import sparse as kernels
from .kernels.tiles import BLOCK, channel_tiles
from .launch import device_memory, launch, shared_memory
from .pack import HalfPair, PackedGraph
from .screen import DEFAULT_CONFIG, GROUP, ScreenConfig, screen_pairs
from .tuning import weigh_tile

WEIGHT_BLOCK = select_kernels.WEIGHT_BLOCK.value

# There is room for so many columns of a group on average, or for a part of N where that is more; and for no more than a
# part of the device's memory. docs/design/sparse-gpu.md says how many columns embeddings need.
MEAN_COLUMNS, PIXEL_FRACTION, MEMORY_FRACTION = 3072, 1 / 32, 1 / 4


@dataclass
class Pairs:
    """The pairs that groups of GROUP rows keep.

    Attributes:
        order: [B * groups] int64, the groups, those with the longest lists first.
        begins: [B * groups] int64, where a group's list begins in `columns`; -1: the group streams.
        counts: [B * groups] int32, columns of a group.
        columns: [capacity] int32; lists are padded to whole blocks of WEIGHT_BLOCK.
        weights: [capacity / WEIGHT_BLOCK, GROUP, WEIGHT_BLOCK], 2^15 times as large; not normalized.
        weight_factor: [B, padded], one over the sum of a row's weights as they are stored, 2^-15 included; not written
            for groups that stream.
        log_unit: [B, padded], log2 of the unit of a row's weights, of which weight_factor leaves out the 2^15.
        dropped_mass: [B, padded], upper bound of the share of its mass that a row drops.
        streaming_blocks: [B, padded / BLOCK] int8, blocks of rows that stream.
    """

    order: Tensor
    begins: Tensor
    counts: Tensor
    columns: Tensor
    weights: HalfPair
    weight_factor: Tensor
    log_unit: Tensor
    dropped_mass: Tensor
    streaming_blocks: Tensor

    def pointers(self) -> tuple[Tensor, ...]:
        """The lists in the order of :mod:`rwpm_fast.ops.gpu.kernels`."""
        return self.begins, self.counts, self.columns, *self.weights.pointers(), self.weight_factor

    def image(self, index: int) -> Pairs:
        """The pairs of one image, a batch of one, in the lists of all."""
        groups = self.weight_factor.shape[1] // GROUP
        one, own = slice(index, index + 1), slice(index * groups, (index + 1) * groups)
        rows = {
            name: getattr(self, name)[one] for name in ("weight_factor", "log_unit", "dropped_mass", "streaming_blocks")
        }
        begins, counts = self.begins[own], self.counts[own]
        order = torch.where(begins < 0, 0, counts).argsort(descending=True, stable=True)
        return replace(self, order=order, begins=begins, counts=counts, **rows)

    def stats(self, graph: PackedGraph) -> dict[str, Any]:
        """Path, pairs that a transition goes over, and largest dropped mass of a batch of one; waits for the device."""
        valid = graph.valid != 0
        listed = (self.begins >= 0)[:, None] & valid.view(-1, GROUP)  # [groups, GROUP]
        rows, pixels = int(listed.sum()), int(valid.sum())
        # A pixel's own column may be among its group's.
        kept = int((listed.sum(1) * self.counts).sum()) + (pixels - rows) * (pixels - 1)
        path = "sparse" if rows == pixels else "streaming" if rows == 0 else "mixed"
        dropped_mass = torch.where(listed, self.dropped_mass.view(-1, GROUP), 0).amax()
        return {"path": path, "kept": kept, "dropped_mass": float(dropped_mass)}


def build_pairs(graph: PackedGraph, tolerance: float, *, has_low: bool, config: ScreenConfig = DEFAULT_CONFIG) -> Pairs:
    """Screen all pairs, list those that matter, and weigh them.

    Args:
        graph: packed embeddings.
        tolerance: share of its mass that a row may drop, in (0, 1).
        has_low: whether the weights are stored in two halves, like the state that they multiply.
        config: how pairs are screened and selected.
    """
    batch, padded, pixels, device = graph.batch, graph.padded, graph.pixels, graph.valid.device
    groups, words = padded // GROUP, padded // 32
    mask = screen_pairs(graph, tolerance, config)

    columns, weights = allocate_lists(graph, has_low)
    # A block streams if a row of it drops too much, or if its groups' lists are long or find no room.
    over_budget = (mask.dropped_mass > tolerance).view(batch, groups, GROUP).any(2)
    streams = (over_budget | (mask.counts > config.max_density * pixels)).flatten()
    counts = mask.counts.flatten()
    slots = torch.where(streams, 0, (counts + WEIGHT_BLOCK - 1) // WEIGHT_BLOCK * WEIGHT_BLOCK).long()
    end = slots.cumsum(0)
    streaming_blocks = (streams | (end > len(columns))).view(batch, padded // BLOCK, BLOCK // GROUP).any(2)
    begins = torch.where(streaming_blocks.repeat_interleave(BLOCK // GROUP, 1).flatten(), -1, end - slots)

    weight_factor = torch.empty_like(graph.inv_norm)
    order = slots.argsort(descending=True, stable=True)
    pairs = Pairs(
        order,
        begins,
        counts,
        columns,
        weights,
        weight_factor,
        mask.max_logit_bound,
        mask.dropped_mass,
        streaming_blocks.to(torch.int8),
    )
    launch(
        select_kernels.list_columns,
        (batch * groups,),
        *(mask.bits, begins, counts, columns, words),
        WORDS=32,
        WEIGHT_BLOCK=WEIGHT_BLOCK,
    )
    tile = weigh_tile(sum(graph.channels) * graph.keys.halves, shared_memory(device))
    launch(
        kernels.weigh,
        (batch * groups, GROUP // tile.rows),
        *(*graph.pointers(), mask.max_logit_bound, *pairs.pointers(), graph.scale, padded),
        D0=graph.channels[0],
        D1=graph.channels[1],
        GROUP=GROUP,
        WEIGHT_BLOCK=WEIGHT_BLOCK,
        BM=tile.rows,
        BN=tile.columns,
        KEYS_HAVE_LOW=graph.keys.has_low,
        VALUES_HAVE_LOW=has_low,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return pairs


def allocate_lists(graph: PackedGraph, has_low: bool) -> tuple[Tensor, HalfPair]:
    """Memory for the columns and weights of all groups; less where the device has less, down to none."""
    device, groups = graph.valid.device, graph.batch * graph.padded // GROUP
    blocks = int(groups * min(graph.padded, max(MEAN_COLUMNS, PIXEL_FRACTION * graph.pixels)) / WEIGHT_BLOCK)
    block_bytes = WEIGHT_BLOCK * GROUP * (4 if has_low else 2)
    blocks = min(blocks, int(MEMORY_FRACTION * device_memory(device) / block_bytes))
    while True:
        try:
            weights = HalfPair.empty(blocks, GROUP, WEIGHT_BLOCK, has_low=has_low, device=device)
            return torch.empty(blocks * WEIGHT_BLOCK, dtype=torch.int32, device=device), weights
        except torch.OutOfMemoryError:
            if not blocks:
                raise
            blocks //= 2


def sparse_step(pairs: Pairs, start: HalfPair, source: HalfPair, target: HalfPair, alpha: Tensor) -> None:
    """Make one transition of the groups that have a list, ``target = alpha_i S source + (1 - alpha_i) start``.

    Args:
        pairs: of the graph, with weights in as many halves as the states.
        start: [B, padded, C].
        source: [B, padded, C].
        target: [B, padded, C], written; groups that stream are left as they are.
        alpha: [B, padded], in [0, 1].
    """
    _, padded, width = source.high.shape
    for channels in channel_tiles(width, source.halves):
        launch(
            kernels.step,
            (len(pairs.order), channels.tiles),
            *(pairs.order, *pairs.pointers(), alpha, *start.pointers(), *source.pointers(), *target.pointers()),
            *(padded, width, channels.first),
            C0=channels.main,
            C1=channels.tail,
            GROUP=GROUP,
            WEIGHT_BLOCK=WEIGHT_BLOCK,
            VALUES_HAVE_LOW=source.has_low,
            num_warps=4,
            num_stages=3,
        )
