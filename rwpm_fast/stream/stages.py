"""The stages of a scorer, one after the other: network, walk, score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from ..ops.stopwatch import Stopwatch
from ..scoring.prediction import DensePrediction, MaskPrediction, Prediction, check_score_map
from ..scoring.scorer import Embedded, Scorer
from .deadline import Costs
from .levels import Level, levels
from .settings import StreamSettings


class Stages(Protocol):
    """What a pipeline does with a frame. Each stage is called from a thread of its own, by one frame at a time."""

    @property
    def degradations(self) -> Sequence[tuple[str, ...]]:
        """What each level changes, in words; none at level 0."""
        ...

    def prepare(self, photo: np.ndarray, *, measured: bool) -> Costs | None:
        """Run everything once, on the first frame [H, W, 3] uint8; with ``measured`` return what each stage costs."""
        ...

    def embed(self, photo: np.ndarray) -> Any:
        """Run the network on a photo [H, W, 3] uint8."""
        ...

    def walk(self, embedded: Any, level: int) -> Any:
        """Walk and classify what :meth:`embed` gave, at a level of degradation."""
        ...

    def score(self, predicted: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return score [H, W] float32 and segmentation [H, W] uint8 of what :meth:`walk` gave."""
        ...


class ScorerStages:
    """The stages of a :class:`rwpm_fast.Scorer`.

    Args:
        scorer: with the full walk.
        settings: with the bounds of the degradations, and the mask of the ego vehicle.
    """

    def __init__(self, scorer: Scorer, settings: StreamSettings) -> None:
        self._scorer = scorer
        self._settings = settings
        self._levels = [Level(scorer)]
        classes = scorer.network.classes
        self._sky = classes.index("sky") if "sky" in classes else None
        self._segmentation: np.ndarray | None = None  # of the last frame

    @property
    def degradations(self) -> Sequence[tuple[str, ...]]:
        """What each level changes, in words; none at level 0. Complete after :meth:`prepare`."""
        return [level.degradations for level in self._levels]

    def prepare(self, photo: np.ndarray, *, measured: bool) -> Costs | None:
        """Run everything on the first frame, since a first run takes longer.

        Args:
            photo: [H, W, 3] uint8.
            measured: run every level twice and return the seconds of the second run.

        Raises:
            ValueError: a photo or a mask that does not fit.
        """
        ego = self._settings.ego_mask
        if ego is not None and ego.shape != photo.shape[:2]:
            raise ValueError(f"ego_mask: expected {list(photo.shape[:2])} to match the frames, got {list(ego.shape)}")
        embedded = self.embed(photo)
        self.score(self.walk(embedded, 0))
        if not measured:
            return None
        height, width = embedded.embedding_map.shape[-2:]
        self._levels = levels(self._scorer, self._settings, (height, width))
        network, _ = _timed(partial(self.embed, photo))
        walks = []
        for level in range(len(self._levels)):
            self.walk(embedded, level)
            seconds, predicted = _timed(partial(self.walk, embedded, level))
            walks.append(seconds)
        score, _ = _timed(partial(self.score, predicted))
        return Costs(network, walks, score)

    def embed(self, photo: np.ndarray) -> Embedded:
        """Run the network on a photo [H, W, 3] uint8."""
        embedded = self._scorer.embed(photo)
        Stopwatch(embedded.embedding_map.device)  # waits for the device, so that stages are what they take
        return embedded

    def walk(self, embedded: Embedded, level: int) -> Prediction:
        """Walk and classify an embedded photo, at a level of degradation."""
        chosen = self._levels[level]
        if chosen.masked:
            embedded = replace(embedded, mask=self._relevant(embedded))
        return chosen.scorer.analyze_embedded(embedded).walked

    @torch.inference_mode()
    def score(self, predicted: Prediction) -> tuple[np.ndarray, np.ndarray]:
        """Return score [H, W] float32 and segmentation [H, W] uint8.

        Raises:
            ValueError: the score is not finite somewhere.
        """
        name = self._scorer.score
        if isinstance(predicted, (DensePrediction, MaskPrediction)):
            score, segmentation = predicted.score_and_segmentation(name, one_pass=True)
        else:
            score, segmentation = predicted.unchecked_score(name), predicted.segmentation.to(torch.uint8)
        check_score_map(name, score)
        self._segmentation = segmentation.cpu().numpy()
        return score.float().cpu().numpy(), self._segmentation

    def _relevant(self, embedded: Embedded) -> torch.Tensor | None:
        """Pixels that are worth a walk, [H, W] bool; None for all."""
        size, last = embedded.geometry.image_size, self._segmentation
        relevant = np.ones(size, bool)
        if self._sky is not None and last is not None and last.shape == size:
            relevant &= last != self._sky
        if self._settings.ego_mask is not None and self._settings.ego_mask.shape == size:
            relevant &= ~self._settings.ego_mask
        return torch.from_numpy(relevant).to(embedded.embedding_map.device)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = perf_counter()
    result = work()
    return perf_counter() - begin, result
