"""Pixel and component metrics of one network's scores under several walks, kept photo by photo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Frame
from ..metrics import ComponentMetrics, ComponentResult, Curve, PixelMetrics, PixelResult, component_metrics
from ..scores import get
from ..scoring.scorer import Embedded, Scorer
from .cache import Folder, Memory, Store, identity, key, walk_identity
from .distributed import ALONE, Processes

Key = tuple[str, str]  # name of a scorer, score


@dataclass
class Photo:
    """What a sweep knows of a photo.

    Attributes:
        frame: the photo and its labels.
        failure: why it could not be used; None for a photo that is in every result.
        seconds: name of a scorer to the times of network and walk.
        results: pixel metrics of this photo alone, where they were asked for.
    """

    frame: Frame
    failure: str | None = None
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    results: dict[Key, PixelResult] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict, repr=False)  # name of a scorer to key of the store


@dataclass
class Sweep:
    """Pooled results of several scorers on a set of photos.

    Attributes:
        results: (name of the scorer, score) to pixel metrics.
        curves: the same to the curve behind them, thinned to some 1000 points.
        components: the same to component metrics, where they were asked for.
        photos: every photo, in order.
        processes: who shared the photos.
    """

    results: dict[Key, PixelResult]
    curves: dict[Key, Curve]
    components: dict[Key, ComponentResult]
    photos: list[Photo]
    processes: Processes
    store: Store = field(repr=False)

    @property
    def failures(self) -> dict[Path, str]:
        """Photos that could not be used, with the reason; they are in no result."""
        return {photo.frame.photo: photo.failure for photo in self.photos if photo.failure is not None}

    @property
    def used(self) -> list[Photo]:
        """Photos that are in the results."""
        return [photo for photo in self.photos if photo.failure is None]

    def score_map(self, photo: Photo, scorer: str, score: str) -> np.ndarray:
        """Score map [H, W] float32 of a photo of this process's share."""
        return self.store.get(photo.kept[scorer], score)

    def network_seconds(self, scorer: str) -> float:
        """Time of the network, before and after a scorer's walk, at the median photo; NaN without photos."""
        return _median(photo.seconds[scorer][0] for photo in self.used)

    def walk_seconds(self, scorer: str) -> float:
        """Time of a scorer's walk at the median photo, 0 without a walk; NaN without photos."""
        return _median(photo.seconds[scorer][1] for photo in self.used)

    def fps(self, scorer: str) -> float:
        """Frames a second of network and walk together at the median photo; NaN without photos."""
        return 1 / _median(sum(photo.seconds[scorer]) for photo in self.used)


def evaluate(scorer: Scorer, frames: Iterable[Frame], **settings: Any) -> Sweep:
    """Score every photo once without and once with the scorer's walk: a sweep of two, "without" and "with".

    Args:
        scorer: network and walk; without a walk the sweep has "without" only.
        frames, settings: as of :func:`sweep`.
    """
    scorers = {"without": Scorer(scorer.network, walk=None)}
    return sweep(scorers if scorer.walk is None else {**scorers, "with": scorer}, frames, **settings)


def sweep(
    scorers: Mapping[str, Scorer],
    frames: Iterable[Frame],
    *,
    scores: Sequence[str] = ("energy", "max_logit"),
    cache: Path | None = None,
    fpr_rule: str = "fishyscapes",
    track: str | None = None,
    by_photo: bool = False,
    processes: Processes = ALONE,
    progress: Callable[[list[Frame]], Iterable[Frame]] = iter,
    on_photo: Callable[[Path, str | None], None] = lambda photo, failure: None,
) -> Sweep:
    """Run the network once a photo, walk its embeddings by every scorer, and pool the pixels of each into one curve.

    What a photo gave is kept, score maps in float32 and times: 4 bytes per photo pixel, scorer and score. In a
    ``cache`` folder it lasts, one file a photo and scorer, written whole or not at all, and serves again where photo,
    network and its weights, walk, scores, device, number of threads and versions are the same; labels may change.

    Args:
        scorers: name to scorer, of one network; their own score names are not used.
        frames: photos with labels, such as a :class:`rwpm_fast.data.Dataset`.
        scores: names in ``rwpm_fast.scores``.
        cache: folder that exists; None keeps all in memory while the result is held.
        fpr_rule: how FPR95 is read off the curve; see :class:`rwpm_fast.metrics.PixelMetrics`.
        track: for component metrics too, one of ``rwpm_fast.metrics.TRACKS``.
        by_photo: pixel metrics of every photo by itself too.
        processes: who share the photos; each calls this with the same arguments and gets the same result.
        progress: wraps this process's frames.
        on_photo: called after each of them, with the reason if it failed.

    Returns:
        Metrics and curves by scorer and score, times, and the photos that failed. A broken photo does not stop the
        others. The metrics do not depend on the number of processes.

    Raises:
        ValueError: no scorers, scorers of different networks, unknown score, rule or track, before any photo is read.
        OSError: ``cache`` cannot be written, or a file there is damaged; the others stay.
    """
    networks = {id(scorer.network): scorer.network for scorer in scorers.values()}
    if len(networks) != 1:
        raise ValueError("scorers: expected one or more that share a network")
    scores = list(dict.fromkeys(scores))
    for score in scores:
        get(score)
    PixelMetrics(fpr_rule)
    if track is not None:
        ComponentMetrics(0.0, track)

    analyze = _Analyst(scorers, scores, Memory() if cache is None else Folder(cache))
    own = []
    for frame in progress(processes.share(frames)):
        try:
            photo = analyze(frame)
        except ValueError as error:
            photo = Photo(frame, str(error))
        on_photo(frame.photo, photo.failure)
        own.append(photo)

    swept = Sweep({}, {}, {}, [], processes, analyze.store)
    used = [photo for photo in own if photo.failure is None]
    for name in scorers:
        for score in scores:
            _pool(swept, used, (name, score), fpr_rule, track, by_photo)
    swept.photos = processes.collect(own)
    return swept


class _Analyst:
    """Has a network look at a frame, once, and keeps what its scorers find."""

    def __init__(self, scorers: Mapping[str, Scorer], scores: Sequence[str], store: Store) -> None:
        self.scorers, self.scores, self.store = scorers, scores, store
        network = next(iter(scorers.values())).network
        self._identity = identity(network, scores)
        self._walks = {name: walk_identity(scorer) for name, scorer in scorers.items()}

    def __call__(self, frame: Frame) -> Photo:
        """The photo, with all that its scorers find in the store.

        Raises:
            ValueError: photo or labels cannot be used, a walk does not fit the map, or a score is NaN.
        """
        pixels, _ = frame.read()
        photo = Photo(frame)
        embedded = None
        for name, scorer in self.scorers.items():
            kept = photo.kept[name] = key(frame.id, pixels, self._identity, self._walks[name])
            if kept not in self.store:
                embedded = embedded or scorer.embed(pixels)
                self.store.put(kept, self._score(scorer, embedded))
            network, walk = self.store.get(kept, "seconds")
            photo.seconds[name] = float(network), float(walk)
        return photo

    @torch.inference_mode()
    def _score(self, scorer: Scorer, embedded: Embedded) -> dict[str, np.ndarray]:
        """A map [H, W] float32 by score, and the times of network and walk."""
        analysis = scorer.analyze_embedded(embedded)
        arrays = {}
        for score in self.scores:
            score_map = arrays[score] = analysis.walked.score(score).cpu().numpy()
            if np.isnan(score_map).any():
                raise ValueError(f"{score}: NaN at {np.isnan(score_map).sum()} pixels, with walk {scorer.walk}")
        return {**arrays, "seconds": np.array([analysis.network_seconds, analysis.walk_seconds])}


def _pool(swept: Sweep, photos: list[Photo], result: Key, fpr_rule: str, track: str | None, by_photo: bool) -> None:
    """Add the metrics of a scorer and score over all photos of all processes."""
    processes = swept.processes

    def maps() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((swept.score_map(photo, *result), photo.frame.read_labels()) for photo in photos)

    pooled = PixelMetrics(fpr_rule)  # one at a time, since it holds all its pixels
    for photo, (score_map, labels) in zip(photos, maps(), strict=True):
        one = PixelMetrics(fpr_rule)
        one.update(score_map, labels)
        if by_photo:
            photo.results[result] = one.compute()
        pooled.merge(one)
    merged = processes.pool(pooled)
    own = (merged.compute(), merged.curve().thinned()) if merged else None
    swept.results[result], swept.curves[result] = processes.tell(own)
    del pooled, merged  # all pixels
    if track is not None:
        _, swept.components[result] = component_metrics(maps, track, reduce=lambda m: processes.tell(processes.pool(m)))


def _median(seconds: Iterable[float]) -> float:
    seconds = list(seconds)
    return float(np.median(seconds)) if seconds else math.nan
