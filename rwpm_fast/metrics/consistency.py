"""How steady score maps are along a sequence: each map against the one before, warped along the motion."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..io.arrays import as_array
from .flow import warp


@dataclass(frozen=True)
class ConsistencyResult:
    """Temporal consistency of score maps, over all pairs of consecutive frames. NaN where it would divide by zero.

    Attributes:
        change: root mean square of what a pixel's score changes by from frame to frame, in standard deviations of the
            scores: 0 for maps that only move with the scene, about 1.41 for maps that have nothing to do with each
            other. Blind to the scores' unit and zero.
        correlation: Pearson's, of the pixels' scores with those of the frame before, in [-1, 1].
        iou: intersection over union of the masks of highest scores and those of the frame before, in [0, 1]. Blind to
            any increasing function of the scores where the masks are shares of each frame's pixels.
        pairs: pairs of frames.
        pixels: pixels of all pairs that both frames show.
    """

    change: float
    correlation: float
    iou: float
    pairs: int
    pixels: int


@dataclass
class _Sums:
    """Sums over pixels: now and before are scores less ``offset``, masks are counted."""

    now: float = 0.0
    before: float = 0.0
    now_square: float = 0.0
    before_square: float = 0.0
    product: float = 0.0
    change_square: float = 0.0
    both: int = 0
    either: int = 0
    pairs: int = 0
    pixels: int = 0


class TemporalConsistency:
    """Temporal consistency of score maps, one frame at a time; only the last map is kept.

    A map is compared with the one before, warped to where this frame shows its points, on the pixels that both frames
    show. Pixels of all pairs are pooled.

    Sources: the squared change over pixels that are not occluded is the warping error of W.-S. Lai et al., "Learning
    Blind Video Temporal Consistency" (ECCV 2018); the overlap of warped masks is the temporal consistency of Y. Liu et
    al., "Efficient Semantic Video Segmentation with Per-frame Inference" (ECCV 2020), of one class. The warping error
    has the scores' unit; in standard deviations scores of different kinds compare. B. Tian et al., "Latency-aware Road
    Anomaly Segmentation in Videos" (arXiv 2401.04942) names a temporal consistency of its own, whose formula we could
    not consult; this is not claimed to equal it.

    A map without any detail is steady too: read it beside the accuracy.

    Example:
        >>> metric = TemporalConsistency()
        >>> for frame in render_drive(seed=0):
        ...     metric.update(scorer(frame.photo).score, frame.flow, frame.occluded)
        >>> metric.compute().change
    """

    def __init__(self, share: float = 0.01, threshold: float | None = None) -> None:
        """Create an accumulator without frames.

        Args:
            share: the masks are this share of each frame's pixels, in (0, 1): those of the highest scores, and all that
                tie with the lowest of them.
            threshold: the masks are the scores of at least this, in place of a share; None for the share.

        Raises:
            ValueError: a share outside (0, 1), or a threshold of NaN.
        """
        if not 0 < share < 1:
            raise ValueError(f"share: expected more than 0 and less than 1, got {share}")
        if threshold is not None and math.isnan(threshold):
            raise ValueError("threshold: expected a number, got nan")
        self.share, self.threshold = share, threshold
        self._sums = _Sums()
        self._before: tuple[np.ndarray, float] | None = None  # map and its threshold
        self._offset: float | None = None

    def start(self) -> None:
        """Begin another sequence: the next map has none before it."""
        self._before = None

    def update(self, scores: Any, flow: Any = None, occluded: Any = None) -> None:
        """Add the next frame of the sequence.

        Args:
            scores: [H, W] floating-point array or tensor, finite, higher where more anomalous.
            flow: [H, W, 2], what takes a pixel to its place in the frame before; see :func:`rwpm_fast.metrics.warp`.
                None if nothing moves. Of the first frame of a sequence it is not looked at.
            occluded: [H, W] bool, True for pixels that the frame before does not show; None for none.

        Raises:
            TypeError: scores of another type.
            ValueError: another shape than that of the frame before, or scores that are not finite. Nothing is added.
        """
        scores = as_array("scores", scores)
        if scores.dtype.kind != "f" or scores.ndim != 2:
            raise TypeError(f"scores: expected floating point [H, W], got {scores.dtype} {list(scores.shape)}")
        scores = scores.astype(np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"scores: expected finite numbers, got {int((~np.isfinite(scores)).sum())} that are not")
        threshold = self._threshold(scores)
        if self._before is not None:
            self._compare(scores, threshold, flow, occluded)
        self._before = scores, threshold

    def merge(self, other: TemporalConsistency) -> None:
        """Add all pairs of another accumulator, which keeps them too.

        Raises:
            TypeError: ``other`` is no TemporalConsistency.
        """
        if not isinstance(other, TemporalConsistency):
            raise TypeError(f"other: expected TemporalConsistency, got {type(other).__name__}")
        if other._offset is None:
            return
        self._offset = other._offset if self._offset is None else self._offset
        self._add(other._sums, other._offset - self._offset)

    def compute(self) -> ConsistencyResult:
        """Compute the metrics of all pairs added so far; more may be added afterwards."""
        s = self._sums
        n = max(s.pixels, 1)
        now = max(s.now_square / n - (s.now / n) ** 2, 0.0)
        before = max(s.before_square / n - (s.before / n) ** 2, 0.0)
        shared = s.product / n - s.now / n * s.before / n
        spread = (now + before) / 2
        return ConsistencyResult(
            change=math.sqrt(s.change_square / n / spread) if spread else math.nan,
            correlation=shared / math.sqrt(now * before) if now and before else math.nan,
            iou=s.both / s.either if s.either else math.nan,
            pairs=s.pairs,
            pixels=s.pixels,
        )

    def _threshold(self, scores: np.ndarray) -> float:
        if self.threshold is not None:
            return self.threshold
        count = max(1, round(self.share * scores.size))
        return float(np.partition(scores, scores.size - count, axis=None)[scores.size - count])

    def _compare(self, scores: np.ndarray, threshold: float, flow: Any, occluded: Any) -> None:
        assert self._before is not None
        before, threshold_before = self._before
        if before.shape != scores.shape:
            raise ValueError(
                f"scores: expected shape {list(before.shape)} as in the frame before, got {list(scores.shape)}; "
                "call start() where another sequence begins"
            )
        if flow is not None:
            before = warp(before, as_array("flow", flow))
        seen = np.ones(scores.shape, bool) if occluded is None else ~as_array("occluded", occluded).astype(bool)
        if seen.shape != scores.shape:
            raise ValueError(f"occluded: expected shape {list(scores.shape)} as scores, got {list(seen.shape)}")
        now, before = scores[seen], before[seen]
        masks = now >= threshold, before >= threshold_before
        if self._offset is None:  # sums of squares lose digits where scores are far from zero
            self._offset = float(scores.mean())
        now, before = now - self._offset, before - self._offset
        sums = _Sums(
            now=float(now.sum()),
            before=float(before.sum()),
            now_square=float(now @ now),
            before_square=float(before @ before),
            product=float(now @ before),
            change_square=float(((now - before) ** 2).sum()),
            both=int((masks[0] & masks[1]).sum()),
            either=int((masks[0] | masks[1]).sum()),
            pairs=1,
            pixels=len(now),
        )
        self._add(sums, 0.0)

    def _add(self, other: _Sums, offset: float) -> None:
        """Add sums whose scores lack ``offset`` more than these."""
        n = other.pixels
        moved = {
            "now": other.now + n * offset,
            "before": other.before + n * offset,
            "now_square": other.now_square + 2 * offset * other.now + n * offset**2,
            "before_square": other.before_square + 2 * offset * other.before + n * offset**2,
            "product": other.product + offset * (other.now + other.before) + n * offset**2,
        }
        for field in fields(_Sums):
            added = moved.get(field.name, getattr(other, field.name))
            setattr(self._sums, field.name, getattr(self._sums, field.name) + added)
