"""What becomes of the frames of a stream: each is scored, dropped, or broken."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class StreamResult:
    """A frame that was scored.

    Attributes:
        index: its place in the source, from 0.
        seconds: its time stamp, in the source's own clock; None if it has none.
        photo: [H, W, 3] uint8, RGB, upright.
        score: [H, W] float32, higher is more anomalous.
        segmentation: [H, W] uint8, index of the likeliest class.
        latency: seconds from when the frame was there, decoded and due, to when its score was.
        stages: seconds of "decode", "network", "walk" and "score", without the time spent waiting in between. Of a
            walk of values behind the head, the head's time is part of "walk".
        degradations: what was left out or made coarser to keep the deadline, such as "tolerance 0.001"; empty for a
            frame that had everything.
        marks: what may be wrong with the frame itself; see :class:`rwpm_fast.stream.VideoFrame`.
    """

    index: int
    seconds: float | None
    photo: np.ndarray
    score: np.ndarray
    segmentation: np.ndarray
    latency: float
    stages: dict[str, float] = field(default_factory=dict)
    degradations: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SkippedFrame:
    """A frame without a score.

    Attributes:
        index: its place in the source, from 0.
        seconds: its time stamp, in the source's own clock; None if it has none.
        outcome: "dropped" if it could have been scored, "broken" if not.
        reason: why, in words; of a dropped frame one of :data:`DROP_REASONS`.
    """

    index: int
    seconds: float | None
    outcome: str
    reason: str


# Why frames are dropped.
OVERTAKEN = "newer frames came while it waited"
LATE = "it could not have kept the deadline"
STOPPED = "the stream ended before its turn"
DROP_REASONS = (OVERTAKEN, LATE, STOPPED)

Outcome = StreamResult | SkippedFrame
