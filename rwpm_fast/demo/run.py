"""The demo's measurements: the chain without and with the walk, and the walk timed beside dense torch."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import torch

from .. import baselines, info
from ..metrics import PixelMetrics
from ..ops.maps import Walk
from ..scenes.holdout import unseen_street
from ..scoring.scorer import Analysis, Scorer
from .report import Accuracy, DemoResult, Timing

REPEATS = 3
MOST_DENSE = 2**32  # bytes of the matrix of dense torch; maps that need more are not compared

# Norm-wise relative difference that counts as agreement in float32: both round each cosine, and 1 / tau scales that up.
# A tolerance adds its own: every step may drop that mass from every row, and renormalize what is left.
AGREEMENT = 1e-4


def agreement(walk: Walk) -> float:
    """Largest relative difference between our walk and the dense one that counts as agreement."""
    return AGREEMENT + 2 * walk.settings.steps * walk.settings.tolerance


def demo_street(seed: int, scorer: Scorer, command: str) -> DemoResult:
    """Paint a street and look at it without and with the scorer's walk; its ground truth gives the metrics."""
    photo, labels = unseen_street(seed)
    return _look(scorer, photo, command, title=f"Street {seed}", synthetic=True, labels=labels)


def demo_photo(photo: np.ndarray, title: str, scorer: Scorer, command: str) -> DemoResult:
    """Look at a photo, [H, W, 3] uint8, without and with the scorer's walk."""
    return _look(scorer, photo, command, title=title, synthetic=False)


def _look(scorer: Scorer, photo: np.ndarray, command: str, labels: np.ndarray | None = None, **kind: Any) -> DemoResult:
    walk = scorer.walk
    analysis = scorer.analyze(photo)
    with torch.inference_mode():
        before = analysis.plain.score(scorer.score).cpu().numpy()
        after = analysis.walked.score(scorer.score).cpu().numpy()
    ours, dense, difference = _compare(analysis, walk)
    channels, *size = analysis.embedding_map.shape
    pixels, value_channels = size[0] * size[1], len(analysis.plain.logits)
    facts = info.info()
    return DemoResult(
        photo=photo,
        before=before,
        after=after,
        labels=labels,
        accuracy_before=None if labels is None else _accuracy(before, labels),
        accuracy_after=None if labels is None else _accuracy(after, labels),
        walk=(
            Timing(f"rwpm_fast, tolerance {walk.settings.tolerance:g}", ours)
            if walk.settings.tolerance
            else Timing("rwpm_fast, exact", ours, 4 * pixels * (channels + 3 * value_channels))
        ),
        baseline=(None if dense is None else Timing("dense torch, the whole matrix in memory", dense, 4 * pixels**2)),
        difference=difference,
        difference_bound=agreement(walk),
        pixels=pixels,
        channels=channels,
        value_channels=value_channels,
        alpha=walk.settings.alpha,
        steps=walk.settings.steps,
        temperature=walk.settings.temperature,
        tolerance=walk.settings.tolerance,
        command=command,
        environment={name: str(facts[name]) for name in ("rwpm_fast", "torch", "processor", "isa_chosen", "cores")},
        settings={
            "network": scorer.network.name,
            "score": scorer.score,
            "sub-maps": f"{walk.settings.parts} x {walk.settings.parts}",
        },
        **kind,
    )


def _compare(analysis: Analysis, walk: Walk) -> tuple[float, float | None, float | None]:
    """Median seconds of our walk and of dense torch on the whole map, in turn, and their relative difference; None for
    the latter two where the matrix would be too large."""
    embeddings = analysis.embedding_map.flatten(1).T  # [N, D]
    logits = analysis.plain.value_map.flatten(1).T  # [N, K]
    settings = {"alpha": walk.settings.alpha, "steps": walk.settings.steps, "temperature": walk.settings.temperature}
    uncut = Walk(**settings, tolerance=walk.settings.tolerance, backend=walk.backend)
    seconds: dict[str, list[float]] = {"ours": []}
    if 4 * len(embeddings) ** 2 <= MOST_DENSE:
        seconds["dense"] = []
    results = {}
    for _ in range(REPEATS):
        for name in seconds:
            start = time.perf_counter()
            if name == "ours":
                walked = uncut(analysis.embedding_map[None], analysis.plain.value_map[None])[0]
                results[name] = walked.flatten(1).T
            else:
                results[name] = baselines.dense_walk(embeddings, logits, **settings, flush=True)
            seconds[name].append(time.perf_counter() - start)
    if "dense" not in seconds:
        return median(seconds["ours"]), None, None
    difference = (results["ours"] - results["dense"]).norm() / results["dense"].norm()
    return median(seconds["ours"]), median(seconds["dense"]), difference.item()


def _accuracy(score: np.ndarray, labels: np.ndarray) -> Accuracy:
    metrics = PixelMetrics()
    metrics.update(score, labels)
    result = metrics.compute()
    return Accuracy(average_precision=result.ap, auroc=result.auroc, fpr95=result.fpr95)
