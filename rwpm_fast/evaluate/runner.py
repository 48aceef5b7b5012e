"""Pixel and component metrics of one network's scores under several walks, cached image by image."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Frame
from ..metrics import (
    BinnedPixelResult,
    ComponentMetrics,
    ComponentResult,
    Curve,
    InstanceMetrics,
    InstanceResult,
    PixelMetrics,
    PixelResult,
    component_metrics,
)
from ..metrics.pixel import PooledPositives, pooled_metrics
from ..metrics.resampling import ImageCounts
from ..scoring.failures import photo_failure
from ..scoring.scorer import Embedded, Scorer
from .cache import Cache, CacheEntry, DiskCache, MapStore, TemporaryCache, cache_key, fingerprint, walk_fingerprint
from .capacity import make_cache
from .distributed import SINGLE_PROCESS, Processes
from .given_maps import GIVEN, GivenMaps

ScoreKey = tuple[str, str]  # name of a scorer, name of a score


@dataclass
class ImageResult:
    """What a sweep found in an image.

    Attributes:
        frame: the photo and its labels.
        failure: why it could not be used; None for an image that is in every result.
        seconds: name of a scorer to the times of network and walk.
        results: (name of the scorer, score) to pixel metrics of this image alone.
        anchored: name of a scorer with an anchored walk to the share of the map's pixels that are anchored: whose own
            value weighs at least as much as all others.
        cache_keys: name of a scorer to the key of its score maps in the cache.
    """

    frame: Frame
    failure: str | None = None
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    results: dict[ScoreKey, PixelResult] = field(default_factory=dict)
    anchored: dict[str, float] = field(default_factory=dict)
    cache_keys: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Sweep:
    """Pooled results of several scorers on a set of images.

    Attributes:
        results: (name of the scorer, score) to pixel metrics.
        curves: (name of the scorer, score) to the curve behind the pixel metrics, thinned to some 1000 points.
        components: (name of the scorer, score) to component metrics, if requested.
        binned: (name of the scorer, score) to the pixel metrics of SegmentMeIfYouCan's toolkit, with the components.
        instances: (name of the scorer, score) to the average precision of objects, with the components.
        images: every image, in order.
        processes: the processes that share the images.
        cache: holds the score maps.
        counts: (name of the scorer, score) to the counts of the images in ``used``, in order, for a bootstrap.
    """

    results: dict[ScoreKey, PixelResult]
    curves: dict[ScoreKey, Curve]
    components: dict[ScoreKey, ComponentResult]
    images: list[ImageResult]
    processes: Processes
    cache: MapStore = field(repr=False)
    binned: dict[ScoreKey, BinnedPixelResult] = field(default_factory=dict)
    instances: dict[ScoreKey, InstanceResult] = field(default_factory=dict)
    counts: dict[ScoreKey, ImageCounts] = field(default_factory=dict, repr=False)

    @property
    def failures(self) -> dict[Path, str]:
        """Photos that could not be used, with the reason; they are in no result."""
        return {image.frame.photo: image.failure for image in self.images if image.failure is not None}

    @property
    def used(self) -> list[ImageResult]:
        """Images that are in the results."""
        return [image for image in self.images if image.failure is None]

    def score_map(self, image: ImageResult, scorer: str, score: str) -> np.ndarray:
        """Return the score map [H, W] float32 of an image of this process's shard; of any image with a cache folder.

        Args:
            image: one of ``used``.
            scorer: name of the scorer.
            score: name of the score.

        Raises:
            OSError: the map is in the memory of another process, or its file is missing or damaged.
        """
        return self.cache.score_map(image.cache_keys[scorer], score)

    def own_weights(self, image: ImageResult, scorer: str) -> np.ndarray | None:
        """Return the weights [h, w] of an anchored walk, None without an anchor; see :meth:`score_map`."""
        return self.cache.own_weights(image.cache_keys[scorer])

    def network_seconds(self, scorer: str) -> float:
        """Return the median time of the network, before and after a scorer's walk; NaN without images."""
        return _median(image.seconds[scorer][0] for image in self.used)

    def walk_seconds(self, scorer: str) -> float:
        """Return the median time of a scorer's walk, 0 without a walk; NaN without images."""
        return _median(image.seconds[scorer][1] for image in self.used)

    def fps(self, scorer: str) -> float:
        """Return the frames per second of network and walk together at the median image; NaN without images."""
        return 1 / _median(sum(image.seconds[scorer]) for image in self.used)


def evaluate(scorer: Scorer, frames: Iterable[Frame], **settings: Any) -> Sweep:
    """Score every image without and with the scorer's walk: a sweep of two scorers, "without" and "with".

    Args:
        scorer: network and walk; if it has no walk, the sweep has "without" only.
        frames: images with labels, such as a :class:`rwpm_fast.data.Dataset`.
        settings: further arguments of :func:`sweep`.

    Returns:
        The sweep, see :func:`sweep`.

    Raises:
        ValueError: see :func:`sweep`.
        OSError: see :func:`sweep`.
    """
    return sweep(without_and_with(scorer), frames, **settings)


def without_and_with(scorer: Scorer) -> dict[str, Scorer]:
    """Return a scorer as "with", preceded by one without its walk as "without", which is alone if it has no walk."""
    scorers = {"without": scorer.with_walk(None)}
    return scorers if scorer.walk is None else {**scorers, "with": scorer}


def sweep(
    scorers: Mapping[str, Scorer],
    frames: Iterable[Frame],
    *,
    scores: Sequence[str] = ("energy", "max_logit"),
    cache: Path | None = None,
    fpr_rule: str = "fishyscapes",
    track: str | None = None,
    per_image: bool | None = None,
    processes: Processes = SINGLE_PROCESS,
    progress: Callable[[list[Frame]], Iterable[Frame]] = iter,
    on_image: Callable[[Path, str | None], None] = lambda photo, failure: None,
    on_remark: Callable[[str], object] = lambda message: None,
) -> Sweep:
    """Run the network once per image, walk its embeddings by every scorer, and pool the pixels of each into one curve.

    Score maps (float32, 4 bytes per pixel, scorer and score) and times of every image are cached. In a ``cache`` folder
    they are kept, one file per image and scorer, written atomically, and are used again if image, network and its
    weights, walk, scores, chain of SynBoost, device, number of threads and versions are the same; labels may change.

    Args:
        scorers: name to scorer; all share one network. Their own score names are not used.
        frames: images with labels, such as a :class:`rwpm_fast.data.Dataset`.
        scores: names in ``rwpm_fast.scores``, or others that all scorers have.
        cache: existing folder; None to cache while the result is referenced, in memory, or in a temporary folder if
            the score maps would take more than half of the memory that is available.
        fpr_rule: how FPR95 is read off the curve; see :class:`rwpm_fast.metrics.PixelMetrics`.
        track: also compute component metrics of this track, one of ``rwpm_fast.metrics.TRACKS``; None for none.
        per_image: deprecated, since pixel metrics of every image alone are always computed.
        processes: the processes that share the images; each makes the same call and gets the same result.
        progress: wraps this process's frames, such as in a progress bar.
        on_image: called after each of them with the path of the photo, and the reason if it failed or None.
        on_remark: told in the first process where a temporary folder is. If the sweep fails the folder stays, and as
            ``cache`` of another sweep it is where that one goes on.

    Returns:
        Metrics and curves by scorer and score, times, and the images that failed. A broken image does not stop the
        others. The metrics do not depend on the number of processes.

    Raises:
        ValueError: no scorers, scorers of different networks, unknown score, rule or track, or room for the score maps
            neither in memory nor in a temporary folder, before any image is read.
        OSError: ``cache`` cannot be written, or a file there is damaged; the others stay.
    """
    networks = {id(scorer.network): scorer.network for scorer in scorers.values()}
    if len(networks) != 1:
        raise ValueError("scorers: expected one or more that share a network")
    scores = list(dict.fromkeys(scores))
    for scorer in scorers.values():
        for score in scores:
            scorer.check_score(score)
    PixelMetrics(fpr_rule)
    if track is not None:
        ComponentMetrics(0.0, track)

    if per_image is not None:
        warnings.warn("per_image: metrics of every image are always computed", DeprecationWarning, stacklevel=2)

    frames = list(frames)
    maps = len(scorers) * len(scores)
    used_cache = make_cache(frames, maps, processes, on_remark) if cache is None else DiskCache(cache)
    truth = _Truth(objects=track is not None)
    try:
        return _sweep(
            _FrameEvaluator(scorers, scores, used_cache, truth),
            used_cache,
            [(name, score) for name in scorers for score in scores],
            frames,
            fpr_rule=fpr_rule,
            track=track,
            processes=processes,
            progress=progress,
            on_image=on_image,
        )
    except BaseException:
        if isinstance(used_cache, TemporaryCache):
            used_cache.keep()
        raise


def sweep_maps(
    maps: GivenMaps,
    frames: Iterable[Frame],
    *,
    fpr_rule: str = "fishyscapes",
    track: str | None = None,
    processes: Processes = SINGLE_PROCESS,
    progress: Callable[[list[Frame]], Iterable[Frame]] = iter,
    on_image: Callable[[Path, str | None], None] = lambda photo, failure: None,
) -> Sweep:
    """Pool the pixels of score maps that are there already: the sweep of :func:`sweep` without a network.

    Args:
        maps: of methods, whose names take the place of scorers; the name of the score is ``GIVEN``. Maps in files are
            read twice, and never held all at once.
        frames: images with labels; their photos are not read.
        fpr_rule: see :func:`sweep`.
        track: see :func:`sweep`.
        processes: see :func:`sweep`.
        progress: see :func:`sweep`.
        on_image: see :func:`sweep`.

    Returns:
        The sweep, without times. An image of which a map cannot be used is in no method's result.

    Raises:
        ValueError: unknown rule or track.
        LookupError: maps that come one by one are fewer or more than the frames.
    """
    PixelMetrics(fpr_rule)
    if track is not None:
        ComponentMetrics(0.0, track)
    return _sweep(
        _MapTaker(maps, _Truth(objects=track is not None)),
        maps,
        [(method, GIVEN) for method in maps.methods],
        list(frames),
        fpr_rule=fpr_rule,
        track=track,
        processes=processes,
        progress=progress,
        on_image=on_image,
    )


def _sweep(
    evaluate_frame: _FrameEvaluator | _MapTaker,
    store: MapStore,
    keys: Sequence[ScoreKey],
    frames: Sequence[Frame],
    *,
    fpr_rule: str,
    track: str | None,
    processes: Processes,
    progress: Callable[[list[Frame]], Iterable[Frame]],
    on_image: Callable[[Path, str | None], None],
) -> Sweep:
    """Evaluate the frames one by one, and pool the maps of each key."""
    result = Sweep({}, {}, {}, [], processes, store)
    positives = {key: PooledPositives() for key in keys}
    shard = []
    for frame in progress(processes.shard(frames)):
        try:
            image = evaluate_frame(frame)
        except Exception as error:
            image = ImageResult(frame, photo_failure(error, frame.photo))
        else:
            labels = evaluate_frame.truth.labels(frame)
            for key, collected in positives.items():
                collected.add(result.score_map(image, *key), labels)
        on_image(frame.photo, image.failure)
        shard.append(image)
    evaluate_frame.finish()

    used = [image for image in shard if image.failure is None]
    counts = {}
    for key, collected in positives.items():
        counts[key] = _add_metrics(result, used, evaluate_frame.truth, key, collected, fpr_rule, track)
    result.images = processes.all_gather(shard)
    for key, own in counts.items():
        of_shard = iter(own)
        of_images = [None if image.failure else next(of_shard) for image in shard]
        found = ImageCounts.concatenated([image for image in processes.all_gather(of_images) if image is not None])
        if found is not None:
            result.counts[key] = found
    return result


class _Packed:
    """An array of few values, compressed: labels take some 10 kB, and a twentieth of the file's time to read."""

    def __init__(self, array: np.ndarray) -> None:
        self._shape, self._dtype = array.shape, array.dtype
        self._bytes = zlib.compress(array.tobytes(), 1)

    def unpacked(self) -> np.ndarray:
        """Return the array."""
        return np.frombuffer(zlib.decompress(self._bytes), self._dtype).reshape(self._shape)


class _Truth:
    """Labels of the frames and, if objects are asked for, the numbers of those that have a file of them."""

    def __init__(self, *, objects: bool) -> None:
        self._objects = objects
        self._labels: dict[Frame, _Packed] = {}
        self._instances: dict[Frame, _Packed] = {}

    def keep(self, frame: Frame, labels: np.ndarray) -> None:
        """Keep the labels of a frame, and read and keep its objects.

        Raises:
            ImageError: the file of the objects cannot be used.
        """
        numbers = frame.read_instances() if self._objects else None
        if numbers is not None:
            self._instances[frame] = _Packed(numbers)
        self._labels[frame] = _Packed(labels)

    def labels(self, frame: Frame) -> np.ndarray:
        """Return the labels [H, W] uint8 of a frame that was kept."""
        return self._labels[frame].unpacked()

    def instances(self, frame: Frame) -> np.ndarray | None:
        """Return the numbers [H, W] of the objects of a frame that was kept; None without a file of them."""
        numbers = self._instances.get(frame)
        return None if numbers is None else numbers.unpacked()


class _FrameEvaluator:
    """Runs the network on a frame, once, and caches what its scorers find.

    Attributes:
        truth: what is known of each frame.
    """

    def __init__(self, scorers: Mapping[str, Scorer], scores: Sequence[str], cache: Cache, truth: _Truth) -> None:
        self.scorers, self.scores, self.cache, self.truth = scorers, scores, cache, truth
        network = next(iter(scorers.values())).network
        self._fingerprint = fingerprint(network, scores)
        self._walk_fingerprints = {name: walk_fingerprint(scorer) for name, scorer in scorers.items()}

    def __call__(self, frame: Frame) -> ImageResult:
        """Make sure that the entries of all scorers are in the cache.

        Raises:
            ValueError: photo, labels or objects cannot be used, a walk does not fit the map, or a score is not finite.
        """
        pixels, labels = frame.read()
        self.truth.keep(frame, labels)
        image = ImageResult(frame)
        embedded = None
        for name, scorer in self.scorers.items():
            key = cache_key(frame.id, pixels, self._fingerprint, self._walk_fingerprints[name])
            image.cache_keys[name] = key
            if key not in self.cache:
                embedded = embedded or scorer.embed(pixels)
                self.cache.put(key, self._score(scorer, embedded))
            image.seconds[name] = self.cache.seconds(key)
            if (own_weights := self.cache.own_weights(key)) is not None:
                image.anchored[name] = float((own_weights >= 0.5).mean())
        return image

    def finish(self) -> None:
        """Do nothing: every frame was scored by itself."""

    @torch.inference_mode()
    def _score(self, scorer: Scorer, embedded: Embedded) -> CacheEntry:
        analysis = scorer.analyze_embedded(embedded)
        score_maps = {score: analysis.walked.score(score).cpu().numpy() for score in self.scores}
        weights = analysis.own_weights
        own_weights = None if weights is None else weights.cpu().numpy()
        network_seconds = analysis.network_seconds + analysis.chain_seconds
        return CacheEntry(score_maps, network_seconds, analysis.walk_seconds, own_weights)


class _MapTaker:
    """Takes the score maps of a frame that are there already.

    Attributes:
        truth: what is known of each frame.
    """

    def __init__(self, maps: GivenMaps, truth: _Truth) -> None:
        self.maps, self.truth = maps, truth

    def __call__(self, frame: Frame) -> ImageResult:
        """Read the maps of all methods.

        Raises:
            ValueError: labels, objects or a map cannot be used.
        """
        try:
            labels = frame.read_labels()
            self.truth.keep(frame, labels)
        except ValueError:
            self.maps.skip(frame)
            raise
        keys = self.maps.take(frame, labels.shape)
        times = dict.fromkeys(keys, (math.nan, 0.0))
        return ImageResult(frame, seconds=times, cache_keys=keys)

    def finish(self) -> None:
        """Raise LookupError if there are more maps than frames."""
        self.maps.finish()


def _add_metrics(
    sweep: Sweep,
    shard: list[ImageResult],
    truth: _Truth,
    key: ScoreKey,
    positives: PooledPositives,
    fpr_rule: str,
    track: str | None,
) -> list[ImageCounts]:
    """Add the metrics of a scorer and score over the images of all processes to a sweep; ``shard`` are this one's.

    Returns:
        The counts of each image of the shard.
    """
    processes = sweep.processes

    def maps() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((sweep.score_map(image, *key), truth.labels(image.frame)) for image in shard)

    def share(metrics: Any, finish: Callable[[Any], Any] = lambda metrics: metrics) -> Any:
        merged = processes.reduce(metrics)
        return processes.broadcast(None if merged is None else finish(merged))

    pooled = pooled_metrics(positives, maps, fpr_rule, share=share)
    sweep.results[key], sweep.curves[key] = pooled.result, pooled.curve
    for image, result in zip(shard, pooled.alone, strict=True):
        image.results[key] = result
    if track is not None:
        sweep.binned[key], sweep.components[key] = component_metrics(maps, track, reduce=share)
        objects = InstanceMetrics()
        for image, (scores, labels) in zip(shard, maps(), strict=True):
            threshold = sweep.binned[key].best_f1_threshold
            objects.update_map(scores, labels, threshold, truth.instances(image.frame))
        sweep.instances[key] = share(objects, InstanceMetrics.compute)
    return pooled.counts


def _median(seconds: Iterable[float]) -> float:
    seconds = list(seconds)
    return float(np.median(seconds)) if seconds else math.nan
