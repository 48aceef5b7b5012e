"""What an exported file says of itself: a flat map of strings, which C++ reads as easily as Python."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..networks import Network
from ..ops.library import OP_ABI
from ..ops.maps import Walk
from ..scoring.scorer import Scorer
from .errors import ExportError

FORMAT = "1"  # of the metadata; rises when a key changes its meaning


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of itself.

    Attributes:
        network: name of the network.
        classes: names of its classes, in the order of the segmentation's indices.
        score: name of the score.
        threshold: score above which a pixel counts as anomalous; None where none was chosen.
        walk: settings of the walk, as of :class:`rwpm_fast.Walk`; None without a walk.
        walk_values: what walks, as of :class:`rwpm_fast.Scorer`.
        mean: of the network's pre-processing, (photo - mean) / deviation for each of R, G and B in 0..255, for
            information: the pre-processing is inside; None where it has no such form.
        deviation: see ``mean``.
        device: on which it runs.
        cpu: instruction set that it was compiled for, such as ``"x86-64-v3"``; empty where nothing is compiled.
        torch: version that made it.
        version: of this package that made it.
        op_abi: of the operator ``rwpm::walk`` that it calls; see :data:`rwpm_fast.ops.library.OP_ABI`.
    """

    network: str
    classes: tuple[str, ...]
    score: str
    threshold: float | None = None
    walk: dict[str, Any] | None = None
    walk_values: str = "auto"
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    device: str = "cpu"
    cpu: str = ""
    torch: str = torch.__version__
    version: str = __version__
    op_abi: int = OP_ABI

    @classmethod
    def of(cls, scorer: Scorer, *, threshold: float | None = None, cpu: str = "") -> Metadata:
        """Describe an export of a scorer.

        Args:
            scorer: that is exported.
            threshold: score above which a pixel counts as anomalous.
            cpu: instruction set that it is compiled for.

        Raises:
            ValueError: a threshold that is not finite.
            TypeError: a walk that is no :class:`rwpm_fast.Walk`, of which no file can say what it is.
        """
        walk, network = scorer.walk, scorer.network
        if threshold is not None and not math.isfinite(threshold):
            raise ValueError(f"threshold: expected a finite number or None, got {threshold}")
        if walk is not None and not isinstance(walk, Walk):
            raise TypeError(f"scorer: expected a rwpm_fast.Walk or None for its walk, got {type(walk).__name__}")
        mean, deviation = normalization(network) or (None, None)
        return cls(
            network=network.name,
            classes=tuple(network.classes),
            score=scorer.score,
            threshold=threshold,
            walk=None if walk is None else vars(walk.settings).copy(),
            walk_values=scorer.walk_values,
            mean=mean,
            deviation=deviation,
            cpu=cpu,
        )

    def to_strings(self) -> dict[str, str]:
        """Return the map that goes into a file; keys begin with ``rwpm.``."""
        return {
            "rwpm.format": FORMAT,
            "rwpm.version": self.version,
            "rwpm.op_abi": str(self.op_abi),
            "rwpm.torch": self.torch,
            "rwpm.network": self.network,
            "rwpm.classes": ",".join(self.classes),
            "rwpm.score": self.score,
            "rwpm.threshold": "" if self.threshold is None else repr(self.threshold),
            "rwpm.walk": "" if self.walk is None else json.dumps(self.walk),
            "rwpm.walk_values": self.walk_values,
            "rwpm.mean": _joined(self.mean),
            "rwpm.deviation": _joined(self.deviation),
            "rwpm.device": self.device,
            "rwpm.cpu": self.cpu,
        }

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], name: str) -> Metadata:
        """Read the map of a file.

        Args:
            strings: as of :meth:`to_strings`; others beside them are passed over.
            name: of the file, for errors.

        Raises:
            ExportError: the map is not of an export of this package, or of a newer one.
        """
        if "rwpm.format" not in strings:
            raise ExportError(f"{name}: expected an export of rwpm-fast, got a file without its metadata")
        if strings["rwpm.format"] != FORMAT:
            raise ExportError(
                f"{name}: expected metadata of format {FORMAT}, got {strings['rwpm.format']}; it was made by rwpm-fast "
                f"{strings.get('rwpm.version', 'of another version')}: install that version, or export again"
            )
        try:
            return cls(
                network=strings["rwpm.network"],
                classes=tuple(strings["rwpm.classes"].split(",")),
                score=strings["rwpm.score"],
                threshold=float(strings["rwpm.threshold"]) if strings["rwpm.threshold"] else None,
                walk=json.loads(strings["rwpm.walk"]) if strings["rwpm.walk"] else None,
                walk_values=strings["rwpm.walk_values"],
                mean=_split(strings["rwpm.mean"]),
                deviation=_split(strings["rwpm.deviation"]),
                device=strings["rwpm.device"],
                cpu=strings["rwpm.cpu"],
                torch=strings["rwpm.torch"],
                version=strings["rwpm.version"],
                op_abi=int(strings["rwpm.op_abi"]),
            )
        except (KeyError, ValueError) as error:
            raise ExportError(f"{name}: its metadata is broken ({error!r}); export again") from error

    def check_operator(self, name: str) -> None:
        """Check that this installation's operator is the one that a file calls.

        Args:
            name: of the file, for the error.

        Raises:
            ExportError: it is another.
        """
        if self.op_abi != OP_ABI:
            raise ExportError(
                f"{name}: expected the operator rwpm::walk of ABI {OP_ABI}, got a file for ABI {self.op_abi}; export "
                f"again, or install rwpm-fast {self.version}"
            )


def normalization(network: Network) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Find mean and deviation of a network's pre-processing.

    Gray photos show it, whatever the network does to their size: an affine pre-processing turns each into another
    constant.

    Args:
        network: whose ``preprocess`` is asked.

    Returns:
        Mean and deviation of R, G and B in 0..255; None for a pre-processing of another form.
    """
    levels = (0, 255, 100)
    values = []
    for level in levels:
        with torch.no_grad():
            images: Any = network.preprocess(torch.full((1, 3, 64, 64), level, dtype=torch.uint8))
        if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 3:
            return None
        middle = images[0, :, images.shape[2] // 4, images.shape[3] // 4].double()
        values.append(middle)
    black, white, gray = values
    slope = (white - black) / 255
    if not torch.allclose(black + levels[2] * slope, gray, rtol=1e-4, atol=1e-4) or not (slope > 0).all():
        return None
    return tuple(_short(-black / slope)), tuple(_short(1 / slope))


def _short(numbers: Tensor) -> list[float]:
    """Numbers without the last digits of float32, which are rounding."""
    return [float(f"{number:.6g}") for number in numbers.tolist()]


def _joined(numbers: tuple[float, ...] | None) -> str:
    return "" if numbers is None else ",".join(map(repr, numbers))


def _split(text: str) -> tuple[float, ...] | None:
    return tuple(map(float, text.split(","))) if text else None
