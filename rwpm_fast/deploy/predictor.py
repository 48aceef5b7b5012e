"""The predictor: one object over every way to run a scorer, from files, folders and arrays to maps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ..io.images import as_image, list_images, read_image
from ..scoring.prediction import check_score_map
from ..scoring.scorer import Scorer
from .metadata import Metadata
from .runners import CompiledRunner, EagerRunner, Runner, open_runner


@dataclass(frozen=True, eq=False)
class PredictedPhoto:
    """What a :class:`Predictor` finds in a photo.

    Attributes:
        photo: [H, W, 3] uint8, RGB, as it was scored: upright, in its own size.
        score: [H, W] float32, higher is more anomalous.
        segmentation: [H, W] uint8, index of the likeliest class.
        threshold: score above which a pixel counts as anomalous; None where none was chosen.
        path: file of the photo; None for an array.
        seconds: time of the run, decoding not included.
    """

    photo: np.ndarray
    score: np.ndarray
    segmentation: np.ndarray
    threshold: float | None
    path: Path | None
    seconds: float

    @property
    def anomaly(self) -> np.ndarray:
        """Pixels whose score is above the threshold, [H, W] bool.

        Raises:
            ValueError: there is no threshold.
        """
        if self.threshold is None:
            raise ValueError(
                "threshold: none was chosen; give Predictor(..., threshold=...) or export with --threshold"
            )
        return self.score > self.threshold


class Predictor:
    """Score photos by a scorer or by an exported file, in the same way and with the same results.

    Files are decoded as everywhere in this package: RGB, upright, 8 bits. While a photo runs the next one is decoded.

    Args:
        model: a :class:`rwpm_fast.Scorer`; or the path of a ``.pt2`` or ``.onnx`` file of ``rwpm-fast export``.
        compiled: run the scorer as one graph of ``torch.compile``, which is made at the first photo, in about a minute.
        threshold: score above which a pixel counts as anomalous; None for that of the file.
        threads: of ONNX Runtime; torch's are set by ``torch.set_num_threads``.

    Attributes:
        metadata: what the model is: network, score, walk, threshold and what made it.

    Raises:
        FileNotFoundError: there is no such file.
        rwpm_fast.deploy.errors.ExportError: the file is no export, or cannot run here; the message says why.
        TypeError: another kind of model, ``compiled`` with a file or with a scorer that is more than one graph, such as
            SynBoost's, or a walk that is no :class:`rwpm_fast.Walk`.
        ValueError: a threshold that is not finite, more than 256 classes, or with ``compiled`` a scorer whose graph
            depends on the photo's size.

    Example:
        >>> predictor = Predictor("compact.pt2")
        >>> for found in predictor("drive/", stream=True):
        ...     print(found.path, found.score.max())
    """

    def __init__(
        self,
        model: Scorer | str | os.PathLike[str],
        *,
        compiled: bool = False,
        threshold: float | None = None,
        threads: int | None = None,
    ) -> None:
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold: expected a finite number or None, got {threshold}")
        self._runner: Runner
        if isinstance(model, Scorer):
            self._runner = (CompiledRunner if compiled else EagerRunner)(model, threshold)
        elif isinstance(model, (str, os.PathLike)):
            if compiled:
                raise TypeError("compiled: a file is compiled already; expected a rwpm_fast.Scorer with compiled=True")
            self._runner = open_runner(model, threads=threads)
        else:
            raise TypeError(f"model: expected a rwpm_fast.Scorer or the path of an export, got {type(model).__name__}")
        self.metadata: Metadata = self._runner.metadata
        self.threshold = self.metadata.threshold if threshold is None else threshold

    def __call__(self, source: Any, *, stream: bool = False) -> Any:
        """Score one photo or several.

        Args:
            source: a photo: a file, a PIL image, an array [H, W, 3] or a tensor [3, H, W] (see
                :func:`rwpm_fast.io.images.as_image`); or several: a folder, a glob pattern, arrays [B, H, W, 3],
                tensors [B, 3, H, W], or any iterable of photos, folders and patterns.
            stream: yield each result as it is there, and keep none; for folders that do not fit the memory.

        Returns:
            A :class:`PredictedPhoto`; for several photos a list of them; with ``stream`` an iterator.

        Raises:
            rwpm_fast.io.images.ImageError: a photo that cannot be read or has another form, or a path without photos.
            ValueError: a score that is not finite.
        """
        results = self._run_all(_groups(source))
        if stream:
            return results
        return next(results) if _is_one(source) else list(results)

    def _run_all(self, groups: Iterable[Sequence[Any]]) -> Iterator[PredictedPhoto]:
        with ThreadPoolExecutor(1) as reader:
            for group in groups:
                pixels = reader.submit(_read, group[0])
                for source, following in zip(group, [*group[1:], None], strict=True):
                    photo = pixels.result()
                    if following is not None:
                        pixels = reader.submit(_read, following)
                    yield self._run(source if isinstance(source, Path) else None, photo)

    def _run(self, path: Path | None, photo: np.ndarray) -> PredictedPhoto:
        begin = perf_counter()
        score, segmentation = self._runner.run(photo)
        seconds = perf_counter() - begin
        check_score_map(self.metadata.score, torch.from_numpy(score))
        return PredictedPhoto(photo, score, segmentation, self.threshold, path, seconds)


def _read(source: Any) -> np.ndarray:
    return read_image(source, upright=True) if isinstance(source, Path) else as_image(source)


def _is_one(source: Any) -> bool:
    """Whether a source stands for one photo."""
    if isinstance(source, (str, os.PathLike)):
        return Path(source).is_file()
    return hasattr(source, "getbands") or (isinstance(source, (np.ndarray, torch.Tensor)) and source.ndim != 4)


def _groups(source: Any) -> Iterator[Sequence[Any]]:
    """Yield the photos that a source stands for: files of one listing together, so that they can be read ahead, others
    one by one, since they may come from a camera."""
    if isinstance(source, (str, os.PathLike)):
        yield list_images(source).used
    elif _is_one(source):
        yield [source]
    elif isinstance(source, (list, tuple)) and source and all(isinstance(x, (str, os.PathLike)) for x in source):
        yield [file for path in source for file in list_images(path).used]
    elif isinstance(source, Iterable):
        for part in source:
            yield from _groups(part)
    else:
        raise TypeError(f"source: expected a photo, a path or an iterable of them, got {type(source).__name__}")
