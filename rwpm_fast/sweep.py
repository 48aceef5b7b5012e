"""Pixel metrics of several walks on the same embeddings, kept photo by photo, so that what was cut off goes on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import __version__
from .data import Frame
from .evaluate import Evaluation, check_scores
from .images import write_whole
from .metrics import ComponentMetrics, ComponentResult, PixelMetrics, PixelResult, component_metrics
from .networks import Network
from .scorer import Scorer, device_of


@dataclass
class Sweep:
    """Pooled results of several scorers on a set of photos.

    Attributes:
        results: (index of the scorer, score name) to pixel metrics.
        seconds: [photos, scorers, 2], time of the network and of the walk.
        failures: photos that could not be used, with the reason; they are in no result.
        components: (index of the scorer, score name) to component metrics, where they were asked for.
    """

    results: dict[tuple[int, str], PixelResult]
    seconds: np.ndarray
    failures: dict[Path, str]
    components: dict[tuple[int, str], ComponentResult] = field(default_factory=dict)

    def network_seconds(self, scorer: int) -> float:
        """Time of the network, before and after a scorer's walk, at the median photo; NaN without photos."""
        return self._median(self.seconds[:, scorer, 0])

    def walk_seconds(self, scorer: int) -> float:
        """Time of a scorer's walk at the median photo, 0 without a walk; NaN without photos."""
        return self._median(self.seconds[:, scorer, 1])

    def fps(self, scorer: int) -> float:
        """Frames a second of network and walk together at the median photo; NaN without photos."""
        return 1 / self._median(self.seconds[:, scorer].sum(-1))

    @staticmethod
    def _median(seconds: np.ndarray) -> float:
        return float(np.median(seconds)) if len(seconds) else math.nan


def sweep(
    scorers: Sequence[Scorer],
    frames: Iterable[Frame],
    cache: Path,
    *,
    scores: Sequence[str] = ("energy",),
    fpr_rule: str = "fishyscapes",
    track: str | None = None,
    on_photo: Callable[[Path, str | None], None] = lambda photo, failure: None,
) -> Sweep:
    """Run the network once a photo, walk its embeddings by every scorer, and pool the pixels of each into one curve.

    What a photo gave is written to ``cache`` as one file, whole or not at all: the score maps in float32, 4 bytes per
    photo pixel, scorer and score, and the times. A file serves again where photo, network and its weights, walks,
    scores, device, number of threads and versions are the same; labels may change. A walk is known by its ``repr``.

    Args:
        scorers: one network, and a walk each; their own score names are not used.
        frames: photos with labels, such as a :class:`rwpm_fast.data.Dataset`.
        cache: folder for the files, which must exist.
        scores, fpr_rule, on_photo: as of :func:`rwpm_fast.evaluate.evaluate`.
        track: for component metrics too, one of ``rwpm_fast.metrics.TRACKS``; the files are then read twice more.

    Returns:
        Metrics by scorer and score, times, and the photos that failed. A broken photo does not stop the others.

    Raises:
        ValueError: no scorers, scorers of different networks, unknown score, rule or track, before any photo is read.
        OSError: ``cache`` cannot be written; the files so far stay.
    """
    if not scorers or any(scorer.network is not scorers[0].network for scorer in scorers):
        raise ValueError("scorers: expected one or more that share a network")
    check_scores(scores)
    PixelMetrics(fpr_rule)
    if track is not None:
        ComponentMetrics(0.0, track)

    identity = _identity(scorers, scores)
    done: list[tuple[Path, Frame]] = []  # results, labels
    failures: dict[Path, str] = {}
    for frame in frames:
        try:
            photo, _ = frame.read()
            digest = hashlib.sha256(identity + str(photo.shape).encode() + photo.tobytes()).hexdigest()
            path = cache / f"{frame.id}-{digest[:16]}.npz"
            if not path.exists():
                arrays = _analyse(scorers, photo, scores)
                write_whole(path, lambda file, arrays=arrays: np.savez(file, **arrays))
        except ValueError as error:
            failures[frame.photo] = str(error)
            on_photo(frame.photo, str(error))
            continue
        done.append((path, frame))
        on_photo(frame.photo, None)

    def maps(key: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((_read(path, key), frame.read_labels()) for path, frame in done)

    swept = Sweep({}, np.array([_read(path, "seconds") for path, _ in done]).reshape(-1, len(scorers), 2), failures)
    for index in range(len(scorers)):
        for score in scores:
            key = _key(index, score)
            metrics = PixelMetrics(fpr_rule)  # one at a time, since it holds all its pixels
            for image in maps(key):
                metrics.update(*image)
            swept.results[index, score] = metrics.compute()
            if track is not None:
                _, swept.components[index, score] = component_metrics(lambda key=key: maps(key), track)
    return swept


def evaluate_kept(scorer: Scorer, frames: Iterable[Frame], cache: Path, **settings: Any) -> Evaluation:
    """What :func:`rwpm_fast.evaluate.evaluate` gives, by a sweep whose files are kept, and component metrics.

    Args:
        scorer: network and walk.
        frames, cache, settings: as of :func:`sweep`.
    """
    plain = Scorer(scorer.network, walk=None, walk_values=scorer.walk_values)
    swept = sweep([plain, scorer], frames, cache, **settings)
    names = ("without", "with")
    return Evaluation(
        {(score, names[index]): result for (index, score), result in swept.results.items()},
        {(score, names[index]): result for (index, score), result in swept.components.items()},
        swept.seconds[:, 1, 0].tolist(),
        swept.seconds[:, 1, 1].tolist(),
        swept.failures,
    )


@torch.inference_mode()
def _analyse(scorers: Sequence[Scorer], photo: np.ndarray, scores: Sequence[str]) -> dict[str, np.ndarray]:
    """What a photo's file holds: a map [H, W] float32 by scorer and score, and seconds [scorers, 2].

    Raises:
        ValueError: a walk does not fit the map, or a score is NaN.
    """
    embedded = scorers[0].embed(photo)
    arrays, seconds = {}, []
    for index, scorer in enumerate(scorers):
        analysis = scorer.analyse_embedded(embedded)
        seconds.append((analysis.network_seconds, analysis.walk_seconds))
        for score in scores:
            score_map = analysis.walked.score(score).cpu().numpy()
            if np.isnan(score_map).any():
                raise ValueError(f"{score}: NaN at {np.isnan(score_map).sum()} pixels, with walk {scorer.walk}")
            arrays[_key(index, score)] = score_map
    return {**arrays, "seconds": np.array(seconds)}


def _key(index: int, score: str) -> str:
    return f"{index}.{score}"


def _read(path: Path, key: str) -> np.ndarray:
    with np.load(path) as file:
        return file[key]


def weights_digest(network: Network) -> str:
    """SHA-256 of all parameters and buffers, with their names, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _identity(scorers: Sequence[Scorer], scores: Sequence[str]) -> bytes:
    """Digest of all but the photo that makes the files what they are, times included."""
    network = scorers[0].network
    facts = {
        "versions": [__version__, torch.__version__],
        "threads": torch.get_num_threads(),
        "device": str(device_of(network)),
        "network": network.name,
        "weights": weights_digest(network),
        "scorers": [
            [repr(scorer.walk), scorer.walk_values, scorer.calibrated, scorer.walk_padding] for scorer in scorers
        ],
        "scores": list(scores),
    }
    return hashlib.sha256(json.dumps(facts).encode()).digest()
