"""Component metrics of SegmentMeIfYouCan (SMIYC): how well objects, not pixels, are detected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..io.arrays import as_array
from ..io.extras import import_extra
from .pixel import check_labels
from .smiyc import BinnedPixelMetrics, BinnedPixelResult

# An sIoU or PPV of exactly 0.6 counts as below: the benchmark's list has 0.6000000000000001 there.
THRESHOLDS = np.linspace(0.25, 0.75, 11)


@dataclass(frozen=True)
class SizeLimits:
    """Smallest components that count, in pixels.

    Attributes:
        predicted: smaller predicted components are dropped.
        true: smaller true components become void.
    """

    predicted: int
    true: int


TRACKS = {
    "anomaly_track": SizeLimits(predicted=500, true=100),
    "obstacle_track": SizeLimits(predicted=50, true=10),
    "generic": SizeLimits(predicted=500, true=100),
}


@dataclass(frozen=True)
class ComponentCounts:
    """Components found and missed at one threshold of sIoU and PPV, over all images.

    Attributes:
        threshold: a true component counts as found from this sIoU on, a predicted one as false below this PPV.
        tp: true components found.
        fn: true components missed.
        fp: predicted components that are false.
        f1: 2 TP / (2 TP + FN + FP); NaN without true and predicted components.
    """

    threshold: float
    tp: int
    fn: int
    fp: int
    f1: float


@dataclass(frozen=True)
class ComponentResult:
    """Component metrics of a data set, as fractions. A number whose definition would divide by zero is NaN.

    Attributes:
        siou: mean sIoU of the true components; NaN without any.
        ppv: mean PPV of the predicted components; NaN without any, so that an empty prediction has no precision rather
            than a bad one.
        f1: mean of F1 over the 11 thresholds 0.25, 0.30 .. 0.75; 0 if one side is empty, NaN if both are.
        by_threshold: the counts behind ``f1``.
        true: number of true components.
        predicted: number of predicted components.
        images: number of images seen.
        score_threshold: pixels with a score above it were predicted.
    """

    siou: float
    ppv: float
    f1: float
    by_threshold: tuple[ComponentCounts, ...]
    true: int
    predicted: int
    images: int
    score_threshold: float

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Components:
    """Components of one image after the size limits.

    Attributes:
        siou: [K] float64, sIoU of each true component.
        true_sizes: [K] int64 pixels.
        ppv: [P] float64, PPV of each predicted component.
        predicted_sizes: [P] int64 pixels, without those that small true components made void.
    """

    siou: np.ndarray
    true_sizes: np.ndarray
    ppv: np.ndarray
    predicted_sizes: np.ndarray


class ComponentMetrics:
    """sIoU, PPV and F1 of components (``SegEval`` of road-anomaly-benchmark; Chan et al., NeurIPS 2021).

    Pixels with a score above one threshold, the same for all images, are predicted; components are 8-connected. The
    benchmark takes the threshold of the best F1 of its binned pixel metric on the same data set;
    :func:`component_metrics` does both. As in the original the threshold is rounded to the type of the scores, and a
    score equal to it is not predicted.

    ================  =================  ============
    ``track``         predicted, pixels  true, pixels
    ================  =================  ============
    "anomaly_track"   500                100
    "obstacle_track"  50                 10
    "generic"         500                100
    ================  =================  ============

    Memory: two numbers per component.
    """

    def __init__(self, threshold: float, track: str = "generic") -> None:
        """Create an accumulator without images.

        Args:
            threshold: scores above it are predicted anomalies; NaN predicts none.
            track: one of ``TRACKS``, for the size limits.

        Raises:
            ValueError: unknown track.
            ImportError: SciPy is not installed.
        """
        if track not in TRACKS:
            raise ValueError(f"track: expected one of {', '.join(TRACKS)}, got {track!r}")
        _ndimage()
        self._threshold = float(threshold)
        self._limits = TRACKS[track]
        self.reset()

    def reset(self) -> None:
        """Remove all images."""
        self._images = 0
        self._siou: list[np.ndarray] = []
        self._ppv: list[np.ndarray] = []

    def update(self, scores: Any, labels: Any) -> None:
        """Add an image.

        Args:
            scores: [H, W] floating-point array or tensor, higher = more anomalous.
            labels: [H, W] integer, 0 inlier, 1 anomaly, every other value from 0 on void.

        Raises:
            TypeError: wrong kind of numbers.
            ValueError: no image, shapes differ, or a valid pixel has the score NaN. Nothing is added then.
            ImportError: SciPy is not installed.
        """
        scores, labels = as_array("scores", scores), as_array("labels", labels)
        if scores.dtype.kind != "f":
            raise TypeError(f"scores: expected floating point, got {scores.dtype}")
        unranked = (
            int((np.isnan(scores) & ((labels == 0) | (labels == 1))).sum()) if scores.shape == labels.shape else 0
        )
        if unranked:
            raise ValueError(f"scores: expected no NaN on valid pixels, got {unranked} (mark such pixels void)")
        with np.errstate(over="ignore", invalid="ignore"):
            self.update_mask(scores > scores.dtype.type(self._threshold), labels)

    def update_mask(self, predicted: Any, labels: Any) -> None:
        """Add an image from a binary mask instead of scores.

        Args:
            predicted: [H, W] bool.
            labels: [H, W] integer, 0 inlier, 1 anomaly, every other value from 0 on void.

        Raises:
            TypeError: wrong kind of values.
            ValueError: no image, or shapes differ. Nothing is added then.
            ImportError: SciPy is not installed.
        """
        found = match_components(predicted, labels, self._limits)
        self._siou.append(found.siou)
        self._ppv.append(found.ppv)
        self._images += 1

    def merge(self, other: ComponentMetrics) -> None:
        """Add all images of another accumulator.

        Raises:
            TypeError: ``other`` is no ComponentMetrics.
            ValueError: ``other`` has another threshold or other size limits.
        """
        if not isinstance(other, ComponentMetrics):
            raise TypeError(f"other: expected ComponentMetrics, got {type(other).__name__}")
        ours, theirs = (str((m._threshold, m._limits)) for m in (self, other))  # as text, where NaN equals NaN
        if ours != theirs:
            raise ValueError(f"other: expected threshold and limits {ours}, got {theirs}")
        self._siou += other._siou
        self._ppv += other._ppv
        self._images += other._images

    def compute(self) -> ComponentResult:
        """Compute the metrics of all images added so far; more may be added afterwards."""
        siou = np.concatenate([np.empty(0), *self._siou])
        ppv = np.concatenate([np.empty(0), *self._ppv])
        counts = tuple(_counts(siou, ppv, float(threshold)) for threshold in THRESHOLDS)
        return ComponentResult(
            siou=_mean(siou),
            ppv=_mean(ppv),
            f1=_mean(np.array([count.f1 for count in counts])),
            by_threshold=counts,
            true=len(siou),
            predicted=len(ppv),
            images=self._images,
            score_threshold=self._threshold,
        )


def component_metrics(
    maps: Callable[[], Iterable[tuple[Any, Any]]],
    track: str = "generic",
    *,
    reduce: Callable[[Any], Any] = lambda metrics: metrics,
) -> tuple[BinnedPixelResult, ComponentResult]:
    """Compute component metrics in the benchmark's two passes: threshold of best pixel F1, then components above it.

    Args:
        maps: called twice; returns (scores [H, W], labels [H, W]) of every image, as :class:`ComponentMetrics` takes
            them. Only one image is held at a time, so maps that are read from files need little memory.
        track: one of ``TRACKS``.
        reduce: merges an accumulator of either pass with those of other processes, if several share the images.

    Returns:
        Binned pixel metrics, and the component metrics at their threshold. Without a valid pixel nothing is predicted.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: unknown track, no image, shapes differ, or a valid pixel has the score NaN.
        ImportError: SciPy is not installed.
    """
    ComponentMetrics(0.0, track)
    pixels = BinnedPixelMetrics()
    for scores, labels in maps():
        pixels.update(scores, labels)
    result = reduce(pixels).compute()
    components = ComponentMetrics(result.best_f1_threshold, track)
    for scores, labels in maps():
        components.update(scores, labels)
    return result, reduce(components).compute()


def match_components(predicted: Any, labels: Any, limits: SizeLimits) -> Components:
    """Compute sIoU of the true components of an image and PPV of the predicted ones.

    Small predicted components are dropped first. Pixels of small true components then become void for both sides,
    which may leave a predicted component below its limit; it stays. As in the original, the background counts as a
    component here: if fewer pixels than the limit are not anomalous, they all become void.

    Args:
        predicted: [H, W] bool.
        labels: [H, W] integer, 0 inlier, 1 anomaly, every other value from 0 on void.
        limits: size limits.

    Raises:
        TypeError: wrong kind of values.
        ValueError: no image, shapes that differ, or labels below 0.
        ImportError: SciPy is not installed.
    """
    predicted, labels = as_array("predicted", predicted), as_array("labels", labels)
    if predicted.ndim != 2:
        raise ValueError(f"scores: expected one image [H, W], got {list(predicted.shape)}")
    if labels.shape != predicted.shape:
        raise ValueError(f"labels: expected shape {list(predicted.shape)} to match scores, got {list(labels.shape)}")
    if labels.dtype.kind not in "iub" or predicted.dtype != bool:
        raise TypeError(f"labels, predicted: expected integers and bool, got {labels.dtype} and {predicted.dtype}")
    check_labels(labels, positive=(1,), negative=(0,))
    valid = (labels == 0) | (labels == 1)
    true_map, true_sizes = label_components(labels == 1)  # [H, W], [K + 1], background first
    predicted_map, predicted_sizes = label_components(predicted & valid)

    predicted_map = kept_components(predicted_map, predicted_sizes >= limits.predicted)
    small = (true_sizes > 0) & (true_sizes < limits.true)
    predicted_map[small[true_map]] = 0
    true_map = kept_components(true_map, ~small)

    shared = _overlaps(true_map, predicted_map)  # [K + 1, P + 1] pixels
    sizes, predicted_sizes = shared.sum(1)[1:], shared.sum(0)[1:]
    objects = shared[1:, 1:]  # [K, P]
    touched = objects > 0
    common = objects.sum(1)  # |k n K^|
    union = touched @ predicted_sizes  # |K^|
    elsewhere = touched @ objects.sum(0) - common  # |A|, pixels of K^ on other objects
    seen = predicted_sizes > 0  # the others covered small objects only
    return Components(
        siou=common / (sizes + union - common - elsewhere),
        true_sizes=sizes,
        ppv=objects.sum(0)[seen] / predicted_sizes[seen],
        predicted_sizes=predicted_sizes[seen],
    )


def label_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label the components [H, W] of a mask from 1; with their sizes, that of the background first."""
    components, number = _ndimage().label(mask, structure=np.ones((3, 3)))
    return components, np.bincount(components.ravel(), minlength=number + 1)


def _ndimage() -> Any:
    return import_extra("scipy.ndimage", "measuring components")


def kept_components(components: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Renumber the components of ``kept`` [K + 1] from 1; the others become background, 0."""
    kept = kept.copy()
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[components]


def _overlaps(true_map: np.ndarray, predicted_map: np.ndarray) -> np.ndarray:
    """Count the pixels shared by each true and each predicted component: [K + 1, P + 1]."""
    rows, columns = (int(components.max(initial=0)) + 1 for components in (true_map, predicted_map))
    return np.bincount((true_map * columns + predicted_map).ravel(), minlength=rows * columns).reshape(rows, columns)


def _counts(siou: np.ndarray, ppv: np.ndarray, threshold: float) -> ComponentCounts:
    tp, fp = int((siou >= threshold).sum()), int((ppv < threshold).sum())
    fn = len(siou) - tp
    f1 = 2 * tp / (2 * tp + fn + fp) if tp + fn + fp else math.nan
    return ComponentCounts(threshold, tp, fn, fp, f1)


def _mean(values: np.ndarray) -> float:
    """Mean that is bit-identical in any order of the images."""
    return math.fsum(values) / len(values) if len(values) else math.nan
