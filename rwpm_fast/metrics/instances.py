"""Average precision of anomalous objects: how many are found as objects of their own, and how surely (OoDIS)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..io.arrays import as_array
from .components import kept_components, label_components
from .pixel import check_labels

IOU_THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # as the original writes them; an IoU must be above its threshold
SMALLEST = 10  # pixels
CONFIDENCES = ("mean", "max")


@dataclass(frozen=True)
class InstanceResult:
    """Average precision of objects, as fractions.

    Attributes:
        ap: mean of the average precision over the ten IoU thresholds 0.50, 0.55 .. 0.95; NaN without a true object.
        ap50: average precision at an IoU above 0.5; NaN without a true object.
        by_threshold: average precision at each threshold.
        true: number of true objects that are large enough to count.
        predicted: number of predicted objects, those that are ignored included.
        images: number of images seen.
    """

    ap: float
    ap50: float
    by_threshold: tuple[float, ...]
    true: int
    predicted: int
    images: int

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Matches:
    """What one image says at every threshold: who is right and how sure, and how many objects nobody found.

    Attributes:
        correct: for each threshold [N] bool, for every prediction that counts.
        confidence: for each threshold [N] float64.
        missed: for each threshold the number of objects without a prediction.
    """

    correct: list[np.ndarray]
    confidence: list[np.ndarray]
    missed: list[int]


class InstanceMetrics:
    """AP and AP50 of predicted objects, as OoDIS evaluates them (Nekrasov et al. 2024, with Cityscapes' evaluation).

    A prediction is a mask with a confidence. It finds the true object with which its IoU is above the threshold; of
    several that find one object the surest counts, the others are false. One that finds none is false, unless the share
    of its pixels on void or on true objects of fewer than ``smallest`` pixels is above the threshold: then it is
    ignored. Pixels of void belong to a mask all the same. The precision-recall curve of all images together has one
    point for each confidence, and is integrated as Cityscapes does it: each precision weighs half the recall between
    its neighbors.

    :meth:`update` takes the masks of any method, and equals OoDIS's numbers on its labels. :meth:`update_map` makes
    masks of a score map, which OoDIS leaves to the method. They are the 8-connected components of the valid pixels
    above a threshold, so that no component reaches into void and none is ignored because of it; those of fewer than
    ``smallest`` pixels are dropped, where OoDIS keeps every mask.

    Memory: some numbers per prediction.

    Example:
        >>> metrics = InstanceMetrics()
        >>> metrics.update([mask, other], [0.9, 0.4], labels)  # [H, W] bool each, and [H, W] integers
        >>> metrics.compute().ap50
    """

    def __init__(self, smallest: int = SMALLEST) -> None:
        """Create an accumulator without images.

        Args:
            smallest: true objects of fewer pixels do not count, and predictions on them are ignored.

        Raises:
            ValueError: ``smallest`` below 1.
        """
        if smallest < 1:
            raise ValueError(f"smallest: expected 1 or more pixels, got {smallest}")
        self._smallest = smallest
        self.reset()

    def reset(self) -> None:
        """Remove all images."""
        self._images: list[_Matches] = []
        self._true = 0
        self._predicted = 0

    def update(self, masks: Any, confidences: Sequence[float] | Any, labels: Any, instances: Any = None) -> None:
        """Add an image by the masks of its predicted objects, which may overlap. Empty masks count for nothing.

        Args:
            masks: [N, H, W] bool, or as many arrays [H, W].
            confidences: [N], how sure each is; only their order matters.
            labels: [H, W] integer, 0 inlier, 1 anomaly, every other value from 0 on void.
            instances: [H, W] integer: among the anomalous pixels those of one value are one object, whatever the value;
                it says nothing about others. None for the 8-connected components of the anomalous pixels.

        Raises:
            TypeError: wrong kind of values.
            ValueError: shapes or numbers that differ, or a confidence that is not finite. Nothing is added then.
            ImportError: SciPy is not installed, and there are no ``instances``.
        """
        truth, sizes = _truth(labels, instances)
        found = np.asarray(confidences, np.float64)
        masks = [as_array("masks", mask) for mask in masks]
        if found.shape != (len(masks),) or not np.isfinite(found).all():
            raise ValueError(f"confidences: expected {len(masks)} finite numbers, one for each mask, got {confidences}")
        shared = np.zeros((len(sizes) + 2, len(masks)), np.int64)
        for index, mask in enumerate(masks):
            if mask.dtype != bool or mask.shape != truth.shape:
                wanted = f"bool {list(truth.shape)} to match labels"
                raise ValueError(f"masks: expected {wanted}, got {mask.dtype} {list(mask.shape)}")
            shared[:, index] = np.bincount(truth[mask], minlength=len(shared))
        self._add(shared, sizes, found)

    def update_map(
        self, scores: Any, labels: Any, threshold: float, instances: Any = None, *, confidence: str = "mean"
    ) -> None:
        """Add an image by the components of its score map above a threshold, see the class.

        Args:
            scores: [H, W] floating-point array or tensor, higher = more anomalous.
            labels: see :meth:`update`.
            threshold: valid pixels with a score above it, rounded to the type of the scores, are predicted; NaN for
                none. One for all images, such as ``best_f1_threshold`` of
                :class:`rwpm_fast.metrics.BinnedPixelMetrics`.
            instances: see :meth:`update`.
            confidence: "mean" or "max" of the scores in a component.

        Raises:
            TypeError: wrong kind of values.
            ValueError: shapes that differ, an unknown ``confidence``, or a valid pixel without a finite score. Nothing
                is added then.
            ImportError: SciPy is not installed.
        """
        if confidence not in CONFIDENCES:
            raise ValueError(f"confidence: expected one of {', '.join(CONFIDENCES)}, got {confidence!r}")
        truth, sizes = _truth(labels, instances)
        scores = as_array("scores", scores)
        if scores.dtype.kind != "f":
            raise TypeError(f"scores: expected floating point, got {scores.dtype}")
        if scores.shape != truth.shape:
            raise ValueError(f"scores: expected shape {list(truth.shape)} to match labels, got {list(scores.shape)}")
        valid = truth <= len(sizes)
        if unranked := int((~np.isfinite(scores[valid])).sum()):
            raise ValueError(f"scores: expected finite ones on valid pixels, got {unranked} (mark such pixels void)")
        with np.errstate(over="ignore"):
            components, predicted_sizes = label_components(valid & (scores > scores.dtype.type(threshold)))
        components = kept_components(components, predicted_sizes >= self._smallest)
        count = int(components.max(initial=0))
        shared = np.bincount((truth * (count + 1) + components).ravel(), minlength=(len(sizes) + 2) * (count + 1))
        inside = components > 0
        numbers = components[inside]
        found = scores[inside][np.argsort(numbers, kind="stable")].astype(np.float64)  # component behind component
        ends = np.cumsum(np.bincount(numbers, minlength=count + 1)[1:])
        parts = np.split(found, ends[:-1]) if count else []
        sure = [float(part.mean() if confidence == "mean" else part.max()) for part in parts]
        self._add(shared.reshape(-1, count + 1)[:, 1:], sizes, np.array(sure, np.float64))

    def merge(self, other: InstanceMetrics) -> None:
        """Add all images of another accumulator.

        Raises:
            TypeError: ``other`` is no InstanceMetrics.
            ValueError: ``other`` has another ``smallest``.
        """
        if not isinstance(other, InstanceMetrics):
            raise TypeError(f"other: expected InstanceMetrics, got {type(other).__name__}")
        if other._smallest != self._smallest:
            raise ValueError(f"other: expected smallest {self._smallest}, got {other._smallest}")
        self._images += other._images
        self._true += other._true
        self._predicted += other._predicted

    def compute(self) -> InstanceResult:
        """Compute the metrics of all images added so far; more may be added afterwards."""
        by_threshold = tuple(self._average_precision(index) for index in range(len(IOU_THRESHOLDS)))
        ap = math.fsum(by_threshold) / len(by_threshold)
        return InstanceResult(ap, by_threshold[0], by_threshold, self._true, self._predicted, len(self._images))

    def _add(self, shared: np.ndarray, sizes: np.ndarray, confidences: np.ndarray) -> None:
        """Add an image.

        Args:
            shared: [K + 2, P] pixels that each prediction shares with inliers, with each of K objects, and with void.
            sizes: [K] pixels of each object.
            confidences: [P].
        """
        seen = shared.sum(0) > 0
        shared, confidences = shared[:, seen], confidences[seen]
        predicted = shared.sum(0)
        counts = sizes >= self._smallest
        objects = shared[1:-1]  # [K, P]
        iou = objects / (sizes[:, None] + predicted - objects)
        ignored = (shared[-1] + objects[~counts].sum(0)) / predicted  # [P]
        matches = _Matches([], [], [])
        for threshold in IOU_THRESHOLDS:
            finds = iou > threshold
            correct = [np.zeros(int(pairs.sum()), bool) for pairs in finds[counts] if pairs.any()]
            sure = [np.sort(confidences[pairs])[::-1] for pairs in finds[counts] if pairs.any()]
            for first in correct:
                first[0] = True
            false = ~finds.any(0) & (ignored <= threshold)
            matches.correct.append(np.concatenate([*correct, np.zeros(int(false.sum()), bool)]))
            matches.confidence.append(np.concatenate([*sure, confidences[false]]))
            matches.missed.append(int(counts.sum()) - len(correct))
        self._images.append(matches)
        self._true += int(counts.sum())
        self._predicted += len(predicted)

    def _average_precision(self, index: int) -> float:
        """Integrate the precision-recall curve at one threshold."""
        if not self._true:
            return math.nan
        confidence = np.concatenate([np.empty(0), *(image.confidence[index] for image in self._images)])
        correct = np.concatenate([np.empty(0, bool), *(image.correct[index] for image in self._images)])
        order = np.argsort(confidence, kind="stable")
        _, first = np.unique(confidence[order], return_index=True)  # of each confidence, in ascending order
        taken = len(order) - first
        right = np.append(np.cumsum(correct[order][::-1])[::-1], 0)[first]
        total = int(correct.sum()) + sum(image.missed[index] for image in self._images)
        precision = np.append(right / taken, 1.0)
        recall = np.append(right / total, 0.0)
        steps = np.concatenate([recall[:1], recall, [0.0]])
        return float(precision @ ((steps[:-2] - steps[2:]) / 2))


def _truth(labels: Any, instances: Any) -> tuple[np.ndarray, np.ndarray]:
    """Number the true objects of an image.

    Returns:
        Map [H, W] int64: 0 inlier, 1..K objects, K + 1 void; and the sizes [K] of the objects.
    """
    labels = as_array("labels", labels)
    if labels.dtype.kind not in "iub":
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if labels.ndim != 2:
        raise ValueError(f"labels: expected one image [H, W], got {list(labels.shape)}")
    check_labels(labels, positive=(1,), negative=(0,))
    anomalous = labels == 1
    if instances is None:
        truth, sizes = label_components(anomalous)
        truth, sizes = truth.astype(np.int64), sizes[1:]
    else:
        instances = as_array("instances", instances)
        if instances.dtype.kind not in "iu" or instances.shape != labels.shape:
            wanted = f"integers {list(labels.shape)} to match labels"
            raise ValueError(f"instances: expected {wanted}, got {instances.dtype} {list(instances.shape)}")
        _, numbers, sizes = np.unique(instances[anomalous], return_inverse=True, return_counts=True)
        truth = np.zeros(labels.shape, np.int64)
        truth[anomalous] = numbers + 1
    truth[(labels != 0) & ~anomalous] = len(sizes) + 1
    return truth, sizes
