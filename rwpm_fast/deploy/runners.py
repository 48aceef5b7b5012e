"""What runs a photo, in one shape: a scorer in eager torch, its compiled graph, a package, an ONNX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..networks.base import device_of
from ..scoring.scorer import Scorer
from .errors import ExportError
from .metadata import Metadata
from .photos import check_photo
from .pipeline import Pipeline, check_classes

FORMATS = (".pt2", ".onnx")


class Runner(Protocol):
    """Something that scores photos.

    Attributes:
        metadata: what it is.
    """

    metadata: Metadata

    def run(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score one photo.

        Args:
            photo: [H, W, 3] uint8, RGB.

        Returns:
            Score [H, W] float32, higher is more anomalous, and index of the likeliest class [H, W] uint8.
        """
        ...


class EagerRunner:
    """A scorer as it is."""

    def __init__(self, scorer: Scorer, threshold: float | None = None) -> None:
        check_classes(scorer)
        self.scorer = scorer
        self.metadata = Metadata.of(scorer, threshold=threshold)

    def run(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scored = self.scorer(photo)
        return scored.score.cpu().numpy(), scored.segmentation.to(torch.uint8).cpu().numpy()


class CompiledRunner:
    """A scorer's one graph, compiled by ``torch.compile`` at the first photo for photos of all sizes."""

    def __init__(self, scorer: Scorer, threshold: float | None = None) -> None:
        self._scorer = scorer
        self._graph = torch.compile(Pipeline(scorer, one_pass=True), fullgraph=True, dynamic=True)
        self._device = device_of(scorer.network)
        self.metadata = Metadata.of(scorer, threshold=threshold)

    def run(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._scorer.check()
        pixels = torch.tensor(check_photo(photo), device=self._device)
        with torch.no_grad():
            score, segmentation = self._graph(pixels)
        return score.cpu().numpy(), segmentation.cpu().numpy()


def open_runner(path: str | os.PathLike[str], *, threads: int | None = None) -> Runner:
    """Load an exported file.

    Args:
        path: of a ``.pt2`` package or an ``.onnx`` file that ``rwpm-fast export`` made.
        threads: of ONNX Runtime; a package uses torch's.

    Raises:
        FileNotFoundError: there is no such file.
        ExportError: the file is no export, or cannot run here; the message says why and what helps.
        ImportError: ONNX Runtime is not installed.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ExportError(f"{path}: expected an export that ends in {' or '.join(FORMATS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; make it by rwpm-fast export")
    if path.suffix == ".pt2":
        from .pt2 import load_pt2

        return load_pt2(path)
    from .onnx_runtime import load_onnx

    return load_onnx(path, threads=threads)
