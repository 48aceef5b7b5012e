"""Pixel metrics of SegmentMeIfYouCan (SMIYC): a histogram per image, one pooled curve over the bin edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..io.arrays import ascending
from .pixel import Curve, LabelKinds, as_images

BINS = ("quantile", "uniform")

QUANTILES_PER_CLASS = 384
UNIFORM_BINS = 4096
UNIFORM_RANGE = (-0.01, 1.01)


@dataclass(frozen=True)
class BinnedPixelResult:
    """Binned pixel metrics of a data set, as fractions. A number whose definition would divide by zero is NaN.

    Attributes:
        auroc: area under the ROC curve, trapezoidal; NaN without positives or without negatives.
        ap: average precision, step rule; NaN without positives, 1 without negatives.
        fpr95: false positive rate at the first edge with a true positive rate of 0.95 or more; NaN where ``auroc`` is.
        best_f1: largest F1 over the edges; NaN without a valid pixel.
        best_f1_threshold: the edge of ``best_f1``, the highest if several; a pixel *at* the edge counts as anomalous.
        positives: number of anomalous pixels.
        negatives: number of inlier pixels.
        images: number of images seen, those without a valid pixel included.
    """

    auroc: float
    ap: float
    fpr95: float
    best_f1: float
    best_f1_threshold: float
    positives: int
    negatives: int
    images: int


@dataclass(frozen=True, eq=False)
class _Histogram:
    """Pixels per bin, bins given by their lower edges: ``edges`` [K] float64 ascending, ``tp`` and ``fp`` [K] int64."""

    edges: np.ndarray
    tp: np.ndarray
    fp: np.ndarray


class BinnedPixelMetrics:
    """AP, AuROC, FPR95 and best F1 as SMIYC computes them (``PixBinaryClass`` of road-anomaly-benchmark).

    Per image the edges are 384 quantiles of the positives' scores and 384 of the negatives' (fewer if an image has
    fewer such pixels), or with ``bins="uniform"`` the 4096 equal bins of ``PixBinaryClass-uniThr``, for scores in
    [0, 1]. The edges of all images then are the thresholds of one curve. At most 768 (4096) edges with two counts
    are kept per image, so a data set of any size fits; the numbers differ from the exact ones of ``PixelMetrics`` by
    some 1e-3.

    Where the original depends on rounding or order, this class does not: equal edges of several images are always one
    threshold (the original keeps the highest edge apart, and with saturated scores its AP then depends on the order of
    the images), and the quantile positions are exact fractions. With uniform bins every pixel counts in the bin whose
    edges enclose it (the original can miss it for float16 scores, whose spacing near 1 is wider than a bin). An image
    with no valid pixel adds nothing.
    """

    def __init__(
        self,
        bins: str = "quantile",
        *,
        positive: Sequence[int] = (1,),
        negative: Sequence[int] = (0,),
        void: Sequence[int] | None = None,
    ) -> None:
        """Create an accumulator without images.

        Args:
            bins: "quantile" (the benchmark's metric) or "uniform".
            positive: label values of anomalies.
            negative: label values of inliers.
            void: label values that are ignored; None for every other value from 0 on, as in ``PixelMetrics``.

        Raises:
            ValueError: unknown bins, no label value, or one of two kinds.
        """
        if bins not in BINS:
            raise ValueError(f"bins: expected one of {', '.join(BINS)}, got {bins!r}")
        self._bins = bins
        self._kinds = LabelKinds(positive, negative, void)
        self.reset()

    def reset(self) -> None:
        """Remove all images."""
        self._histograms: list[_Histogram] = []
        self._images = 0
        self._kinds.reset()

    def update(self, scores: Any, labels: Any) -> None:
        """Add an image, or several, each with its own bins.

        Args:
            scores: [..., H, W] float16, float32 or float64 array or tensor; leading axes count images, and a flat array
                is one image. In [0, 1] for uniform bins, whose edges are rounded to the type of the scores.
            labels: same shape, integer or bool.

        Raises:
            TypeError: wrong kind of numbers.
            ValueError: shapes differ, a label has no meaning, or a valid pixel has the score NaN, or one outside the
                uniform bins. Nothing is added then.
        """
        scores, labels = as_images(scores, labels)
        parts = [self._kinds.split(*image) for image in zip(scores, labels, strict=True)]
        self._histograms += [self._histogram(*part) for part in parts if part[0].size or part[1].size]
        self._images += len(scores)
        for image, part in zip(labels, parts, strict=True):
            self._kinds.note(image, *part)

    def merge(self, other: BinnedPixelMetrics) -> None:
        """Add all images of another accumulator, whatever its label values.

        Raises:
            TypeError: ``other`` is no BinnedPixelMetrics.
            ValueError: ``other`` has other bins.
        """
        if not isinstance(other, BinnedPixelMetrics):
            raise TypeError(f"other: expected BinnedPixelMetrics, got {type(other).__name__}")
        if other._bins != self._bins:
            raise ValueError(f"other: expected {self._bins} bins, got {other._bins}")
        self._histograms.extend(other._histograms)
        self._kinds.merge(other._kinds)
        self._images += other._images

    def compute(self) -> BinnedPixelResult:
        """Compute the metrics of all images added so far; more may be added afterwards.

        A ``RuntimeWarning`` tells the label values that are there if none of them is positive, or none negative.
        """
        self._kinds.warn_of_missing()
        thresholds, curve = _pool(self._histograms)
        best_f1, best_f1_threshold = _best_f1(thresholds, curve)
        return BinnedPixelResult(
            auroc=curve.auroc(),
            ap=curve.ap(),
            fpr95=curve.fpr95("smiyc"),
            best_f1=best_f1,
            best_f1_threshold=best_f1_threshold,
            positives=curve.positives,
            negatives=curve.negatives,
            images=self._images,
        )

    def _histogram(self, positives: np.ndarray, negatives: np.ndarray) -> _Histogram:
        positives, negatives = ascending(positives), ascending(negatives)
        if self._bins == "uniform":
            edges = _uniform_edges(positives, negatives)
        else:
            edges = np.unique(np.concatenate([_quantiles(positives), _quantiles(negatives)]))
        tp, fp = _counts(positives, edges), _counts(negatives, edges)
        # An empty bin adds no point to any curve.
        filled = (tp + fp) > 0
        return _Histogram(edges[filled], tp[filled], fp[filled])


def _quantiles(scores: np.ndarray) -> np.ndarray:
    """Compute equally spaced quantiles of ascending scores, smallest to largest, linearly interpolated, float64."""
    number = min(QUANTILES_PER_CLASS, len(scores))
    if number < 2:
        return scores[:number].astype(np.float64)
    # Integer arithmetic: in floating point an edge that should equal a score can land just above it, and put the score
    # one bin too low.
    index, remainder = np.divmod(np.arange(number) * (len(scores) - 1), number - 1)
    lower = scores[index].astype(np.float64)
    upper = scores[np.minimum(index + 1, len(scores) - 1)].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        between = lower + (upper - lower) * (remainder / (number - 1))
    # Interpolation with an infinite score is not finite; the lower score is an edge as well.
    return np.where(np.isfinite(between), between, lower)


def _uniform_edges(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Compute the lower edges of the uniform bins in the type of the scores, as the original does."""
    edges = np.unique(np.linspace(*UNIFORM_RANGE, UNIFORM_BINS + 1).astype(positives.dtype).astype(np.float64))
    for scores in (positives, negatives):
        if scores.size and not edges[0] <= scores[0] <= scores[-1] <= edges[-1]:
            raise ValueError(
                f"scores: expected [0, 1] for uniform bins, got [{scores[0]}, {scores[-1]}] (use quantile bins)"
            )
    return edges[:-1]


def _counts(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count the ascending scores from each edge up to the next; the last bin is open."""
    return np.diff(np.searchsorted(scores, edges), append=len(scores))


def _pool(histograms: list[_Histogram]) -> tuple[np.ndarray, Curve]:
    """Merge the edges of all images into falling thresholds [K], equal ones together, and the curve over them."""
    empty = _Histogram(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    histograms = [empty, *histograms]
    edges = np.concatenate([h.edges for h in histograms])
    order = np.argsort(edges)[::-1]
    thresholds = edges[order]
    last = np.append(thresholds[1:] != thresholds[:-1], True)[: len(edges)]
    tp = np.cumsum(np.concatenate([h.tp for h in histograms])[order])[last]
    fp = np.cumsum(np.concatenate([h.fp for h in histograms])[order])[last]
    curve = Curve(
        tp=tp,
        fp=fp,
        fp_above=np.append(0, fp)[:-1],
        positives=int(tp[-1]) if len(tp) else 0,
        negatives=int(fp[-1]) if len(fp) else 0,
    )
    return thresholds[last], curve


def _best_f1(thresholds: np.ndarray, curve: Curve) -> tuple[float, float]:
    """Find the largest F1 = 2 TP / (2 TP + FP + FN) and the highest threshold that reaches it."""
    if not len(thresholds):
        return math.nan, math.nan
    f1 = 2 * curve.tp / (curve.tp + curve.fp + curve.positives)
    best = np.argmax(f1)
    return float(f1[best]), float(thresholds[best])
