"""Queues between the threads of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):
    """Nothing more will come out of a channel, or be taken by it."""


class Channel(Generic[Item]):
    """A bounded queue from one thread to the next, which either end may close.

    Args:
        capacity: number of items that may wait, >= 1.

    Attributes:
        replace: turns an item that has waited for too long into what takes its place, or returns None for one that
            takes no room, such as one that was replaced before. With it ``put`` never waits: where ``capacity`` items
            that take room are waiting, it replaces the oldest of them. Order and number of items stay. None: ``put``
            waits.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.replace: Callable[[Item], Item | None] | None = None
        self._items: deque[Item] = deque()
        self._changed = Condition()
        self._finished = False
        self._canceled = False

    def put(self, item: Item) -> None:
        """Append an item, once there is room for it.

        Raises:
            Closed: the channel was canceled; the item is not in it.
        """
        with self._changed:
            if self.replace is not None:
                self._make_room(self.replace)
            else:
                self._changed.wait_for(lambda: self._canceled or len(self._items) < self._capacity)
            if self._canceled:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Item:
        """Take the oldest item, once there is one.

        Args:
            timeout: seconds to wait at most; None to wait for ever.

        Raises:
            Closed: there is none, and none will come.
            TimeoutError: none came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._canceled or self._finished or self._items, timeout):
                raise TimeoutError
            if self._canceled or not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def wait_until_empty(self) -> None:
        """Wait until no item is waiting, or the channel is canceled."""
        with self._changed:
            self._changed.wait_for(lambda: self._canceled or not self._items)

    def finish(self) -> None:
        """Say that no more items will come; those that wait can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cancel(self) -> list[Item]:
        """Close both ends at once, and return the items that were waiting."""
        with self._changed:
            self._canceled = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left

    def _make_room(self, replace: Callable[[Item], Item | None]) -> None:
        replaced = [(place, new) for place, item in enumerate(self._items) if (new := replace(item)) is not None]
        if len(replaced) >= self._capacity:
            place, new = replaced[0]
            self._items[place] = new
