"""Compute the maps of a photo from the output of a network's head: class logits, segmentation, anomaly scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import scores
from ..networks import MaskLogits
from ..ops.score_map import SCORES as ONE_PASS_SCORES
from ..ops.score_map import score_map
from .calibration import calibrate
from .geometry import enlarged, known_equal

# Masks of a full photo take hundreds of megabytes; this many queries at a time are enough to keep the cores busy.
QUERIES_AT_ONCE = 10


def likeliest(logits: Tensor) -> Tensor:
    """Index of the likeliest class, [H, W] int64, of logits or class maps [K, H, W]."""
    return logits.max(0).indices  # argmax takes several times as long on a CPU


def check_score_map(name: str, score: Tensor) -> None:
    """Raise ValueError if a score map is not finite; see :meth:`Prediction.score`."""
    if broken := int((~score.isfinite()).sum()):
        raise ValueError(
            f"{name}: not finite at {broken} of {score.numel()} pixels; most likely weights of the network are not "
            "finite, or its dtype is too narrow for this photo"
        )


@dataclass(frozen=True, eq=False)
class Prediction:
    """Output of the head for one photo, and the maps that are computed from it on demand.

    Attributes:
        size: height and width of the photo.
        edges: edges of the sub-maps in rows and columns of the photo, for scores to be calibrated across them; None
            for scores as they are.
    """

    size: tuple[int, int]
    edges: tuple[list[int], list[int]] | None

    @property
    def value_map(self) -> Tensor:
        """Output of the head for each pixel of the embedding map, [C, h, w]: class logits, or mask logits."""
        raise NotImplementedError

    @property
    def full_logits(self) -> Tensor:
        """Class logits, or class maps of a mask head, in the photo's size, [K, H, W] float32."""
        raise NotImplementedError

    @cached_property
    def segmentation(self) -> Tensor:
        """Index of the likeliest class, [H, W] int64."""
        return likeliest(self.full_logits)

    def score(self, name: str) -> Tensor:
        """Compute an anomaly score, [H, W] float32; higher is more anomalous.

        Args:
            name: a key of :data:`rwpm_fast.scores.SCORES`.

        Raises:
            ValueError: no such score, or it is not finite at some pixels. Metrics would rank an infinite score, and
                :mod:`rwpm_fast.scores` gives them as limits; but as the score of a photo it comes of logits that
                overflowed, as NaN does of weights that are broken.
        """
        score = self.unchecked_score(name)
        check_score_map(name, score)
        return score

    def score_and_segmentation(self, name: str, *, one_pass: bool = False) -> tuple[Tensor, Tensor]:
        """Compute an anomaly score, unchecked, and the segmentation as uint8; keep nothing, for code that is traced.

        Args:
            name: of the score.
            one_pass: compute both by the operator ``rwpm::score_map`` where it serves.
        """
        raise NotImplementedError

    def unchecked_score(self, name: str) -> Tensor:
        """Compute an anomaly score as :meth:`score` does, finite or not: no branch depends on its values."""
        raise NotImplementedError

    def _calibrated(self, score: Tensor) -> Tensor:
        return score if self.edges is None else calibrate(score, *self.edges)


@dataclass(frozen=True, eq=False)
class DensePrediction(Prediction):
    """Prediction of a head that gives class logits.

    Attributes:
        logits: [K, h, w], as the head gives them.
        align_corners: how bilinear up-sampling places the corners.
        padded_size: height and width of the network's input, padding included.
        input_size: height and width of the network's input without padding.
    """

    logits: Tensor
    align_corners: bool
    padded_size: tuple[int, int]
    input_size: tuple[int, int]

    @property
    def value_map(self) -> Tensor:
        return self.logits

    @cached_property
    def full_logits(self) -> Tensor:
        return self._enlarged()

    def score_and_segmentation(self, name: str, *, one_pass: bool = False) -> tuple[Tensor, Tensor]:
        resized = known_equal(self.padded_size, self.input_size)
        one_pass = one_pass and name in ONE_PASS_SCORES and self.edges is None
        if one_pass and (resized or known_equal(self.input_size, self.size)):
            enlarged_size = self.size if resized else self.padded_size
            logits = self.logits.float()
            return score_map(logits, self.size, enlarged_size, align_corners=self.align_corners, score=name)
        full_logits = self._enlarged()
        return self._score_of(name, full_logits), likeliest(full_logits).to(torch.uint8)

    def unchecked_score(self, name: str) -> Tensor:
        return self._score_of(name, self.full_logits)

    def _enlarged(self) -> Tensor:
        # Up-sampling comes before the score: the two do not commute.
        sizes = self.size, self.input_size, self.padded_size
        return enlarged(self.logits[None].float(), *sizes, align_corners=self.align_corners)[0]

    def _score_of(self, name: str, full_logits: Tensor) -> Tensor:
        if name == "blurred_energy":  # as released, the blur comes after the calibration
            return scores.gaussian_blur(self._calibrated(scores.energy(full_logits)))
        return self._calibrated(scores.get(name)(full_logits))


@dataclass(frozen=True, eq=False)
class MaskPrediction(Prediction):
    """Prediction of a mask head.

    As released by RbA and Mask2Anomaly, masks are up-sampled to the network's input first, then squashed and summed
    into class maps L_k, cropped, and resized to the photo if the network resized it; scores come last. With a second
    view, that of the mirror image, class maps and scores are the average of both.

    Attributes:
        logits: of V views, [V, Q, K + 1] and [V, Q, h, w]: those of the photo, then of its mirror image if V is 2.
        padded_size: height and width of the network's input, padding included.
        input_size: height and width of the network's input without padding.
    """

    logits: MaskLogits
    padded_size: tuple[int, int]
    input_size: tuple[int, int]

    @property
    def value_map(self) -> Tensor:
        return self.logits.mask_logits[0]

    @cached_property
    def full_logits(self) -> Tensor:
        return average_views(self._class_maps)

    def score_and_segmentation(self, name: str, *, one_pass: bool = False) -> tuple[Tensor, Tensor]:
        class_maps = self._compute_class_maps()
        return self._score_of(name, class_maps), likeliest(average_views(class_maps)).to(torch.uint8)

    def unchecked_score(self, name: str) -> Tensor:
        return self._score_of(name, self._class_maps)

    def _score_of(self, name: str, class_maps: list[Tensor]) -> Tensor:
        score = scores.get(name)
        views = []
        for view, maps in enumerate(class_maps):
            stuff = [self._stuff_maps(view)] if name == "mask2anomaly" else []
            views.append(self._calibrated(score(maps, *stuff)))
        return average_views(views)

    @cached_property
    def _class_maps(self) -> list[Tensor]:
        return self._compute_class_maps()

    def _compute_class_maps(self) -> list[Tensor]:
        """L_k of each view, [K, H, W]; kept, because every map is computed from them."""
        views = range(len(self.logits.class_logits))
        sums = [sum(scores.mask_class_logits(*part) for part in self._queries(view)) for view in views]
        return [self._resized(cast(Tensor, maps)) for maps in sums]

    def _stuff_maps(self, view: int) -> Tensor:
        return self._resized(torch.cat([scores.confident_stuff_maps(*part) for part in self._queries(view)]))

    def _queries(self, view: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield class logits [q, K + 1] and cropped masks [q, H', W'] of a view, a few queries at a time."""
        height, width = self.input_size
        class_logits, mask_logits = (logits[view].split(QUERIES_AT_ONCE) for logits in self.logits)
        for classes, masks in zip(class_logits, mask_logits, strict=True):
            full = F.interpolate(masks[None].float(), self.padded_size, mode="bilinear", align_corners=False)[0]
            yield classes.float(), full[:, :height, :width]

    def _resized(self, maps: Tensor) -> Tensor:
        """Resize maps [C, H', W'] to the size of the photo; C may be 0."""
        if known_equal(self.input_size, self.size):
            return maps
        return F.interpolate(maps[:, None], self.size, mode="bilinear", align_corners=False)[:, 0]


def average_views(views: Sequence[Tensor] | Tensor) -> Tensor:
    """Average views [..., H, W]; the second is mirrored back first."""
    if len(views) == 1:
        return views[0]
    plain, mirrored = views
    return (plain + mirrored.flip(-1)) / 2
