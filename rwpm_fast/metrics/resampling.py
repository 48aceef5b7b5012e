"""Pooled AP and FPR95 of images that are drawn with replacement: what a bootstrap over images needs.

Sorting the pool of every sample again would take hours. The pixels of each image are counted once at thresholds that
all images share; a sample is then a weighted sum of these counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SAMPLES = 1000
THRESHOLDS = 2048  # at most; then 0.05 % of recall lie between two
_COUNTS = 1 << 22  # of all images, 32 MiB, unless fewer than 128 thresholds would be left
_SAMPLES_AT_ONCE = 64  # whose curves take some MiB


def even_thresholds(positives: np.ndarray, images: int) -> tuple[np.ndarray, bool]:
    """Choose thresholds in even steps of the recall of all images together.

    Args:
        positives: [P] scores of all positives, ascending.
        images: number of images that will be counted; of more than 2048, the thresholds are fewer.

    Returns:
        [K] ascending: all distinct scores if there are at most 2048, else that many of them, the smallest among them;
        and whether they are all.
    """
    most = min(THRESHOLDS, max(128, _COUNTS // max(images, 1)))
    distinct = positives[np.append(True, positives[1:] != positives[:-1])[: len(positives)]]
    if len(distinct) <= most:
        return distinct, True
    return np.unique(positives[np.arange(most) * len(positives) // most]), False


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """Pixels of each image at or above thresholds that all images share.

    Attributes:
        tp: [N, K] int32 positives of every image at or above each threshold, thresholds falling; all in the last one.
        fp: [N, K] int32 negatives.
        negatives: [N] int64 all negatives of every image.
        exact: whether the thresholds are all distinct scores of positives.
    """

    tp: np.ndarray
    fp: np.ndarray
    negatives: np.ndarray
    exact: bool

    @classmethod
    def from_scores(
        cls, positives: np.ndarray, negatives: np.ndarray, thresholds: np.ndarray, *, exact: bool
    ) -> ImageCounts:
        """Count one image.

        Args:
            positives: [P] its positives' scores, ascending.
            negatives: [Q] its negatives' scores, ascending.
            thresholds: [K] ascending.
            exact: whether these are all distinct scores of the positives of all images.
        """
        tp, fp = (
            (len(scores) - np.searchsorted(scores, thresholds))[None, ::-1].astype(np.int32)
            for scores in (positives, negatives)
        )
        return cls(tp, fp, np.array([len(negatives)], np.int64), exact)

    @classmethod
    def concatenated(cls, images: Sequence[ImageCounts]) -> ImageCounts | None:
        """Put images that were counted at the same thresholds together, in order; None without any."""
        if not images:
            return None
        tp, fp, negatives = (
            np.concatenate([getattr(image, name) for image in images]) for name in ("tp", "fp", "negatives")
        )
        return cls(tp, fp, negatives, images[0].exact)

    def whole(self) -> tuple[float, float]:
        """Compute AP and FPR95 of the pool of all images, as :meth:`resampled` does."""
        ap, fpr95 = self._metrics(np.ones((1, len(self.tp))))[:, 0]
        return float(ap), float(fpr95)

    @cached_property
    def bootstrap(self) -> tuple[np.ndarray, np.ndarray]:
        """AP and FPR95 of 1000 pools of images drawn with replacement, from a fixed seed; see :meth:`resampled`."""
        return self.resampled(SAMPLES)

    def resampled(self, samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Compute AP and FPR95 of the pools of images that are drawn with replacement, as many as there are.

        With all distinct scores as thresholds they are those of :class:`rwpm_fast.metrics.PixelMetrics`, FPR95 by its
        rule "fishyscapes". Else precision and false positive rate count as linear in recall between two thresholds;
        by how much that is off shows in :meth:`whole`.

        Args:
            samples: number of samples, R.
            seed: of the draw; of one seed and number, all counts of the same images are resampled alike.

        Returns:
            AP [R] and FPR95 [R], as fractions; NaN without positives, or for FPR95 without negatives.
        """
        images = len(self.tp)
        random = np.random.default_rng(seed)
        parts = []
        for start in range(0, samples, _SAMPLES_AT_ONCE):
            size = min(_SAMPLES_AT_ONCE, samples - start)
            drawn = random.multinomial(images, np.full(images, 1 / images), size=size)
            parts.append(self._metrics(drawn.astype(np.float64)))
        ap, fpr95 = np.concatenate(parts, axis=1)
        return ap, fpr95

    def _metrics(self, weights: np.ndarray) -> np.ndarray:
        """Compute AP and FPR95 [2, R] of the images, weighted by [R, N] float64."""
        if not self.tp.shape[1]:
            return np.full((2, len(weights)), np.nan)
        tp, fp, negatives = weights @ self.tp, weights @ self.fp, weights @ self.negatives
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = tp / tp[:, -1:]
            precision = tp / np.maximum(tp + fp, 1)
            found = np.argmax(recall >= 0.95, axis=1)
            rows = np.arange(len(tp))
            false = fp[rows, found]
            if not self.exact:
                precision[:, 1:] = (precision[:, 1:] + precision[:, :-1]) / 2
                recall_before, false_before = (np.where(found > 0, of[rows, found - 1], 0) for of in (recall, fp))
                share = (0.95 - recall_before) / (recall[rows, found] - recall_before)
                false = false_before + (false - false_before) * share
            ap = (np.diff(recall, axis=1, prepend=0) * precision).sum(axis=1)
            fpr95 = np.where(tp[:, -1] > 0, false / negatives, np.nan)
        return np.stack([ap, fpr95])
