"""Exact pixel metrics of a data set: AuROC, AP and FPR95 over all valid pixels of all images together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..io.arrays import as_array
from ..io.text import listed
from .ordering import add_counts_above, sorted_scores
from .resampling import ImageCounts, even_thresholds

FPR_RULES = ("fishyscapes", "rwpm", "pebal", "smiyc", "mask2anomaly")


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics of a data set, as fractions. A number whose definition would divide by zero is NaN.

    Attributes:
        auroc: area under the ROC curve, trapezoidal; NaN without positives or without negatives.
        ap: average precision, step rule; NaN without positives, 1 without negatives.
        fpr95: false positive rate at 95 % true positive rate by ``fpr_rule``; NaN where ``auroc`` is.
        positives: number of anomalous pixels.
        negatives: number of inlier pixels.
        images: number of images seen, those without a valid pixel included.
        fpr_rule: the rule behind ``fpr95``.
    """

    auroc: float
    ap: float
    fpr95: float
    positives: int
    negatives: int
    images: int
    fpr_rule: str


class PixelMetrics:
    """AuROC, AP and FPR95 of pooled pixels, exact: no bins, tied scores count as one threshold.

    Pixels of all images enter one curve; nothing is averaged over images. Scores are higher where more anomalous.
    The code bases of the field read FPR95 off the curve in different ways (R is the true positive rate):

    ===============  ===================================================================================================
    ``fpr_rule``     rule
    ===============  ===================================================================================================
    "fishyscapes"    first point with R >= 0.95 (Fishyscapes server and bdl-benchmark)
    "rwpm"           first point with R > 0.95 that scikit-learn's ``roc_curve`` keeps (RWPM, RbA)
    "pebal"          point with R nearest to 0.95, the larger of two equally near (PEBAL, Balanced Energy)
    "smiyc"          first point with R >= 0.95, 1 if none (SegmentMeIfYouCan, here without its bins)
    "mask2anomaly"   linear interpolation at R = 0.95 (Mask2Anomaly, ood-metrics)
    ===============  ===================================================================================================

    The smallest score of the positives always reaches R = 1, so without bins "smiyc" equals "fishyscapes".

    Where that is too much, :func:`pixel_metrics` computes the same in two passes.

    Memory: the scores of valid pixels, 4 bytes each (float16 is widened; float64 is kept and takes 8). ``compute``
    pools and sorts them without a second copy of all, and keeps 24 bytes more per distinct score of the positives,
    about twice that while it runs.
    """

    def __init__(
        self,
        fpr_rule: str = "fishyscapes",
        *,
        positive: Sequence[int] = (1,),
        negative: Sequence[int] = (0,),
        void: Sequence[int] | None = None,
    ) -> None:
        """Create an accumulator without images.

        Args:
            fpr_rule: one of ``FPR_RULES``; the default of ``compute``.
            positive: label values of anomalies: (2,) for raw RoadAnomaly labels, (-1,) for those of pytorch-ood.
            negative: label values of inliers.
            void: label values that are ignored, and any other value is an error; None if every other value from 0 on is
                void. A negative value has to be named here or above: what is void to one data set is the anomaly to
                another.

        Raises:
            ValueError: unknown rule, no label value, or one of two kinds.
        """
        check_fpr_rule(fpr_rule)
        self._fpr_rule = fpr_rule
        self._kinds = LabelKinds(positive, negative, void)
        self.reset()

    def reset(self) -> None:
        """Remove all images."""
        self._positives = _Scores()
        self._negatives = _Scores()
        self._images = 0
        self._kinds.reset()
        self._curve: Curve | None = None

    def update(self, scores: Any, labels: Any) -> None:
        """Add an image, or several.

        Args:
            scores: [..., H, W] float16, float32 or float64 array or tensor; leading axes count images, and a flat array
                is one image. Infinite scores are ranked; scores of void pixels are ignored.
            labels: same shape, integer or bool.

        Raises:
            TypeError: wrong kind of numbers.
            ValueError: shapes differ, a label has no meaning, or a valid pixel has the score NaN. Nothing is added
                then.
        """
        scores, labels = as_images(scores, labels)
        positives, negatives = self._kinds.split(scores, labels)
        self._positives.add(positives)
        self._negatives.add(negatives)
        self._kinds.note(labels, positives, negatives)
        self._images += len(scores)
        self._curve = None

    def merge(self, other: PixelMetrics) -> None:
        """Add all images of another accumulator, whatever its label values; ``other`` keeps them too.

        Raises:
            TypeError: ``other`` is no PixelMetrics.
        """
        if not isinstance(other, PixelMetrics):
            raise TypeError(f"other: expected PixelMetrics, got {type(other).__name__}")
        self._positives.merge(other._positives)
        self._negatives.merge(other._negatives)
        self._kinds.merge(other._kinds)
        self._images += other._images
        self._curve = None

    def compute(self, fpr_rule: str | None = None) -> PixelResult:
        """Compute the metrics of all images added so far; more may be added afterwards.

        Calling it again, also with another rule, does not sort again. A ``RuntimeWarning`` tells the label values that
        are there if none of them is positive, or none negative.

        Args:
            fpr_rule: one of ``FPR_RULES``; None for the constructor's.

        Raises:
            ValueError: unknown rule.
        """
        rule = self._fpr_rule if fpr_rule is None else fpr_rule
        check_fpr_rule(rule)
        self._kinds.warn_of_missing()
        return self.curve().result(rule, self._images)

    def curve(self) -> Curve:
        """Compute the curve of all images added so far, with every threshold that matters."""
        if self._curve is None:
            # One type for both: searchsorted would copy the larger array to widen it.
            dtype = np.promote_types(self._positives.dtype, self._negatives.dtype)
            self._curve = exact_curve(self._positives.pooled(dtype), self._negatives.pooled(dtype))
        return self._curve


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts over K falling thresholds, enough for ROC and precision-recall.

    Thresholds at which only negatives enter may be left out: they change neither area, and ``fp_above`` keeps what the
    FPR95 rules need of them.

    Attributes:
        tp: [K] int64 positives at or above the threshold; the last is ``positives``.
        fp: [K] int64 negatives at or above the threshold.
        fp_above: [K] int64 negatives above the threshold.
        positives: number of positives.
        negatives: number of negatives.
    """

    tp: np.ndarray
    fp: np.ndarray
    fp_above: np.ndarray
    positives: int
    negatives: int

    def thinned(self, points: int = 1000) -> Curve:
        """Thin out the curve for plots, in even steps of both counts; the last threshold is kept.

        Args:
            points: largest number of thresholds.
        """
        if len(self.tp) <= points:
            return self
        # Anomalies are few and inliers many: even steps of one count alone would leave gaps on the other axis.
        steps = [np.searchsorted(c, np.linspace(0, c[-1], max(points - 1, 0) // 2)) for c in (self.tp, self.fp)]
        kept = np.unique(np.concatenate([*steps, [len(self.tp) - 1]]))
        return Curve(self.tp[kept], self.fp[kept], self.fp_above[kept], self.positives, self.negatives)

    def result(self, fpr_rule: str, images: int) -> PixelResult:
        """Compute the metrics of the curve of so many images, FPR95 by one of ``FPR_RULES``."""
        return PixelResult(
            auroc=self.auroc(),
            ap=self.ap(),
            fpr95=self.fpr95(fpr_rule),
            positives=self.positives,
            negatives=self.negatives,
            images=images,
            fpr_rule=fpr_rule,
        )

    def auroc(self) -> float:
        """Compute the area under the ROC curve by trapezoids: a negative tied with a positive counts half."""
        if not (self.positives and self.negatives):
            return math.nan
        below = self.negatives - (self.fp + self.fp_above) / 2
        return float(np.dot(np.diff(self.tp, prepend=0), below) / self.positives / self.negatives)

    def ap(self) -> float:
        """Compute average precision: sum of precision times gain in recall, without interpolation."""
        if not self.positives:
            return math.nan
        # At a threshold above every score precision is 0 / 0; its gain in recall is 0, so any value will do.
        precision = self.tp / np.maximum(self.tp + self.fp, 1)
        return float(np.dot(np.diff(self.tp, prepend=0), precision) / self.positives)

    def fpr95(self, rule: str) -> float:
        """Compute the false positive rate at 95 % true positive rate by one of ``FPR_RULES``."""
        if not (self.positives and self.negatives):
            return math.nan
        tpr = self.tp / self.positives
        if rule == "rwpm":
            false_positives = self.fp[self._first_corner(int(np.searchsorted(tpr, 0.95, side="right")))]
        elif rule == "pebal":
            false_positives = self._fp_nearest(tpr)
        elif rule == "mask2anomaly":
            false_positives = self._fp_interpolated(tpr)
        else:
            false_positives = self.fp[np.searchsorted(tpr, 0.95)]
        return float(false_positives / self.negatives)

    def _first_corner(self, start: int) -> int:
        """Find the first point from ``start`` on that scikit-learn keeps: one whose step differs from the next.

        scikit-learn keeps both ends too. The first point needs no special case: one step beyond 0.95 leaves no room for
        an equal one.
        """
        gain = np.diff(self.tp, prepend=0)[start:]
        tied = (self.fp - self.fp_above)[start:]
        only_negatives_enter = self.fp_above[start + 1 :] != self.fp[start:-1]
        corner = (np.diff(gain) != 0) | (np.diff(tied) != 0) | only_negatives_enter
        return start + int(np.argmax(np.append(corner, True)))

    def _fp_nearest(self, tpr: np.ndarray) -> int:
        """Count the false positives at the recall nearest to 0.95.

        PEBAL scans recalls from high to low, so among thresholds of one recall it meets the lowest first: that one has
        every negative above the next positive. The scan begins where recall 1 is first reached.
        """
        last = len(tpr) - 1
        nearest = last - int(np.argmin(np.abs(tpr[::-1] - 0.95)))
        return self.fp[nearest] if nearest == last else self.fp_above[nearest + 1]

    def _fp_interpolated(self, tpr: np.ndarray) -> float:
        """Interpolate the false positives linearly at recall 0.95."""
        above = np.searchsorted(tpr, 0.95, side="right")
        tpr_below = tpr[above - 1] if above else 0.0
        share = (0.95 - tpr_below) / (tpr[above] - tpr_below)
        return self.fp_above[above] + share * (self.fp[above] - self.fp_above[above])


def pixel_metrics(
    maps: Callable[[], Iterable[tuple[Any, Any]]],
    fpr_rule: str = "fishyscapes",
    *,
    share: Callable[[Any, Callable[[Any], Any]], Any] = lambda metrics, finish: finish(metrics),
) -> tuple[PixelResult, Curve, list[PixelResult]]:
    """Compute the numbers of :class:`PixelMetrics` to the last digit, of data sets whose pixels do not fit in memory.

    Anomalies are few, and their scores are the only thresholds that matter. The first pass collects them; the second
    counts the inliers between them, and forgets these.

    Memory: the scores of all anomalies, 28 bytes per distinct one of them, and one image.

    Args:
        maps: called twice; returns (scores [H, W], labels [H, W]) of every image, labels 0 inlier, 1 anomaly, every
            other value from 0 on void.
        fpr_rule: one of ``FPR_RULES``.
        share: merges an accumulator of either pass with those of other processes, if several share the images, and
            returns what the function that it gets makes of the whole.

    Returns:
        Metrics of all images; their curve, thinned to some 1000 points; metrics of each image of ``maps`` alone.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: unknown rule, shapes differ, or a valid pixel has the score NaN.
    """
    check_fpr_rule(fpr_rule)
    positives = PooledPositives()
    for image in maps():
        positives.add(*image)
    pooled = pooled_metrics(positives, maps, fpr_rule, share=share)
    return pooled.result, pooled.curve, pooled.alone


@dataclass(frozen=True)
class PooledMetrics:
    """What two passes over the maps of a data set give.

    Attributes:
        result: metrics of all images.
        curve: their curve, thinned to some 1000 points.
        alone: metrics of each image of this process alone.
        counts: what resampling the images needs, of each of them.
    """

    result: PixelResult
    curve: Curve
    alone: list[PixelResult]
    counts: list[ImageCounts]


def pooled_metrics(
    positives: PooledPositives,
    maps: Callable[[], Iterable[tuple[Any, Any]]],
    fpr_rule: str,
    *,
    share: Callable[[Any, Callable[[Any], Any]], Any] = lambda metrics, finish: finish(metrics),
) -> PooledMetrics:
    """Make the second pass of :func:`pixel_metrics`, where the first was made along with other work.

    Args:
        positives: accumulator to which every image was added.
        maps: called once; see :func:`pixel_metrics`.
        fpr_rule: see :func:`pixel_metrics`.
        share: see :func:`pixel_metrics`.
    """
    scores, images = share(positives, PooledPositives.pooled)
    counted = _CountedNegatives(scores)
    thresholds, exact = even_thresholds(scores, images)
    alone: list[PixelResult] = []
    counts: list[ImageCounts] = []

    for image in maps():
        above, below = (sorted_scores(part) for part in positives.kinds.split(*as_images(*image)))
        alone.append(exact_curve(above, below).result(fpr_rule, images=1))
        counts.append(ImageCounts.from_scores(above, below, thresholds, exact=exact))
        counted.add(below)
    result, curve = share(counted, lambda all_of_them: all_of_them.result(fpr_rule, images))
    return PooledMetrics(result, curve, alone, counts)


class PooledPositives:
    """The scores of the positives of some images.

    Attributes:
        kinds: the meaning of the labels.
    """

    def __init__(self) -> None:
        self.kinds = LabelKinds(positive=(1,), negative=(0,), void=None)
        self._scores = _Scores()
        self._images = 0

    def add(self, scores: Any, labels: Any) -> None:
        """Add an image.

        Args:
            scores: [H, W] floating-point array or tensor.
            labels: [H, W] integer or bool; see :func:`pixel_metrics`.

        Raises:
            TypeError: wrong kind of numbers.
            ValueError: shapes differ, or a valid pixel has the score NaN.
        """
        scores, labels = as_images(scores, labels)
        positives, negatives = self.kinds.split(scores, labels)
        self.kinds.note(labels, positives, negatives)
        self._scores.add(positives)
        self._images += 1

    def merge(self, other: PooledPositives) -> None:
        self.kinds.merge(other.kinds)
        self._scores.merge(other._scores)
        self._images += other._images

    def pooled(self) -> tuple[np.ndarray, int]:
        """Return all scores, ascending, and the number of images; warn of labels without positives or negatives."""
        self.kinds.warn_of_missing()
        return self._scores.pooled(self._scores.dtype), self._images


class _CountedNegatives:
    """Negatives of some images, counted at the scores of given positives.

    Args:
        positives: [P] scores of all positives, ascending.
    """

    def __init__(self, positives: np.ndarray) -> None:
        self._first = _firsts(positives)
        self._thresholds = positives[self._first]
        self._positives = len(positives)
        self._at_or_above, self._above = (np.zeros(len(self._first), np.int64) for _ in range(2))
        self._negatives = 0

    def add(self, negatives: np.ndarray) -> None:
        """Add the scores of an image's negatives, ascending."""
        add_counts_above(negatives, self._thresholds, self._at_or_above, self._above)
        self._negatives += len(negatives)

    def merge(self, other: _CountedNegatives) -> None:
        """Add the negatives of another process."""
        self._at_or_above += other._at_or_above
        self._above += other._above
        self._negatives += other._negatives

    def result(self, fpr_rule: str, images: int) -> tuple[PixelResult, Curve]:
        """Return the metrics of so many images, and the curve for plots."""
        curve = Curve(
            tp=(self._positives - self._first)[::-1],
            fp=self._at_or_above[::-1],
            fp_above=self._above[::-1],
            positives=self._positives,
            negatives=self._negatives,
        )
        return curve.result(fpr_rule, images), curve.thinned()


def _firsts(scores: np.ndarray) -> np.ndarray:
    """Return the place of the first of each distinct one of some ascending scores."""
    return np.flatnonzero(np.append(True, scores[1:] != scores[:-1])[: len(scores)])


def exact_curve(positives: np.ndarray, negatives: np.ndarray) -> Curve:
    """Compute the curve over the distinct scores of the positives.

    Args:
        positives: [P] scores, ascending.
        negatives: [N] scores, ascending, same type.
    """
    first = _firsts(positives)
    thresholds = positives[first]
    return Curve(
        tp=(len(positives) - first)[::-1],
        fp=(len(negatives) - np.searchsorted(negatives, thresholds, side="left"))[::-1],
        fp_above=(len(negatives) - np.searchsorted(negatives, thresholds, side="right"))[::-1],
        positives=len(positives),
        negatives=len(negatives),
    )


def check_fpr_rule(rule: str) -> None:
    """Raise ValueError unless ``rule`` is one of ``FPR_RULES``."""
    if rule not in FPR_RULES:
        raise ValueError(f"fpr_rule: expected one of {', '.join(FPR_RULES)}, got {rule!r}")


class LabelKinds:
    """What the label values of an accumulator mean, and which ones came while a kind is missing.

    Args:
        positive: label values of positives.
        negative: label values of negatives.
        void: label values of all other pixels; None for any from 0 on.

    Raises:
        ValueError: no positive or no negative label value, or one of two kinds.
    """

    def __init__(self, positive: Sequence[int], negative: Sequence[int], void: Sequence[int] | None) -> None:
        check_label_values(positive, negative, void or ())
        self.positive, self.negative = tuple(positive), tuple(negative)
        self.void = None if void is None else tuple(void)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._missing = {"positive": self.positive, "negative": self.negative}
        self._seen: set[int] = set()

    def split(self, scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copy the scores of positives and of negatives; see :func:`split_by_label`."""
        return split_by_label(scores, labels, self.positive, self.negative, self.void)

    def note(self, labels: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> None:
        """Note the labels of an image, and the scores that :meth:`split` gave."""
        for name, scores in (("positive", positives), ("negative", negatives)):
            if len(scores):
                self._missing.pop(name, None)
        if self._missing:
            self._seen.update(np.unique(labels).tolist())

    def merge(self, other: LabelKinds) -> None:
        """Add what another accumulator noted."""
        self._missing = {name: values for name, values in self._missing.items() if name in other._missing}
        self._seen |= other._seen

    def warn_of_missing(self) -> None:
        """Warn the caller's caller of a kind that no label had, with the labels that there were."""
        for name, values in self._missing.items() if self._seen else ():
            warnings.warn(
                f"{name}: no pixel is labeled {' or '.join(map(str, values))}, so metrics are NaN or mean nothing; "
                f"the labels are {listed(sorted(self._seen), 20)}",
                RuntimeWarning,
                stacklevel=3,
            )


def check_label_values(positive: Sequence[int], negative: Sequence[int], void: Sequence[int] = ()) -> None:
    """Raise ValueError unless there are positive and negative label values, and none of two kinds."""
    for name, values in (("positive", positive), ("negative", negative)):
        if not len(values):
            raise ValueError(f"{name}: expected at least one label value, got none")
    if both := set(positive) & set(negative):
        raise ValueError(f"positive: expected label values that are not negative too, got {sorted(both)} in both")
    if both := set(void) & {*positive, *negative}:
        raise ValueError(f"void: expected label values that are neither positive nor negative, got {sorted(both)}")


def as_images(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert scores and labels to two arrays [images, pixels].

    Args:
        scores: [..., H, W] array or tensor.
        labels: array or tensor of the same shape.

    Raises:
        TypeError: scores are not float16, float32 or float64, or labels neither integer nor bool.
        ValueError: shapes differ.
    """
    scores = as_array("scores", scores)
    labels = as_array("labels", labels)
    if scores.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"scores: expected float16, float32 or float64, got {scores.dtype}")
    if labels.dtype.kind not in "iub":
        raise TypeError(f"labels: expected integers or bool, got {labels.dtype}")
    if scores.shape != labels.shape:
        raise ValueError(f"labels: expected shape {list(scores.shape)} to match scores, got {list(labels.shape)}")
    shape = scores.shape
    images_pixels = (math.prod(shape[:-2]), math.prod(shape[-2:]))
    return scores.reshape(images_pixels), labels.reshape(images_pixels)


def split_by_label(
    scores: np.ndarray,
    labels: np.ndarray,
    positive: Sequence[int],
    negative: Sequence[int],
    void: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Copy the scores of positives and of negatives into two flat arrays; all other pixels are void.

    Args:
        scores: array of any shape.
        labels: array of the same shape.
        positive: label values of positives.
        negative: label values of negatives.
        void: label values of all other pixels; None for any from 0 on.

    Raises:
        ValueError: a label has no meaning, or a positive or negative pixel has the score NaN.
    """
    check_labels(labels, positive, negative, void)
    parts = scores[_among(labels, positive)], scores[_among(labels, negative)]
    unranked = sum(int(np.isnan(part).sum()) for part in parts)
    if unranked:
        raise ValueError(f"scores: expected no NaN on valid pixels, got {unranked} (mark such pixels void)")
    return parts


def _among(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Find the labels that are among some values; of one value this is ten times faster than ``isin``."""
    return labels == values[0] if len(values) == 1 else np.isin(labels, values)


def check_labels(
    labels: np.ndarray, positive: Sequence[int], negative: Sequence[int], void: Sequence[int] | None = None
) -> None:
    """Raise ValueError if there are labels that are neither positive, negative nor void.

    Args:
        labels: array of any shape.
        positive: label values of positives.
        negative: label values of negatives.
        void: label values of all other pixels; None for any from 0 on.
    """
    if void is None and labels.min(initial=0) >= 0:
        return
    unnamed = np.setdiff1d(labels, [*positive, *negative, *(void or ())])
    if void is None:
        unnamed = unnamed[unnamed < 0]
    if len(unnamed):
        raise ValueError(
            f"labels: got {listed(unnamed.tolist())}, which {'is' if len(unnamed) == 1 else 'are'} neither positive "
            f"{list(positive)} nor negative {list(negative)}"
            + (f" nor void {list(void)}" if void is not None else " and, being below 0, not void unless named")
            + "; pytorch-ood labels anomalies -1 and void 1 (positive=(-1,) of PixelMetrics)" * (-1 in unnamed)
        )


class _Scores:
    """Scores of one class, in float32, or in float64 once float64 scores were added.

    Small arrays are merged into large ones early: only large ones return their memory to the system when freed, and
    ``pooled`` then needs no second copy of everything.
    """

    BLOCK = 1 << 23

    def __init__(self) -> None:
        self._chunks: list[np.ndarray] = []
        self._blocks = 0  # number of large chunks, which come first
        self.dtype = np.dtype(np.float32)

    def add(self, scores: np.ndarray) -> None:
        self.dtype = np.promote_types(self.dtype, scores.dtype)
        self._chunks.append(scores.astype(np.promote_types(scores.dtype, np.float32), copy=False))
        if sum(map(len, self._chunks[self._blocks :])) >= self.BLOCK:
            self._chunks[self._blocks :] = [np.concatenate(self._chunks[self._blocks :])]
            self._blocks += 1

    def merge(self, other: _Scores) -> None:
        for chunk in list(other._chunks):
            self.add(chunk)

    def pooled(self, dtype: np.dtype) -> np.ndarray:
        """Return all scores as one ascending array, which replaces the chunks."""
        pooled = np.empty(sum(map(len, self._chunks)), dtype)
        end = len(pooled)
        while self._chunks:
            chunk = self._chunks.pop()
            pooled[end - len(chunk) : end] = chunk
            end -= len(chunk)
        pooled.sort()
        self._chunks, self._blocks = [pooled], 1
        return pooled
