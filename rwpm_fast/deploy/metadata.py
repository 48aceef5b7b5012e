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
from ..networks.base import device_of
from ..ops.library import OP_ABI
from ..ops.maps import Walk
from ..scoring.scorer import Scorer
from .errors import ExportError
from .photos import MIN_SIDE

MIN_SIDE_KEY = "rwpm.min_side"
FORMAT = "1"  # of the metadata; rises when a key changes its meaning
_COLORS = (
    (100, 100, 100),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
)  # that tell of a pre-processing, beside black and white


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of itself.

    Attributes:
        network: name of the network.
        classes: names of its classes, in the order of the segmentation's indices, with semicolons for commas: a list
            that C++ splits at commas holds them.
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
        op_abi: of the operators ``rwpm::walk`` and ``rwpm::score_map`` that it calls; see
            :data:`rwpm_fast.ops.library.OP_ABI`.
        min_side: of the photos that it takes, in pixels; the trace finds it.
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
    min_side: int = MIN_SIDE

    @classmethod
    def of(cls, scorer: Scorer, *, threshold: float | None = None, cpu: str = "") -> Metadata:
        """Describe an export of a scorer.

        Args:
            scorer: that is exported.
            threshold: score above which a pixel counts as anomalous; any number, also of NumPy or torch.
            cpu: instruction set that it is compiled for.

        Raises:
            ValueError: a threshold that is no finite number.
            TypeError: a walk that is no :class:`rwpm_fast.Walk`, of which no file can say what it is.
        """
        walk, network = scorer.walk, scorer.network
        threshold = _finite("threshold", threshold)
        if walk is not None and not isinstance(walk, Walk):
            raise TypeError(f"scorer: expected a rwpm_fast.Walk or None for its walk, got {type(walk).__name__}")
        mean, deviation = normalization(network) or (None, None)
        return cls(
            network=network.name,
            classes=tuple(name.replace(",", ";") for name in network.classes),
            score=scorer.score,
            threshold=threshold,
            walk=None if walk is None else vars(walk.settings).copy(),
            walk_values=scorer.walk_values,
            mean=mean,
            deviation=deviation,
            device=str(device_of(network)),
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
            MIN_SIDE_KEY: str(self.min_side),
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
        if not isinstance(strings, Mapping) or "rwpm.format" not in strings:
            raise ExportError(f"{name}: expected an export of rwpm-fast, got a file without its metadata")
        if strings["rwpm.format"] != FORMAT:
            raise ExportError(
                f"{name}: expected metadata of format {FORMAT}, got {strings['rwpm.format']}; it was made by rwpm-fast "
                f"{strings.get('rwpm.version', 'of another version')}: install that version, or export again"
            )
        if broken := [key for key, value in strings.items() if key[:5] == "rwpm." and not isinstance(value, str)]:
            raise ExportError(f"{name}: its metadata is broken ({broken[0]} is no text); export again")
        try:
            walk = json.loads(strings["rwpm.walk"] or "null")
            if walk is not None and not isinstance(walk, dict):
                raise ValueError(f"rwpm.walk: expected settings, got {walk!r}")
            return cls(
                network=strings["rwpm.network"],
                classes=tuple(strings["rwpm.classes"].split(",")),
                score=strings["rwpm.score"],
                threshold=_finite("rwpm.threshold", strings["rwpm.threshold"] or None),
                walk=walk,
                walk_values=strings["rwpm.walk_values"],
                mean=_split(strings["rwpm.mean"]),
                deviation=_split(strings["rwpm.deviation"]),
                device=strings["rwpm.device"],
                cpu=strings["rwpm.cpu"],
                torch=strings["rwpm.torch"],
                version=strings["rwpm.version"],
                op_abi=int(strings["rwpm.op_abi"]),
                min_side=int(strings[MIN_SIDE_KEY]),
            )
        except (KeyError, ValueError) as error:
            raise ExportError(f"{name}: its metadata is broken ({error!r}); export again") from error

    def check_operator(self, name: str) -> None:
        """Check that this installation's operators are those that a file calls.

        Args:
            name: of the file, for the error.

        Raises:
            ExportError: they are others.
        """
        if self.op_abi != OP_ABI:
            raise ExportError(
                f"{name}: expected a file for operators of ABI {OP_ABI}, got one for ABI {self.op_abi}; export again, "
                f"or install rwpm-fast {self.version}"
            )


def normalization(network: Network) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Find mean and deviation of a network's pre-processing.

    Photos of one color show it, whatever the network does to their size: an affine pre-processing turns each into other
    constants, and a channel follows its own color alone.

    Args:
        network: whose ``preprocess`` is asked, on its own device.

    Returns:
        Mean and deviation of R, G and B in 0..255; None for a pre-processing of another form, such as one to BGR.
    """
    try:
        black, white, *others = (_preprocessed(network, color) for color in ((0, 0, 0), (255, 255, 255), *_COLORS))
    except Exception:  # whatever a user's function raises, such as for photos of this size
        return None
    slope = (white - black) / 255
    for color, found in zip(_COLORS, others, strict=True):
        wanted = black + torch.tensor(color) * slope
        if not torch.allclose(wanted, found, rtol=1e-4, atol=1e-4):
            return None
    if not (slope > 0).all():
        return None
    return tuple(_short(-black / slope)), tuple(_short(1 / slope))


def _preprocessed(network: Network, color: tuple[int, int, int]) -> Tensor:
    """A pixel of a photo of one color as a network gets it, [3] float64.

    Raises:
        ValueError: it gets something else.
    """
    photo = torch.tensor(color, dtype=torch.uint8, device=device_of(network)).view(1, 3, 1, 1).repeat(1, 1, 64, 64)
    with torch.no_grad():
        images: Any = network.preprocess(photo)
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError("preprocess: gives no images of three channels")
    return images[0, :, images.shape[2] // 4, images.shape[3] // 4].double().cpu()


def _finite(name: str, value: Any) -> float | None:
    """A finite number, or None for None."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several numbers
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number or None, got {value}")
    return number


def _short(numbers: Tensor) -> list[float]:
    """Numbers without the last digits of float32, which are rounding."""
    return [float(f"{number:.6g}") for number in numbers.tolist()]


def _joined(numbers: tuple[float, ...] | None) -> str:
    return "" if numbers is None else ",".join(map(repr, numbers))


def _split(text: str) -> tuple[float, ...] | None:
    return tuple(map(float, text.split(","))) if text else None
