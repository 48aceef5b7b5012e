"""Scores in float16 without losing their order: a recorded rescaling, and a report of what the 16 bits cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from ..metrics import PixelMetrics

# float16 has as many numbers between 0.5 and 1 as between 2**-14 and 2**-13: even steps are steps of its codes.
_LARGEST_CODE = 0x3C00  # of 1.0; -1 to 1 has twice as many and the zero
_TAIL = _LARGEST_CODE // 10  # codes at either end for scores beyond those that were seen
_BODY = _LARGEST_CODE - _TAIL
_SAMPLES = 1 << 18  # pixels a map


@dataclass(frozen=True)
class Rescaling:
    """A monotone map of scores to float16 in [-1, 1], the same for all photos, so that their order stays.

    float16 resolves scores near 0 well and others badly: energies around -10 end up 0.008 apart. Here every two knots
    have the same number of float16 codes between them, on a straight line. Knots are even quantiles of scores that were
    seen, and quantiles that come nearer to the top by equal factors, since anomalies are few and high. Scores beyond
    the first and last knot approach -1 and 1, infinite ones reach them.

    Attributes:
        knots: scores, ascending, at least one.
    """

    knots: tuple[float, ...]

    @classmethod
    def fit(cls, score_maps: Iterable[np.ndarray]) -> Rescaling:
        """The rescaling that spreads the scores of some maps.

        Args:
            score_maps: [H, W] each, floating point; at most 262 144 evenly spaced pixels of each are looked at.

        Raises:
            ValueError: no finite score.
        """
        samples = [np.empty(0), *(np.ravel(m)[:: math.ceil(m.size / _SAMPLES)] for m in score_maps)]
        pooled = np.concatenate(samples).astype(np.float64)
        pooled = pooled[np.isfinite(pooled)]
        if not pooled.size:
            raise ValueError("score_maps: expected finite scores to spread, got none")
        levels = np.union1d(np.linspace(0, 1, 65), 1 - np.geomspace(1, 1e-5, 129))
        return cls(tuple(np.unique(np.quantile(pooled, levels)).tolist()))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Scores of any shape as float16 in [-1, 1]; NaN stays NaN."""
        knots = np.array(self.knots)
        scores = scores.astype(np.float64)
        known = np.clip(np.nan_to_num(scores), knots[0], knots[-1])
        if len(knots) > 1:
            segment = np.clip(np.searchsorted(knots, known, side="right") - 1, 0, len(knots) - 2)
            share = np.clip((known - knots[segment]) / (knots[segment + 1] - knots[segment]), 0, 1)
            codes, tail = ((segment + share) / (len(knots) - 1) * 2 - 1) * _BODY, _TAIL
        else:
            codes, tail = np.zeros_like(known), _LARGEST_CODE
        width = knots[-1] - knots[0] or 1.0
        codes += tail * (_saturate((scores - knots[-1]) / width) - _saturate((knots[0] - scores) / width))
        codes = np.rint(np.nan_to_num(codes)).astype(np.int32)
        half = np.abs(codes).astype(np.uint16).view(np.float16)
        half = np.where(codes < 0, -half, half)
        return np.where(np.isnan(scores), np.float16(np.nan), half)


def _saturate(excess: np.ndarray) -> np.ndarray:
    """0 for what is no excess, approaching 1 for a large one."""
    return 1 - 1 / (1 + np.maximum(excess, 0))


def plain_half(scores: np.ndarray) -> np.ndarray:
    """Scores as float16 by rounding alone.

    Raises:
        ValueError: finite scores that float16 cannot hold.
    """
    with np.errstate(over="ignore"):
        half = scores.astype(np.float16)
    lost = int((np.isinf(half) & np.isfinite(scores)).sum())
    if lost:
        raise ValueError(f"scores: {lost} are beyond float16's 65504 and would be infinite; rescale them")
    return half


class HalfReport:
    """What float16 does to scores: values that remain distinct, ties, and average precision where there are labels."""

    def __init__(self) -> None:
        self._codes = np.zeros(1 << 16, bool)
        self._distinct: list[tuple[int, int]] = []  # before, after
        self._ties: list[tuple[float, float]] = []
        self._metrics = PixelMetrics(), PixelMetrics()

    def update(self, before: np.ndarray, after: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Add a photo.

        Args:
            before: [H, W] float32 scores.
            after: [H, W] float16.
            labels: [H, W], 0 inlier, 1 anomaly, others void; None without.

        Raises:
            ValueError: shapes differ, or a score is NaN where it counts.
        """
        if labels is not None:
            for metrics, scores in zip(self._metrics, (before, after), strict=True):
                metrics.update(scores, labels)
        counts = [np.unique(scores, return_counts=True) for scores in (before, after)]
        self._codes[np.unique(counts[1][0]).view(np.uint16)] = True
        self._distinct.append(tuple(len(values) for values, _ in counts))
        self._ties.append(tuple(pixels.max() / before.size for _, pixels in counts))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form: medians over photos, the largest tie of a photo, pooled AP (None without labels)."""
        if not self._distinct:
            return {"photos": 0}
        before, after = (float(median(column)) for column in zip(*self._distinct, strict=True))
        tie_before, tie_after = (float(max(column)) for column in zip(*self._ties, strict=True))
        ap = [metrics.compute() for metrics in self._metrics]
        labeled = ap[0].positives > 0
        return {
            "photos": len(self._distinct),
            "distinct_values_before": before,
            "distinct_values_after": after,
            "float16_values_used": int(self._codes.sum()),
            "largest_tie_before": tie_before,
            "largest_tie_after": tie_after,
            "ap_before": ap[0].ap if labeled else None,
            "ap_after": ap[1].ap if labeled else None,
        }

    def text(self) -> str:
        """The same in words."""
        facts = self.as_dict()
        if not facts["photos"]:
            return "float16: nothing written"
        text = (
            "float16: {distinct_values_after:.0f} of {distinct_values_before:.0f} distinct scores a photo remain "
            "(medians); the largest tie of a photo holds {largest_tie_after:.2%} of it, {largest_tie_before:.2%} before"
        ).format(**facts)
        if facts["ap_before"] is not None:
            text += "; AP {ap_before:.4%} before, {ap_after:.4%} after".format(**facts)
        return text
