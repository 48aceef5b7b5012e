"""A frame on its way through a stream, and when it is due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .frame import VideoFrame
from .result import OVERTAKEN, STOPPED, Outcome, SkippedFrame, StreamResult


@dataclass(eq=False)
class Job:
    """A frame on its way.

    Attributes:
        frame: the frame.
        arrived: when it was there, by the clock.
        stages: seconds of each stage so far.
        level: of degradation.
        product: what the last stage gave.
        result: once it is scored.
    """

    frame: VideoFrame
    arrived: float
    stages: dict[str, float] = field(default_factory=dict)
    level: int = 0
    product: Any = None
    result: StreamResult | None = None

    def skipped(self, reason: str) -> SkippedFrame:
        """What becomes of it if it is dropped."""
        return SkippedFrame(self.frame.index, self.frame.seconds, "dropped", reason)

    def broken(self, error: BaseException) -> SkippedFrame:
        """What becomes of it if an error ends it."""
        return SkippedFrame(self.frame.index, self.frame.seconds, "broken", f"{type(error).__name__}: {error}")


Item = Job | SkippedFrame


_LONGEST_GAP = 2.0  # seconds between time stamps that are waited for


class Pace:
    """When the frames of a file are due, by their time stamps; longer gaps than 2 seconds are skipped.

    Args:
        by_stamps: whether their time stamps count; else a frame is due as soon as it is there.
    """

    def __init__(self, by_stamps: bool) -> None:
        self._by_stamps = by_stamps
        self._start: tuple[float, float] | None = None  # by the clock, and by the time stamp

    def due(self, seconds: float | None) -> float:
        """Return when a frame that was just decoded is due, by the clock; now, if that is over."""
        now = time.perf_counter()
        if not self._by_stamps or seconds is None:
            return now
        self._start = self._start or (now, seconds)
        due = self._start[0] + seconds - self._start[1]
        if due > now + _LONGEST_GAP:
            self._start, due = (now, seconds), now
        return max(due, now)


def overtaken(item: Item) -> Item | None:
    """What takes the place of a frame for which newer ones leave no room; None for what takes none."""
    return item.skipped(OVERTAKEN) if isinstance(item, Job) else None


def outcome_of(item: Item) -> Outcome:
    """What becomes of a frame that goes no further."""
    if isinstance(item, SkippedFrame):
        return item
    return item.skipped(STOPPED) if item.result is None else item.result


@contextmanager
def measured(job: Job, stage: str) -> Iterator[None]:
    """Note the seconds of a stage that runs in the block."""
    begin = time.perf_counter()
    yield
    job.stages[stage] = time.perf_counter() - begin
