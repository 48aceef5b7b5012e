"""What became of all frames of a stream, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .latency import Latencies
from .result import DROP_REASONS, Outcome, SkippedFrame

_MOST_REASONS = 20  # of broken frames that are told apart
_OTHER = "other reasons"


@dataclass
class Summary:
    """Counts of a stream's frames. Every frame that the source gave is in exactly one of them once the stream ended:
    ``frames == processed + dropped + broken``.

    Attributes:
        frames: that the source gave, broken ones among them.
        processed: that have a score.
        drops: number of dropped frames by reason, one of :data:`rwpm_fast.stream.DROP_REASONS`.
        breaks: number of broken frames by reason.
        marked: processed frames that may be damaged, by mark.
        degraded: processed frames with a degradation.
        degradations: number of processed frames by degradation; a frame may have several.
        late: processed frames whose latency exceeds the deadline.
        deadline: seconds, None without one.
        latencies: of the processed frames.
        stages: seconds that each stage took, all processed frames together.
        seconds: from the first frame to the last, by the clock.
        ended: why the stream ended before its source, in words; None if it did not.
    """

    deadline: float | None = None
    frames: int = 0
    processed: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    degradations: Counter[str] = field(default_factory=Counter)
    late: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    stages: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    ended: str | None = None

    @property
    def dropped(self) -> int:
        """Number of frames that could have been scored and were not."""
        return sum(self.drops.values())

    @property
    def broken(self) -> int:
        """Number of frames that could not be read, or not be scored."""
        return sum(self.breaks.values())

    @property
    def rate(self) -> float:
        """Scored frames per second."""
        return self.processed / self.seconds if self.seconds else 0.0

    @property
    def walk_share(self) -> float:
        """Share of the walk in the time of all stages."""
        total = sum(self.stages.values())
        return self.stages["walk"] / total if total else 0.0

    def add(self, outcome: Outcome) -> None:
        """Count what became of a frame."""
        if isinstance(outcome, SkippedFrame):
            counts = self.drops if outcome.outcome == "dropped" else self.breaks
            _count(counts, outcome.reason)
            return
        self.processed += 1
        for mark in outcome.marks:
            _count(self.marked, mark)
        self.degraded += bool(outcome.degradations)
        self.degradations.update(outcome.degradations)
        self.late += self.deadline is not None and outcome.latency > self.deadline
        self.latencies.add(outcome.index, outcome.latency)
        self.stages.update(outcome.stages)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, JSON-ready."""
        percentiles = {f"p{percent}": self.latencies.percentile(percent) for percent in (50, 95, 99)}
        return {
            "frames": self.frames,
            "processed": self.processed,
            "dropped": self.dropped,
            "broken": self.broken,
            "dropped_by_reason": {reason: self.drops[reason] for reason in DROP_REASONS if self.drops[reason]},
            "broken_by_reason": dict(self.breaks),
            "marked": dict(self.marked),
            "degraded": self.degraded,
            "degradations": dict(self.degradations),
            "deadline": self.deadline,
            "late": self.late,
            "seconds": self.seconds,
            "frames_per_second": self.rate,
            "latency": {**percentiles, "max": self.latencies.largest},
            "stages": dict(self.stages),
            "walk_share": self.walk_share,
            "ended": self.ended,
        }


def _count(counts: Counter[str], reason: str) -> None:
    """Count a reason; beyond so many different ones they are counted together, since a source may have one for each
    frame."""
    counts[reason if reason in counts or len(counts) < _MOST_REASONS else _OTHER] += 1
