"""Streaming accuracy: the score map that is there at a frame's time, against that frame's labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..io.arrays import as_array
from .pixel import PixelMetrics, PixelResult

SAME_TIME = 1e-6  # seconds; sums of times and latencies round


@dataclass(frozen=True)
class StreamingResult:
    """Accuracy at the time at which answers arrive.

    Attributes:
        pixels: pixel metrics of the labeled frames that had an answer; see :class:`rwpm_fast.metrics.PixelMetrics`.
        frames: frames seen, with labels or without.
        dropped: those of them that were never scored.
        answered: labeled frames at whose time some map was there.
        unanswered: labeled frames before the first map of their sequence; they are in no metric.
        age: mean age of the answers in seconds, from the time of the frame that a map is of; NaN without answers.
    """

    pixels: PixelResult
    frames: int
    dropped: int
    answered: int
    unanswered: int
    age: float


class StreamingAccuracy:
    """AuROC, AP and FPR95 of the map that is there when a frame comes, against the labels of that frame.

    A frame that comes at time t and takes a latency of d seconds has its map at t + d. At the time of a labeled frame
    the answer is the map of the latest frame among those that are done; without latency that is the frame's own.

    Sources: M. Li, Y.-X. Wang and D. Ramanan, "Towards Streaming Perception" (ECCV 2020); of anomaly maps, whose answer
    at T0 is held against the truth at T0 plus the latency, B. Tian et al., "Latency-aware Road Anomaly Segmentation in
    Videos" (arXiv 2401.04942). Li et al. count a frame without any answer as a miss; here, as in the second source, it
    is left out and counted, since a map that is not there has no scores to rank.

    Memory: the maps that are not done or not yet replaced, and the scores of valid pixels as in
    :class:`rwpm_fast.metrics.PixelMetrics`.

    Example:
        >>> metric = StreamingAccuracy()
        >>> for frame in render_drive(seed=0):
        ...     metric.update(frame.seconds, scorer(frame.photo).score, latency=0.2, labels=frame.labels)
        >>> metric.compute().pixels.ap
    """

    def __init__(self, fpr_rule: str = "fishyscapes") -> None:
        """Create an accumulator without frames.

        Args:
            fpr_rule: how FPR95 is read; see :class:`rwpm_fast.metrics.PixelMetrics`.

        Raises:
            ValueError: an unknown rule.
        """
        self._metrics = PixelMetrics(fpr_rule)
        self._frames = self._dropped = self._answered = self._unanswered = 0
        self._age = 0.0
        self.start()

    def start(self) -> None:
        """Begin another sequence: maps of the last one answer nothing more."""
        self._maps: list[tuple[float, float, np.ndarray]] = []  # time of the frame, time at which its map is done, map
        self._now = -math.inf

    def update(self, seconds: float, scores: Any, latency: float | None = 0.0, labels: Any = None) -> None:
        """Add the next frame of the sequence.

        Args:
            seconds: its time.
            scores: [H, W] floating-point array or tensor, the map of this frame; None if it was dropped.
            latency: seconds from the frame's time to its map, 0 or more; None if it was dropped.
            labels: [H, W] integers, 0 inlier, 1 anomaly, 255 void; None for a frame without labels.

        Raises:
            TypeError: wrong kind of numbers.
            ValueError: a time that is not after the last one's, a latency below 0, a map without latency or the
                reverse, labels of another shape than the answer, or NaN on a valid pixel of it.
        """
        if not seconds > self._now:
            raise ValueError(f"seconds: expected more than {self._now}, the frame before, got {seconds}")
        if (scores is None) != (latency is None):
            raise ValueError("latency: expected None for a dropped frame, whose scores are None, and only then")
        if latency is not None and not latency >= 0:
            raise ValueError(f"latency: expected 0 or more seconds, got {latency}")
        if latency is not None:
            self._maps.append((seconds, seconds + latency, as_array("scores", scores).copy()))
        self._now = seconds
        self._frames += 1
        self._dropped += latency is None
        done = [time for time, ready, _ in self._maps if ready <= seconds + SAME_TIME]
        if done:
            latest = max(done)
            self._maps = [entry for entry in self._maps if entry[0] >= latest]
        if labels is None:
            return
        if not done:
            self._unanswered += 1
            return
        answer = next(scores for time, _, scores in self._maps if time == latest)
        self._metrics.update(answer, labels)
        self._answered += 1
        self._age += seconds - latest

    def compute(self) -> StreamingResult:
        """Compute the metrics of all frames added so far; more may be added afterwards."""
        return StreamingResult(
            pixels=self._metrics.compute(),
            frames=self._frames,
            dropped=self._dropped,
            answered=self._answered,
            unanswered=self._unanswered,
            age=self._age / self._answered if self._answered else math.nan,
        )


def one_worker(times: Sequence[float], costs: Sequence[float]) -> list[float | None]:
    """Return the latency of each frame where one worker scores them one after the other.

    A worker that is done takes the latest frame that waits; those before it are dropped.

    Args:
        times: of the frames in seconds, ascending.
        costs: seconds that each takes to score; those of dropped frames do not matter.

    Returns:
        Seconds from the frame's time to its map; None for a dropped frame.

    Raises:
        ValueError: lists of different lengths.

    Example:
        >>> one_worker([0.0, 0.1, 0.2, 0.3, 0.4], [0.25] * 5)  # the second frame waits, and the third comes in time
        [0.25, None, 0.3, None, 0.35]
    """
    latencies: list[float | None] = [None] * len(times)
    free, waiting = -math.inf, None
    for index, (time, _) in enumerate(zip(times, costs, strict=True)):
        if waiting is not None and free < time - SAME_TIME:
            # The worker became free between the last frame and this one, and took the one that waited then.
            free = free + costs[waiting]
            latencies[waiting] = free - times[waiting]
            waiting = None
        if free <= time + SAME_TIME:
            free, waiting = time + costs[index], None
            latencies[index] = costs[index]
        else:
            waiting = index
    if waiting is not None:
        latencies[waiting] = free + costs[waiting] - times[waiting]
    return latencies
