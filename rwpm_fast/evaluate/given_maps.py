"""Score maps that are there already, in files or in memory, in place of those that a network would compute."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data import Frame
from ..data.score_files import find_score_files
from ..io.score_maps import ScoreMapError, as_score_map, fit_score_map, read_score_map
from ..io.text import listed
from .cache import Cache, CacheEntry
from .config import Maps

GIVEN = "given"  # stands for the name of a score that is not ours


@dataclass(frozen=True)
class MapRules:
    """How the maps of methods are read.

    Attributes:
        lower_is_anomalous: methods whose anomalies have the lower scores; their maps change sign.
        resize: rule for maps of another size than the labels; None to refuse them.
        png_range: scores that 0 and 65535 of a PNG stand for; None to take no PNGs.
        extra: let there be maps of no frame.
    """

    lower_is_anomalous: frozenset[str] = frozenset()
    resize: str | None = None
    png_range: tuple[float, float] | None = None
    extra: bool = False


class MapSource(Protocol):
    """Maps of one method.

    Attributes:
        again: whether a map can be had more than once.
    """

    again: bool

    def read(self, frame: Frame) -> tuple[np.ndarray, str]:
        """Return the map of a frame, and its name for errors."""

    def files(self) -> Iterable[Path]:
        """Return the files that are read."""

    def finish(self) -> None:
        """Raise LookupError if there are more maps than frames."""


class _Files:
    again = True

    def __init__(self, files: Mapping[str, Path], png_range: tuple[float, float] | None) -> None:
        self._files, self._png_range = files, png_range

    def read(self, frame: Frame) -> tuple[np.ndarray, str]:
        path = self._files[frame.id]
        return read_score_map(path, self._png_range), str(path)

    def files(self) -> Iterable[Path]:
        return self._files.values()

    def finish(self) -> None:
        pass


class _ById:
    again = True

    def __init__(self, method: str, maps: Mapping[str, Any], png_range: tuple[float, float] | None) -> None:
        self._method, self._maps, self._png_range = method, maps, png_range

    def read(self, frame: Frame) -> tuple[np.ndarray, str]:
        scores, name = self._maps[frame.id], f"{self._method}, {frame.id}"
        if isinstance(scores, (str, os.PathLike)):
            return read_score_map(scores, self._png_range), str(scores)
        return as_score_map(scores, name), name

    def files(self) -> Iterable[Path]:
        return [Path(scores) for scores in self._maps.values() if isinstance(scores, (str, os.PathLike))]

    def finish(self) -> None:
        pass


class _InOrder:
    again = False

    def __init__(self, method: str, maps: Iterable[Any], frames: Sequence[Frame]) -> None:
        self._method, self._maps, self._count = method, iter(maps), len(frames)
        self._taken = 0

    def read(self, frame: Frame) -> tuple[np.ndarray, str]:
        none = object()
        scores = next(self._maps, none)
        if scores is none:
            raise LookupError(
                f"{self._method}: expected a map for each of {self._count} frames, got {self._taken}; the next is of "
                f"{frame.id}"
            )
        self._taken += 1
        name = f"{self._method}, {frame.id}"
        return as_score_map(scores, name), name

    def files(self) -> Iterable[Path]:
        return []

    def finish(self) -> None:
        none = object()
        if next(self._maps, none) is not none:
            raise LookupError(f"{self._method}: expected a map for each of {self._count} frames, got more")


def open_maps(
    maps: Mapping[str, Maps], frames: Sequence[Frame], every_frame: Sequence[Frame], rules: MapRules
) -> dict[str, MapSource]:
    """Open the maps of methods, and check what can be known before a map is read.

    Args:
        maps: name of a method to a folder of files; to a mapping of frame ids to arrays or files; or to an iterable of
            arrays in the order of the frames.
        frames: the frames to use.
        every_frame: all frames of the data set.
        rules: how the maps are read.

    Raises:
        ScoreMapError: a frame without its map, or with several, or maps of no frame.
    """
    return {method: _open(method, given, frames, every_frame, rules) for method, given in maps.items()}


def _open(
    method: str, given: Maps, frames: Sequence[Frame], every_frame: Sequence[Frame], rules: MapRules
) -> MapSource:
    if isinstance(given, (str, os.PathLike)):
        png = rules.png_range is not None
        files = find_score_files(given, frames, every_frame=every_frame, png=png, extra=rules.extra)
        return _Files(files, rules.png_range)
    if isinstance(given, Mapping):
        if missing := [frame.id for frame in frames if frame.id not in given]:
            raise ScoreMapError(f"{method}: expected a map for each frame by its id, got none for {listed(missing)}")
        if not rules.extra and (others := sorted(given.keys() - {frame.id for frame in every_frame})):
            raise ScoreMapError(f"{method}: expected ids of the data set's frames, got {listed(others)}")
        return _ById(method, given, rules.png_range)
    if isinstance(given, Sized) and len(given) != len(frames):
        raise ScoreMapError(f"{method}: expected a map for each of {len(frames)} frames, got {len(given)}")
    return _InOrder(method, given, frames)


class GivenMaps:
    """Maps of several methods, read frame by frame and again by key: the cache of a sweep that no network made.

    Attributes:
        methods: their names.
    """

    def __init__(self, sources: Mapping[str, MapSource], rules: MapRules, cache: Cache | None = None) -> None:
        """Take maps that :func:`open_maps` opened.

        Args:
            sources: name of a method to its maps.
            rules: how they are read.
            cache: keeps the maps that can be had only once; needed if there are any.
        """
        self.methods = list(sources)
        self._sources, self._rules = sources, rules
        self._kept = cache
        self._frames: dict[str, tuple[str, Frame, tuple[int, int]]] = {}
        self._last: dict[str, np.ndarray] = {}

    def take(self, frame: Frame, size: tuple[int, int]) -> dict[str, str]:
        """Read the maps of a frame by every method, once and for all where they can be had only once.

        Args:
            frame: frames come in order.
            size: height and width of its labels.

        Returns:
            Name of a method to the key of its map.

        Raises:
            ScoreMapError: a map that cannot be used; those of the other methods were read too.
        """
        self._last, keys, errors = {}, {}, []
        for method, source in self._sources.items():
            key = keys[method] = f"{method}/{frame.id}"
            self._frames[key] = method, frame, size
            try:
                scores = self._fitted(method, *source.read(frame), size)
            except ValueError as error:
                errors.append(error)
                continue
            self._last[key] = scores
            if not source.again and self._kept is not None:
                self._kept.put(key, CacheEntry({GIVEN: scores}, np.nan, 0.0))
        if errors:
            raise errors[0]
        return keys

    def skip(self, frame: Frame) -> None:
        """Pass over the maps of a frame whose labels cannot be used, where they come one by one."""
        for source in self._sources.values():
            if not source.again:
                source.read(frame)

    def finish(self) -> None:
        """Raise LookupError if a method has maps left."""
        self._last = {}
        for source in self._sources.values():
            source.finish()

    def score_map(self, key: str, score: str) -> np.ndarray:
        """Return the map [H, W] of a key of :meth:`take`.

        Raises:
            OSError: another process took it.
            ScoreMapError: its file is not what it was.
        """
        if key in self._last:
            return self._last[key]
        if key not in self._frames:
            raise OSError(f"{key}: taken by another process")
        method, frame, size = self._frames[key]
        source = self._sources[method]
        if not source.again and self._kept is not None:
            return self._kept.score_map(key, score)
        return self._fitted(method, *source.read(frame), size)

    def own_weights(self, key: str) -> None:
        """Return None: what an anchored walk weighed is not in a map."""

    def _fitted(self, method: str, scores: np.ndarray, name: str, size: tuple[int, int]) -> np.ndarray:
        fitted = fit_score_map(scores, size, self._rules.resize, name)
        return -fitted if method in self._rules.lower_is_anomalous else fitted
