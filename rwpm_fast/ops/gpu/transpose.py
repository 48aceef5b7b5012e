"""Products with the transpose of a matrix of listed pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kernels import transpose as kernels
from .kernels.tiles import power_of_two
from .launch import launch
from .pack import HalfPair
from .sparse import GROUP, WEIGHT_BLOCK, Pairs

# Channels at a time. What 64 channels add to the columns, a float32 for every slot, takes the room of the weights.
CHANNELS = 64


class ColumnSlots(NamedTuple):
    """The slots of a batch's lists by column.

    Attributes:
        slots: [capacity] int64, in the order of their columns; the unused ones last.
        firsts: [B * padded + 1] int64, where a column's slots begin in it.
    """

    slots: Tensor
    firsts: Tensor


class TransposablePairs(NamedTuple):
    """Pairs whose transpose can be multiplied, too."""

    rows: Pairs
    columns: ColumnSlots

    def image(self, index: int) -> TransposablePairs:
        """Those of one image, a batch of one."""
        padded = self.rows.weight_factor.shape[1]
        firsts = self.columns.firsts[index * padded : (index + 1) * padded + 1]
        return TransposablePairs(self.rows.image(index), self.columns._replace(firsts=firsts))


def sort_slots(pairs: Pairs) -> ColumnSlots:
    """Sort the slots of a batch of lists by column."""
    padded = pairs.weight_factor.shape[1]
    capacity, groups, device = len(pairs.columns), len(pairs.begins), pairs.columns.device
    slot = torch.arange(capacity, device=device)
    # A slot belongs to the last group that begins before it. Groups without columns begin where the next one does.
    begins = torch.where(pairs.begins < 0, capacity, pairs.begins)
    owner = slot.new_zeros(capacity + 1)
    owner = owner.scatter_reduce_(0, begins, torch.arange(groups, device=device), "amax")[:capacity].cummax(0).values
    begin = pairs.begins[owner]
    used = (begin >= 0) & (slot < begin + pairs.counts[owner])
    images = len(pairs.begins) * GROUP // padded
    column = owner // (padded // GROUP) * padded + pairs.columns
    column, slots = torch.where(used, column, images * padded).sort(stable=True)
    return ColumnSlots(slots, torch.searchsorted(column, torch.arange(images * padded + 1, device=device)))


def transposed_product(pairs: TransposablePairs, source: HalfPair) -> Tensor:
    """Multiply by the transpose of the weights as they are stored, without ``weight_factor``.

    Args:
        pairs: with weights in two halves.
        source: [B, padded, width], in two halves.

    Returns:
        [B, padded, width] float32.
    """
    rows, columns = pairs
    width = source.high.shape[2]
    target = torch.empty_like(source.high, dtype=torch.float32)
    for first in range(0, width, CHANNELS):
        channels = min(CHANNELS, power_of_two(width - first))
        slot_values = torch.empty(len(columns.slots), channels, device=target.device)
        launch(
            kernels.spread,
            (len(rows.order),),
            *(rows.order, rows.begins, rows.counts, *rows.weights.pointers()),
            *(*source.pointers(), slot_values, width, first),
            CHANNELS=channels,
            GROUP=GROUP,
            WEIGHT_BLOCK=WEIGHT_BLOCK,
            num_warps=4,
            num_stages=2,
        )
        at_once = 2048 // channels
        launch(
            kernels.gather,
            (target[..., 0].numel() // at_once,),
            *(slot_values, *columns, target, width, first),
            CHANNELS=channels,
            ROWS=at_once,
            num_warps=4,
        )
    return target
