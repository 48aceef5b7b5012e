"""Pixel metrics of a network on labelled photos, without and with the walk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from .data import Frame
from .metrics import ComponentResult, PixelMetrics, PixelResult
from .scorer import Scorer
from .scores import get


@dataclass
class Evaluation:
    """Pooled results of a set of photos.

    Attributes:
        results: (score name, "without" or "with" the walk) to pixel metrics.
        components: the same to component metrics, where they were asked for.
        network_seconds: time of the network, per photo.
        walk_seconds: time of the walk, per photo.
        failures: photos that could not be used, with the reason; they are in no result.
    """

    results: dict[tuple[str, str], PixelResult] = field(default_factory=dict)
    components: dict[tuple[str, str], ComponentResult] = field(default_factory=dict)
    network_seconds: list[float] = field(default_factory=list)
    walk_seconds: list[float] = field(default_factory=list)
    failures: dict[Path, str] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """JSON-ready form: fractions, seconds, paths as strings."""
        rows = [
            {"score": score, "walk": walk == "with", **vars(result)}
            | ({"components": self.components[score, walk].as_dict()} if self.components else {})
            for (score, walk), result in self.results.items()
        ]
        return {
            "results": rows,
            "network_seconds_median": median(self.network_seconds) if self.network_seconds else None,
            "walk_seconds_median": median(self.walk_seconds) if self.walk_seconds else None,
            "failures": {str(path): reason for path, reason in self.failures.items()},
        }


def evaluate(
    scorer: Scorer,
    frames: Iterable[Frame],
    *,
    scores: Sequence[str] = ("energy", "max_logit"),
    fpr_rule: str = "fishyscapes",
    on_photo: Callable[[Path, str | None], None] = lambda photo, failure: None,
) -> Evaluation:
    """Score every photo once without and once with the scorer's walk, and pool the pixels of each into one curve.

    Args:
        scorer: network and walk; its own score name is not used.
        frames: photos with labels, such as a :class:`rwpm_fast.data.Dataset`.
        scores: names in ``rwpm_fast.scores``.
        fpr_rule: how FPR95 is read off the curve; see :class:`rwpm_fast.metrics.PixelMetrics`.
        on_photo: called after each photo with the reason if it failed.

    Returns:
        Metrics by score and walk, times, and the photos that failed. A broken photo does not stop the others.

    Raises:
        ValueError: unknown score or rule, before any photo is read.
    """
    check_scores(scores)
    walks = ("without",) if scorer.walk is None else ("without", "with")
    metrics = {(score, walk): PixelMetrics(fpr_rule) for score in scores for walk in walks}
    evaluation = Evaluation()
    for frame in frames:
        try:
            photo, labels = frame.read()
            analysis = scorer.analyse(photo)
            with torch.inference_mode():
                for (score, walk), pooled in metrics.items():
                    prediction = analysis.walked if walk == "with" else analysis.plain
                    pooled.update(prediction.score(score), labels)
        except ValueError as error:
            evaluation.failures[frame.photo] = str(error)
            on_photo(frame.photo, str(error))
            continue
        evaluation.network_seconds.append(analysis.network_seconds)
        evaluation.walk_seconds.append(analysis.walk_seconds)
        on_photo(frame.photo, None)
    evaluation.results = {key: pooled.compute() for key, pooled in metrics.items()}
    return evaluation


def check_scores(names: Iterable[str]) -> None:
    """Raise ValueError unless every name is one in ``rwpm_fast.scores``."""
    for name in names:
        get(name)
