"""What the processes of a training that ``torchrun`` started do together; a single process without them.

Where another process went away, all raise ConnectionError.
"""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from ..io.processes import together

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
