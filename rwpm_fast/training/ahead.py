"""Make the next items of an iterator while the last one is at work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def made_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of an iterator, each of which is made in a thread while the caller works on the one before.

    Args:
        items: without end, or not; used by one thread at a time. One item more than the caller takes may be made.

    Raises:
        Exception: of the iterator, in place of the item.

    Example:
        >>> for crop in made_ahead(batches(samples, 4, 256, 480, 19, seed=0)):
        ...     trainer.step(crop)
    """
    none = object()
    with ThreadPoolExecutor(1, "rwpm-ahead") as worker:
        coming = worker.submit(next, items, none)
        while (item := coming.result()) is not none:
            coming = worker.submit(next, items, none)
            yield item  # type: ignore[misc]  # none is no T
