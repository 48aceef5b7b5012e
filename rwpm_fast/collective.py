"""What the processes of a training that ``torchrun`` started do together; a single process without them.

Where another process went away, all raise ConnectionError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .io.processes import together

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place."""
    if count() > 1:
        with together():
            dist.all_reduce(values)
    return values


def summed_together(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Add up each of several tensors of one dtype and device over all processes, in one exchange.

    Args:
        tensors: of the same shapes in all processes; one or more.

    Returns:
        The sums, in the shapes of the tensors.
    """
    total = summed(torch.cat([tensor.flatten() for tensor in tensors]))
    parts = total.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def gathered(items: list[T]) -> list[T]:
    """Return the lists of all processes, one after another."""
    if count() == 1:
        return items
    parts: list = [None] * count()
    with together():
        dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def wait() -> None:
    """Go on when all processes have come here."""
    if count() > 1:
        with together():
            dist.barrier()
