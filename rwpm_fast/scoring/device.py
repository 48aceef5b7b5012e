"""Device and threads on which torch computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def torch_device(name: str, label: str = "device") -> torch.device:
    """Return the torch device of a name.

    Args:
        name: such as "cpu", "cuda" or "cuda:1".
        label: name of the argument, for the error.

    Raises:
        ValueError: there is no such device, or it cannot be used here.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{label}: {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def set_threads(threads: int | None, label: str = "threads") -> None:
    """Set the number of torch's threads.

    Args:
        threads: 1 or more; None to leave torch's number.
        label: name of the argument, for the error.

    Raises:
        ValueError: fewer than 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"{label}: expected 1 or more, got {threads}")
    torch.set_num_threads(threads)


@contextmanager
def use_threads(threads: int | None) -> Iterator[None]:
    """Set the number of torch's threads for a block of code; see :func:`set_threads`."""
    before = torch.get_num_threads()
    set_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
