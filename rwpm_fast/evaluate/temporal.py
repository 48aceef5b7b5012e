"""Sequences scored frame by frame: how steady the maps are, and how accurate at the time at which they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from ..data import Frame
from ..io.markdown import markdown_table
from ..metrics import (
    ConsistencyResult,
    PixelMetrics,
    PixelResult,
    StreamingAccuracy,
    StreamingResult,
    TemporalConsistency,
    one_worker,
    optical_flow,
)
from ..scenes import render_drive
from ..scoring.scorer import Scorer

TIMED_CALLS = 5  # of which the median is the time that a frame takes


@dataclass(frozen=True, eq=False)
class SequenceFrame:
    """A frame of a sequence.

    Attributes:
        photo: [H, W, 3] uint8.
        labels: [H, W] uint8, 0 inlier, 1 anomaly, 255 void; None without.
        flow: [H, W, 2], what takes a pixel to its place in the frame before; None in the first frame.
        occluded: [H, W] bool, what the frame before does not show; None in the first frame.
    """

    photo: np.ndarray
    labels: np.ndarray | None
    flow: np.ndarray | None
    occluded: np.ndarray | None


@dataclass(frozen=True)
class FrameSequence:
    """A sequence of frames.

    Attributes:
        name: for messages.
        seconds: times of the frames, ascending.
        frames: yields them, one at a time.
    """

    name: str
    seconds: tuple[float, ...]
    frames: Callable[[], Iterable[SequenceFrame]]


@dataclass(frozen=True)
class TemporalRow:
    """What was measured of a scorer and score.

    Attributes:
        scorer: name of the scorer.
        score: name of the score.
        consistency: over all sequences.
        each: of every sequence alone, in order.
        instant: pixel metrics of the labeled frames, each against its own map.
        streaming: the same with the map that is there at the frame's time.
        cost: seconds that a frame takes, with which the streaming metrics were computed.
    """

    scorer: str
    score: str
    consistency: ConsistencyResult
    each: tuple[ConsistencyResult, ...]
    instant: PixelResult
    streaming: StreamingResult
    cost: float


def drive_sequence(
    seed: int, frames: int, size: tuple[int, int], *, rate: float = 12.0, **settings: Any
) -> FrameSequence:
    """Make a sequence of a rendered drive; see :func:`rwpm_fast.scenes.render_drive`.

    Args:
        seed: number of the drive.
        frames: number of frames.
        size: height and width.
        rate: frames per second.
        settings: further arguments.

    Raises:
        ValueError: an argument outside its range.
    """
    drive = partial(render_drive, seed, frames, size, rate=rate, **settings)
    drive()  # tells what is wrong with the arguments; nothing is rendered yet

    def read() -> Iterator[SequenceFrame]:
        for frame in drive():
            motion = (frame.flow, frame.occluded) if frame.index else (None, None)
            yield SequenceFrame(frame.photo, frame.labels, *motion)

    return FrameSequence(f"drive {seed}", tuple(index / rate for index in range(frames)), read)


def photo_sequence(name: str, frames: Sequence[Frame], rate: float) -> FrameSequence:
    """Make a sequence of the photos of a data set, with the optical flow that OpenCV finds.

    Args:
        name: of the sequence.
        frames: in order, with labels or without.
        rate: frames per second.

    Raises:
        ImportError: while its frames are read, if OpenCV is not installed.
    """

    def read() -> Iterator[SequenceFrame]:
        before = None
        for frame in frames:
            photo, labels = (frame.read_image(), None) if frame.label is None else frame.read()
            motion = (None, None) if before is None else optical_flow(before, photo)
            yield SequenceFrame(photo, labels, *motion)
            before = photo

    return FrameSequence(name, tuple(index / rate for index in range(len(frames))), read)


def measure_temporal(
    scorers: Mapping[str, Scorer],
    sequences: Sequence[FrameSequence],
    scores: Sequence[str],
    *,
    cost: float | None = None,
    share: float = 0.01,
    fpr_rule: str = "fishyscapes",
    progress: Callable[[Iterable[FrameSequence]], Iterable[FrameSequence]] = iter,
) -> list[TemporalRow]:
    """Score every frame by every scorer and measure the maps along the sequences; one frame is in memory at a time.

    The streaming metrics are those of one worker that scores a frame in ``cost`` seconds and, when it is done, takes
    the latest one that waits; see :func:`rwpm_fast.metrics.one_worker`.

    Args:
        scorers: name to scorer; all share one network, which runs once a frame.
        sequences: one or more, not empty.
        scores: names of scores that all scorers have.
        cost: seconds that a frame takes, of every scorer; None to time each on the first frame.
        share: of a frame's pixels that a mask has; see :class:`rwpm_fast.metrics.TemporalConsistency`.
        fpr_rule: how FPR95 is read.
        progress: wraps the sequences, such as in a progress bar.

    Returns:
        A row for each scorer and score.

    Raises:
        ValueError: no scorers, no frames, an unknown score or rule, or a share or cost outside its range; also where
            frames of one sequence differ in size.

    Example:
        >>> drives = [drive_sequence(seed, frames=24, size=(256, 512)) for seed in range(4)]
        >>> without, walked = measure_temporal({"without": plain, "with": scorer}, drives, ["energy"])
        >>> without.consistency.change, walked.consistency.change
    """
    if not scorers or len({id(scorer.network) for scorer in scorers.values()}) != 1:
        raise ValueError("scorers: expected one or more that share a network")
    if not sequences or not all(sequence.seconds for sequence in sequences):
        raise ValueError("sequences: expected one or more, none of them empty")
    if cost is not None and not cost >= 0:
        raise ValueError(f"cost: expected 0 or more seconds, got {cost}")
    for scorer in scorers.values():
        for score in scores:
            scorer.check_score(score)
    tallies = {(name, score): _Tally(share, fpr_rule) for name in scorers for score in scores}
    costs = {name: cost for name in scorers if cost is not None}
    for sequence in progress(sequences):
        for tally in tallies.values():
            tally.start()
        latencies: dict[str, list[float | None]] = {}
        for index, frame in enumerate(sequence.frames()):
            for name, scorer in scorers.items():
                if name not in costs:
                    costs[name] = _time(scorer, frame.photo)
                if name not in latencies:
                    latencies[name] = one_worker(sequence.seconds, [costs[name]] * len(sequence.seconds))
            maps = _score(scorers, scores, frame.photo)
            for (name, score), tally in tallies.items():
                tally.add(sequence.seconds[index], maps[name, score], latencies[name][index], frame)
    return [tally.row(*key, costs[key[0]]) for key, tally in tallies.items()]


@torch.inference_mode()
def _score(
    scorers: Mapping[str, Scorer], scores: Sequence[str], photo: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    embedded = next(iter(scorers.values())).embed(photo)
    predictions = {name: scorer.analyze_embedded(embedded).walked for name, scorer in scorers.items()}
    return {(name, score): p.score(score).cpu().numpy() for name, p in predictions.items() for score in scores}


def _time(scorer: Scorer, photo: np.ndarray) -> float:
    """Return the median seconds that a scorer takes for a photo, after a first call."""
    scorer(photo)
    results = [scorer(photo) for _ in range(TIMED_CALLS)]
    return median(r.network_seconds + r.walk_seconds + r.score_seconds for r in results)


class _Tally:
    """The metrics of a scorer and score."""

    def __init__(self, share: float, fpr_rule: str) -> None:
        self.share = share
        self.each: list[TemporalConsistency] = []
        self.instant, self.streaming = PixelMetrics(fpr_rule), StreamingAccuracy(fpr_rule)

    def start(self) -> None:
        """Begin another sequence."""
        self.each.append(TemporalConsistency(self.share))
        self.streaming.start()

    def add(self, seconds: float, scores: np.ndarray, latency: float | None, frame: SequenceFrame) -> None:
        """Add a frame."""
        self.each[-1].update(scores, frame.flow, frame.occluded)
        self.streaming.update(seconds, None if latency is None else scores, latency, frame.labels)
        if frame.labels is not None:
            self.instant.update(scores, frame.labels)

    def row(self, scorer: str, score: str, cost: float) -> TemporalRow:
        """Compute what was measured."""
        whole = TemporalConsistency(self.share)
        for part in self.each:
            whole.merge(part)
        return TemporalRow(
            scorer=scorer,
            score=score,
            consistency=whole.compute(),
            each=tuple(part.compute() for part in self.each),
            instant=self.instant.compute(),
            streaming=self.streaming.compute(),
            cost=cost,
        )


def temporal_table(rows: Sequence[TemporalRow]) -> str:
    """Format rows as a table in Markdown: pixel metrics in percent, consistency as it is."""
    header = [
        *("score", "walk", "change", "correlation", "mask IoU"),
        *("AP", "FPR95", "AP, streaming", "FPR95, streaming", "ms a frame", "dropped"),
    ]
    cells = []
    for row in rows:
        c, now, late = row.consistency, row.instant, row.streaming
        pixel = (now.ap, now.fpr95, late.pixels.ap, late.pixels.fpr95)
        cells.append(
            [
                *(row.score, row.scorer),
                *(f"{value:.3f}" for value in (c.change, c.correlation, c.iou)),
                *(f"{100 * value:.2f}" for value in pixel),
                *(f"{1000 * row.cost:.0f}", f"{late.dropped} of {late.frames}"),
            ]
        )
    return markdown_table(header, cells)


def steadier_sequences(without: TemporalRow, with_walk: TemporalRow) -> tuple[int, int]:
    """Count the sequences whose maps change less with the walk, and those of which both have a number."""
    pairs = zip(without.each, with_walk.each, strict=True)
    differences = np.array([after.change - before.change for before, after in pairs])
    known = differences[np.isfinite(differences)]
    return int((known < 0).sum()), len(known)


def temporal_record(rows: Sequence[TemporalRow]) -> list[dict[str, Any]]:
    """Return rows in a JSON-ready form."""
    return [asdict(row) for row in rows]
