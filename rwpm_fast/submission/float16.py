"""Scores in float16 that keep their order: a recorded rescaling, and a report of the precision lost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from ..io.arrays import as_array, widened
from ..metrics import PixelMetrics

# float16 has as many numbers between 0.5 and 1 as between 2**-14 and 2**-13, so even steps are steps of its codes.
_LARGEST_CODE = 0x3C00  # code of 1.0; -1 to 1 has twice as many codes, and the zero
_TAIL = _LARGEST_CODE // 10  # codes at either end for scores beyond those of the fit
_BODY = _LARGEST_CODE - _TAIL
_SAMPLES = 1 << 18  # pixels per map


@dataclass(frozen=True)
class Rescaling:
    """A monotone map of scores to float16 in [-1, 1], the same for all photos, that keeps their order.

    float16 resolves scores near 0 well and others badly: energies around -10 end up 0.008 apart. Here the number of
    float16 codes between neighboring knots is the same everywhere, and the map is linear between knots (histogram
    equalization). Knots are evenly spaced quantiles of a sample of scores, and quantiles that approach the maximum
    geometrically, since anomalies are few and high. Scores beyond the first and last knot approach -1 and 1; infinite
    ones reach them.

    Attributes:
        knots: scores, ascending, at least one.
    """

    knots: tuple[float, ...]

    @classmethod
    def fit(cls, score_maps: Iterable[np.ndarray]) -> Rescaling:
        """Fit the rescaling that equalizes the scores of some maps.

        Args:
            score_maps: [H, W] each, floating point; at most 262 144 evenly spaced pixels of each are used.

        Raises:
            ValueError: no finite score.
        """
        maps = (as_array("score_maps", score_map) for score_map in score_maps)
        samples = [np.empty(0), *(np.ravel(m)[:: math.ceil(m.size / _SAMPLES)] for m in maps)]
        pooled = np.concatenate(samples).astype(np.float64)
        pooled = pooled[np.isfinite(pooled)]
        if not pooled.size:
            raise ValueError("score_maps: expected finite scores to spread, got none")
        levels = np.union1d(np.linspace(0, 1, 65), 1 - np.geomspace(1, 1e-5, 129))
        return cls(tuple(np.unique(np.quantile(pooled, levels)).tolist()))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Rescale scores of any shape to float16 in [-1, 1]; NaN stays NaN."""
        knots = np.array(self.knots)
        scores = as_array("scores", scores).astype(np.float64)
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
    """Map an excess to [0, 1): 0 for none, approaching 1 for a large one."""
    return 1 - 1 / (1 + np.maximum(excess, 0))


def round_to_float16(scores: np.ndarray) -> np.ndarray:
    """Round scores to float16.

    Args:
        scores: floating-point array of any shape.

    Raises:
        ValueError: finite scores that float16 cannot represent.
    """
    scores = as_array("scores", scores)
    with np.errstate(over="ignore"):
        half = scores.astype(np.float16)
    lost = int((np.isinf(half) & np.isfinite(scores)).sum())
    if lost:
        raise ValueError(f"scores: {lost} are beyond float16's 65504 and would be infinite; rescale them")
    return half


class Float16Report:
    """Precision that scores lose in float16: values that remain distinct, ties, and average precision given labels."""

    def __init__(self) -> None:
        self._codes = np.zeros(1 << 16, bool)
        self._distinct: list[tuple[int, int]] = []  # before, after
        self._ties: list[tuple[float, float]] = []
        self._metrics = PixelMetrics(), PixelMetrics()

    def update(self, before: np.ndarray, after: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Add a photo.

        Args:
            before: [H, W] float32 scores.
            after: [H, W] float16 scores.
            labels: [H, W] integer, 0 inlier, 1 anomaly, others void; None if there are none.

        Raises:
            ValueError: shapes differ, or a valid pixel has the score NaN.
        """
        if labels is not None:
            for metrics, scores in zip(self._metrics, (before, after), strict=True):
                metrics.update(scores, labels)
        counts = [np.unique(widened(scores), return_counts=True) for scores in (before, after)]
        self._codes[counts[1][0].astype(np.float16).view(np.uint16)] = True
        (values_before, pixels_before), (values_after, pixels_after) = counts
        self._distinct.append((len(values_before), len(values_after)))
        self._ties.append((pixels_before.max() / before.size, pixels_after.max() / before.size))

    def merge(self, other: Float16Report) -> None:
        """Add the photos of another report."""
        self._codes |= other._codes
        self._distinct += other._distinct
        self._ties += other._ties
        for ours, theirs in zip(self._metrics, other._metrics, strict=True):
            ours.merge(theirs)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form: medians over photos, largest tie of a photo, pooled AP (None without labels)."""
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
        """Format the report as a sentence."""
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
