"""Measure the demo: anomaly scores without and with the walk, and the walk timed against dense PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor

from .. import baselines, info
from ..metrics import PixelMetrics, PixelResult
from ..ops.maps import Walk
from ..ops.settings import WalkSettings
from ..scenes.holdout import render_holdout_scene
from ..scoring.scorer import Analysis, Scorer
from .report import DemoResult, Timing

ROUNDS = 3
MAX_DENSE_BYTES = 2**32  # of the dense transition matrix; larger maps are not compared with dense PyTorch

# Norm-wise relative difference of two float32 walks that compute the same: both round each cosine, and 1 / tau scales
# that up.
FLOAT32_DIFFERENCE = 1e-4


def difference_bound(settings: WalkSettings) -> float:
    """Return the largest relative difference between our walk and the dense one that counts as agreement.

    A tolerance adds its own: each step may drop that mass from every row, and renormalizes what is left.

    Args:
        settings: of our walk.
    """
    return FLOAT32_DIFFERENCE + 2 * settings.steps * settings.tolerance


def demo_scene(seed: int, scorer: Scorer, command: str, size: tuple[int, int] = (512, 1024)) -> DemoResult:
    """Render a hold-out scene and score it without and with the walk; its labels give the metrics.

    Args:
        seed: number of the scene, >= 0.
        scorer: network, score and walk.
        command: shell command that repeats the demo, for the report.
        size: (height, width) of the scene in pixels, each 16 or more.

    Raises:
        TypeError: a scorer without a walk, or with another one than :class:`rwpm_fast.Walk`.
        ValueError: a negative seed, or a size below 16.
    """
    photo, labels = render_holdout_scene(seed, size)
    return _measure(scorer, photo, labels, title=f"Street {seed}", synthetic=True, command=command)


def demo_photo(photo: np.ndarray, title: str, scorer: Scorer, command: str) -> DemoResult:
    """Score a photo without and with the walk.

    Args:
        photo: [H, W, 3] uint8.
        title: for the report, such as the name of the photo's file.
        scorer: network, score and walk.
        command: shell command that repeats the demo, for the report.

    Raises:
        TypeError: a scorer without a walk, or with another one than :class:`rwpm_fast.Walk`.
    """
    return _measure(scorer, photo, None, title=title, synthetic=False, command=command)


def _measure(
    scorer: Scorer, photo: np.ndarray, labels: np.ndarray | None, *, title: str, synthetic: bool, command: str
) -> DemoResult:
    walk = scorer.walk
    if not isinstance(walk, Walk):
        raise TypeError(f"scorer: expected one with a walk, rwpm_fast.Walk, got {type(walk).__name__}")
    analysis = scorer.analyze(photo)
    with torch.inference_mode():
        before = analysis.plain.score(scorer.score).cpu().numpy()
        after = analysis.walked.score(scorer.score).cpu().numpy()
    channels, height, width = analysis.embedding_map.shape
    pixels, value_channels = height * width, len(analysis.plain.value_map)
    ours, dense, difference = _time(analysis, walk)
    facts = info.info()
    return DemoResult(
        title=title,
        synthetic=synthetic,
        photo=photo,
        before=before,
        after=after,
        labels=labels,
        metrics_before=None if labels is None else _metrics(before, labels),
        metrics_after=None if labels is None else _metrics(after, labels),
        walk=(
            Timing(f"rwpm_fast, tolerance {walk.settings.tolerance:g}", ours)
            if walk.settings.tolerance
            else Timing("rwpm_fast, exact", ours, 4 * pixels * (channels + 3 * value_channels))
        ),
        baseline=None if dense is None else Timing("dense torch, the whole matrix in memory", dense, 4 * pixels**2),
        difference=difference,
        difference_bound=difference_bound(walk.settings),
        pixels=pixels,
        channels=channels,
        value_channels=value_channels,
        walk_settings=walk.settings,
        command=command,
        settings={"network": scorer.network.name, "score": scorer.score},
        environment={name: str(facts[name]) for name in ("rwpm_fast", "torch", "processor", "isa_chosen", "cores")},
    )


def _time(analysis: Analysis, walk: Walk) -> tuple[float, float | None, float | None]:
    """Time our walk and the dense one on the logits of the whole map, uncut.

    Returns:
        Median seconds of our walk, median seconds of the dense walk, and ||ours - dense|| / ||dense||; None for the
        latter two if the dense matrix would need more than ``MAX_DENSE_BYTES``.
    """
    embedding_map, value_map = analysis.embedding_map, analysis.plain.value_map  # [D, h, w], [K, h, w]
    embeddings, values = embedding_map.flatten(1).T, value_map.flatten(1).T  # [N, D], [N, K]
    settings = replace(walk.settings, parts=1, anchor=-1.0, anchor_share=0.0)  # what the dense walk computes
    uncut = Walk(**asdict(settings), backend=walk.backend)
    walks = {"ours": lambda: uncut(embedding_map[None], value_map[None])[0].flatten(1).T}
    if 4 * len(embeddings) ** 2 <= MAX_DENSE_BYTES:
        walks["dense"] = lambda: baselines.dense_walk(
            embeddings,
            values,
            alpha=settings.alpha,
            steps=settings.steps,
            temperature=settings.temperature,
            flush=True,
        )
    seconds, results = _time_in_turn(walks)
    if "dense" not in walks:
        return seconds["ours"], None, None
    difference = (results["ours"] - results["dense"]).norm() / results["dense"].norm()
    return seconds["ours"], seconds["dense"], difference.item()


def _time_in_turn(walks: Mapping[str, Callable[[], Tensor]]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Run all walks once a round, so that a change of the machine's load meets all of them; median seconds, results."""
    seconds: dict[str, list[float]] = {name: [] for name in walks}
    results = {}
    for _ in range(ROUNDS):
        for name, run in walks.items():
            start = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}, results


def _metrics(score: np.ndarray, labels: np.ndarray) -> PixelResult:
    metrics = PixelMetrics()
    metrics.update(score, labels)
    return metrics.compute()
