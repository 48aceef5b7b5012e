"""Pixel metrics of several walks on the same embeddings, kept photo by photo, so that what was cut off goes on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from . import __version__
from .evaluate import check_scores, read_pair
from .images import read_labels, write_whole
from .metrics import PixelMetrics, PixelResult
from .scorer import Scorer, device_of


@dataclass
class Sweep:
    """Pooled results of several scorers on a set of photos.

    Attributes:
        results: (index of the scorer, score name) to pixel metrics.
        seconds: [photos, scorers, 2], time of the network and of the walk.
        failures: photos that could not be used, with the reason; they are in no result.
    """

    results: dict[tuple[int, str], PixelResult]
    seconds: np.ndarray
    failures: dict[Path, str]

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
    pairs: Iterable[tuple[Path, Path]],
    cache: Path,
    *,
    scores: Sequence[str] = ("energy",),
    positive: Sequence[int] = (1,),
    negative: Sequence[int] = (0,),
    fpr_rule: str = "fishyscapes",
    on_photo: Callable[[Path, str | None], None] = lambda photo, failure: None,
) -> Sweep:
    """Run the network once a photo, walk its embeddings by every scorer, and pool the pixels of each into one curve.

    What a photo gave is written to ``cache`` as one file, whole or not at all: the score maps in float32, 4 bytes per
    photo pixel, scorer and score, and the times. A file serves again where photo, network and its weights, walks,
    scores, device, number of threads and versions are the same; labels may change. A walk is known by its ``repr``.

    Args:
        scorers: one network, and a walk each; their own score names are not used.
        pairs: photo and label files, of equal size.
        cache: folder for the files, which must exist.
        scores, positive, negative, fpr_rule, on_photo: as of :func:`rwpm_fast.evaluate.evaluate`.

    Returns:
        Metrics by scorer and score, times, and the photos that failed. A broken photo does not stop the others.

    Raises:
        ValueError: no scorers, scorers of different networks, unknown score or rule, before any photo is read.
        OSError: ``cache`` cannot be written; the files so far stay.
    """
    if not scorers or any(scorer.network is not scorers[0].network for scorer in scorers):
        raise ValueError("scorers: expected one or more that share a network")
    check_scores(scores)
    new_metrics = partial(PixelMetrics, fpr_rule, positive=positive, negative=negative)
    new_metrics()

    identity = _identity(scorers, scores)
    done: list[tuple[Path, Path]] = []  # results, labels
    failures: dict[Path, str] = {}
    for photo_path, label_path in pairs:
        try:
            photo, _ = read_pair(photo_path, label_path)
            digest = hashlib.sha256(identity + str(photo.shape).encode() + photo.tobytes()).hexdigest()
            path = cache / f"{photo_path.stem}-{digest[:16]}.npz"
            if not path.exists():
                arrays = _analyse(scorers, photo, scores)
                write_whole(path, lambda file, arrays=arrays: np.savez(file, **arrays))
        except ValueError as error:
            failures[photo_path] = str(error)
            on_photo(photo_path, str(error))
            continue
        done.append((path, label_path))
        on_photo(photo_path, None)

    results = {}
    for index in range(len(scorers)):
        for score in scores:
            metrics = new_metrics()  # one at a time, since it holds all its pixels
            for path, label_path in done:
                metrics.update(_read(path, _key(index, score)), read_labels(label_path))
            results[index, score] = metrics.compute()
    seconds = [_read(path, "seconds") for path, _ in done]
    return Sweep(results, np.array(seconds).reshape(-1, len(scorers), 2), failures)


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


def _identity(scorers: Sequence[Scorer], scores: Sequence[str]) -> bytes:
    """Digest of all but the photo that makes the files what they are, times included."""
    network = scorers[0].network
    facts = {
        "versions": [__version__, torch.__version__],
        "threads": torch.get_num_threads(),
        "device": str(device_of(network)),
        "network": network.name,
        "scorers": [
            [repr(scorer.walk), scorer.walk_values, scorer.calibrated, scorer.walk_padding] for scorer in scorers
        ],
        "scores": list(scores),
    }
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()
