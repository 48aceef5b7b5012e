"""What runs a photo, in one shape: a scorer in eager torch, its compiled graph, a package, an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..networks.base import device_of
from ..scoring.scorer import Scorer
from .errors import ExportError
from .metadata import Metadata
from .photos import MIN_SIDE, check_photo
from .pipeline import Pipeline, check_classes
from .tracing import trace

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
    """A scorer's one graph, compiled by ``torch.compile`` at the first photo for photos of all sizes.

    Raises:
        ExportError: at the first photo, where torch does not trace the scorer; see
            :func:`rwpm_fast.deploy.tracing.trace`.
    """

    def __init__(self, scorer: Scorer, threshold: float | None = None) -> None:
        self._scorer = scorer
        self._pipeline = Pipeline(scorer, one_pass=True)
        self._device = device_of(scorer.network)
        self._graph: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
        self._min_side = MIN_SIDE
        self.metadata = Metadata.of(scorer, threshold=threshold)

    def run(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._scorer.check()
        pixels = torch.tensor(check_photo(photo), device=self._device)
        with torch.no_grad():
            if self._graph is None:
                self._graph, self._min_side = self._compile(pixels)
            check_photo(photo, self._min_side)
            score, segmentation = self._graph(pixels)
        return score.cpu().numpy(), segmentation.cpu().numpy()

    def _compile(self, photo: Tensor) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], int]:
        """Compile the scorer from a trace, as exports do: a trace follows what torch.compile does not read in code,
        such as the classes that attached networks are given.
        """
        program, min_side = trace(self._pipeline, photo)
        graph = program.module(check_guards=False)
        graph.graph.eliminate_dead_code()  # questions about types, which are answered
        graph.recompile()
        return torch.compile(graph, fullgraph=True, dynamic=True), min_side


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
