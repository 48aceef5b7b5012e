"""The methods by name, with released weights or with the small set of the package."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..networks.base import device_of
from ..scores import SCORES
from ..scoring.scorer import Scorer
from .dissimilarity import DissimilarityNet
from .ensemble import PUBLISHED_WEIGHTS
from .features import NetworkFeatures
from .light_generator import LightSynthesis
from .pipeline import SynBoost
from .synthesis import CCFPSESynthesis
from .vgg import VGG19

# What walks by default, beside the chain of a method: nothing, as published.
DEFAULT_WALK_VALUES = "none"

# The package's own set: a light generator, and a narrow dissimilarity network for each method.
WEIGHTS = Path(__file__).with_name("weights")
WIDTH = 16  # of generator and dissimilarity networks
SIZE = (256, 512)  # at which they were trained
ENSEMBLES = {"synboost": PUBLISHED_WEIGHTS, "resynthesis": (1.0, 0.0, 0.0, 0.0)}

DISSIMILARITY = "dissimilarity"  # the score that is the dissimilarity network's probability alone

METHODS: dict[str, dict[str, Any]] = {
    "synboost": {},
    "resynthesis": {"dispersion": False, "spade": False},
}
"""Methods by name: the arguments of their :class:`rwpm_fast.synboost.DissimilarityNet`."""

# Files of the released parts, by argument of :func:`load`. Image Resynthesis++ has no perceptual difference.
FILES = ("dissimilarity", "generator", "image_encoder", "vgg19")
NEEDED = {"synboost": FILES, "resynthesis": FILES[:-1]}

StrPath = str | PathLike[str]


def load(
    method: str,
    segmentation: Scorer,
    *,
    dissimilarity: StrPath | None = None,
    generator: StrPath | None = None,
    image_encoder: StrPath | None = None,
    vgg19: StrPath | None = None,
) -> SynBoost:
    """Load the chain of a method onto the device of a segmentation network.

    With files it is that of the released code: maps scaled by ``"legacy"``, in 8 bits, averaged with the published
    weights. Without any file it is made of the package's own small set, whose perceptual difference is that of the
    segmentation network's embeddings.

    Args:
        method: a key of :data:`METHODS`.
        segmentation: scorer of the segmentation network, without a walk; see :class:`rwpm_fast.synboost.SynBoost`.
        dissimilarity: checkpoint of the dissimilarity network.
        generator: checkpoint of CC-FPSE's generator.
        image_encoder: checkpoint of CC-FPSE's image encoder.
        vgg19: VGG19 of torchvision, which ``"resynthesis"`` does not read.

    Raises:
        ValueError: an unknown method, some of the files only, or a file of another network; the message names it.
        FileNotFoundError: there is no such file, or the package lacks its own.

    Example:
        >>> pipeline = load("synboost", Scorer(networks.load("compact")))
        >>> pipeline(read_image("street.jpg")).score  # [H, W] in 0..1
    """
    files = dict(zip(FILES, (dissimilarity, generator, image_encoder, vgg19), strict=True))
    check_files(method, files)
    flags, weights = METHODS[method], ENSEMBLES[method]
    device = device_of(segmentation.network)
    if dissimilarity is None or generator is None or image_encoder is None:  # then all are, by the check
        own_generator, own_network = _own_files(method)
        return SynBoost(
            segmentation=segmentation,
            synthesis=LightSynthesis.load(own_generator, size=SIZE, width=WIDTH).to(device),
            dissimilarity=DissimilarityNet.load(own_network, width=WIDTH, **flags).to(device),
            features=NetworkFeatures(segmentation.network) if method == "synboost" else None,
            weights=weights,
            size=SIZE,
        )
    return SynBoost(
        segmentation=segmentation,
        synthesis=CCFPSESynthesis.load(generator, image_encoder).to(device),
        dissimilarity=DissimilarityNet.load(dissimilarity, **flags).to(device),
        features=None if vgg19 is None else VGG19.load(vgg19).to(device),
        weights=weights,
        minmax="legacy",
        quantized=True,
    )


def check_method(method: str) -> None:
    """Raise ValueError unless a method is a key of :data:`METHODS`."""
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")


def score_names(method: str) -> tuple[str, ...]:
    """Return the names of the scores of a method; see :attr:`rwpm_fast.synboost.SynBoostScorer.score_names`."""
    return (method, DISSIMILARITY, *SCORES)


def check_files(method: str, files: Mapping[str, StrPath | None]) -> None:
    """Check what can be wrong with the files of :func:`load` before one is read.

    Args:
        method: see :func:`load`.
        files: by name in ``FILES``; None for a file that is not given.

    Raises:
        ValueError: see :func:`load`.
        FileNotFoundError: see :func:`load`.
    """
    check_method(method)
    given = {name: Path(file) for name, file in files.items() if file is not None}
    if not given:
        _own_files(method)
        return
    if missing := [name for name in NEEDED[method] if name not in given]:
        raise ValueError(
            f"{missing[0]}: expected a file beside that of {next(iter(given))}; {method} reads "
            f"{', '.join(NEEDED[method])}, or none of them for the package's own small set"
        )
    if unused := [name for name in given if name not in NEEDED[method]]:
        raise ValueError(f"{unused[0]}: {method} does not read it; leave it out")
    for name, file in given.items():
        if not file.is_file():
            raise FileNotFoundError(f"{name}: no such file: {file}")


def _own_files(method: str) -> tuple[Path, Path]:
    """Return the package's generator and dissimilarity network of a method."""
    files = WEIGHTS / "generator.npz", WEIGHTS / f"{method}.npz"
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: this installation lacks the package's own weights of {method}; install the package anew, or "
                f"give the released files {', '.join(NEEDED[method])}"
            )
    return files
