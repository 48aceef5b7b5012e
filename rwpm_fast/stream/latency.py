"""A record of latencies of any number of frames, in memory that does not grow."""

from __future__ import annotations

import math

_STEP = 1.01  # ratio of the edges of neighboring bins: what a percentile may be off by
_LEAST = 1e-6  # seconds
_MOST_POINTS = 2048


class Latencies:
    """Histogram of latencies, and their course over time.

    Attributes:
        count: number of latencies.
        largest: seconds of the largest.
        points: index of a frame and the largest latency in seconds of those since the point before; at most 2048
            points, each of ever more frames.
    """

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0.0
        self.points: list[tuple[int, float]] = []
        self._bins: dict[int, int] = {}
        self._stride = 1  # frames of a point
        self._in_point, self._largest_in_point = 0, 0.0

    def add(self, index: int, seconds: float) -> None:
        """Add the latency of a frame."""
        self.count += 1
        self.largest = max(self.largest, seconds)
        place = math.ceil(math.log(max(seconds, _LEAST) / _LEAST, _STEP))
        self._bins[place] = self._bins.get(place, 0) + 1
        self._in_point += 1
        self._largest_in_point = max(self._largest_in_point, seconds)
        if self._in_point == self._stride:
            self.points.append((index, self._largest_in_point))
            self._in_point, self._largest_in_point = 0, 0.0
        if len(self.points) == _MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [(after[0], max(before[1], after[1])) for before, after in pairs]
            self._stride *= 2

    def percentile(self, percent: float) -> float:
        """Return the seconds that so many percent of the latencies do not exceed, up to 1 % too large; NaN of none."""
        if not self.count:
            return math.nan
        wanted, seen = max(math.ceil(self.count * percent / 100), 1), 0
        for place in sorted(self._bins):
            seen += self._bins[place]
            if seen >= wanted:
                return min(_LEAST * _STEP**place, self.largest)
        raise AssertionError("the bins hold every latency")
