"""End a stream cleanly when its process is asked to go."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by_signals(stop: Callable[[str], None]) -> Iterator[list[int]]:
    """Call a function at the first SIGINT or SIGTERM, and raise KeyboardInterrupt at the second.

    Only the main thread of a process may use it.

    Args:
        stop: called with the name of the signal, between any two instructions of the main thread: it may only take
            note.

    Yields:
        Numbers of the signals that came.
    """
    came: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        stop(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
