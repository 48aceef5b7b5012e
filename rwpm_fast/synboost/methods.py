"""The methods by name, with released weights, with those of a training, or with the small set of the package."""

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
from .features import FeatureNetwork, NetworkFeatures
from .light_generator import LightSynthesis
from .pipeline import SynBoost
from .synthesis import CCFPSESynthesis
from .trained import Training, read_training
from .vgg import VGG19

# What walks by default, beside the chain of a method: nothing, as published.
DEFAULT_WALK_VALUES = "none"

WEIGHTS = Path(__file__).with_name("weights")  # the package's own set, as a training leaves it
WIDTH = 16  # of every light generator, and of the own set's dissimilarity networks

# Of released files.
SIZE = (256, 512)
ENSEMBLES = {"synboost": PUBLISHED_WEIGHTS, "resynthesis": (1.0, 0.0, 0.0, 0.0)}

DISSIMILARITY = "dissimilarity"  # the score that is the dissimilarity network's probability alone

METHODS: dict[str, dict[str, Any]] = {
    "synboost": {},
    "resynthesis": {"dispersion": False, "spade": False},
}
"""Methods by name: the arguments of their :class:`rwpm_fast.synboost.DissimilarityNet`."""

# Files by argument of :func:`load`: the folder of a training, and the released parts. Image Resynthesis++ has no
# perceptual difference.
FILES = ("trained", "dissimilarity", "generator", "image_encoder", "vgg19")
NEEDED = {"synboost": FILES[1:], "resynthesis": FILES[1:-1]}

StrPath = str | PathLike[str]


def load(
    method: str,
    segmentation: Scorer,
    *,
    trained: StrPath | None = None,
    dissimilarity: StrPath | None = None,
    generator: StrPath | None = None,
    image_encoder: StrPath | None = None,
    vgg19: StrPath | None = None,
) -> SynBoost:
    """Load the chain of a method onto the device of a segmentation network.

    With the released files it is that of the released code: maps scaled by ``"legacy"``, in 8 bits, averaged with the
    published weights. With the folder of a training it is the chain that was trained, averaged with the weights that
    were found for it. Without any file it is that of the package's own small set, whose perceptual difference is that
    of the segmentation network's embeddings.

    Args:
        method: a key of :data:`METHODS`.
        segmentation: scorer of the segmentation network, without a walk; see :class:`rwpm_fast.synboost.SynBoost`. A
            training is best used with the network that it was made with.
        trained: folder of ``rwpm-fast train``, with no other file than those of others that the training read.
        dissimilarity: checkpoint of the dissimilarity network.
        generator: checkpoint of CC-FPSE's generator.
        image_encoder: checkpoint of CC-FPSE's image encoder.
        vgg19: VGG19 of torchvision, which ``"resynthesis"`` does not read.

    Raises:
        ValueError: an unknown method, some of the files only, files that do not go together, a damaged file, or one of
            another network; the message names it.
        FileNotFoundError: there is no such file or folder, the folder holds no training of the method, or the package
            lacks its own.

    Example:
        >>> pipeline = load("synboost", Scorer(networks.load("compact")))
        >>> pipeline(read_image("street.jpg")).score  # [H, W] in 0..1
        >>> pipeline = load("synboost", Scorer(networks.load("compact")), trained="run")
    """
    files = dict(zip(FILES, (trained, dissimilarity, generator, image_encoder, vgg19), strict=True))
    training = check_files(method, files)
    flags, device = METHODS[method], device_of(segmentation.network)
    size = SIZE if training is None else training.size
    synthesis: LightSynthesis | CCFPSESynthesis
    if training is None or training.generator is None:
        assert generator is not None and image_encoder is not None  # by the check
        synthesis = CCFPSESynthesis.load(generator, image_encoder, size=size)
    else:
        synthesis = LightSynthesis.load(training.generator, size=size, width=WIDTH)
    features: FeatureNetwork | None = None if vgg19 is None else VGG19.load(vgg19).to(device)
    if training is None:
        assert dissimilarity is not None
        network = DissimilarityNet.load(dissimilarity, **flags)
        settings: dict[str, Any] = {"weights": ENSEMBLES[method], "minmax": "legacy", "quantized": True}
    else:
        network = DissimilarityNet.load(training.network, width=training.width, **flags)
        settings = {"weights": training.weights}
        if features is None and "vgg19" in NEEDED[method]:
            features = NetworkFeatures(segmentation.network)
    return SynBoost(
        segmentation=segmentation,
        synthesis=synthesis.to(device),
        dissimilarity=network.to(device),
        features=features,
        size=size,
        **settings,
    )


def check_method(method: str) -> None:
    """Raise ValueError unless a method is a key of :data:`METHODS`."""
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")


def score_names(method: str) -> tuple[str, ...]:
    """Return the names of the scores of a method; see :attr:`rwpm_fast.synboost.SynBoostScorer.score_names`."""
    return (method, DISSIMILARITY, *SCORES)


def check_files(method: str, files: Mapping[str, StrPath | None]) -> Training | None:
    """Check what can be wrong with the files of :func:`load` before a network is read.

    Args:
        method: see :func:`load`.
        files: by name in ``FILES``; None for a file that is not given.

    Returns:
        The training whose networks are to be loaded, which may be the package's own; None for released ones.

    Raises:
        ValueError: see :func:`load`.
        FileNotFoundError: see :func:`load`.
    """
    check_method(method)
    given = {name: Path(file) for name, file in files.items() if file is not None}
    if not given:
        return _own_training(method)
    training = read_training(method, given["trained"]) if "trained" in given else None
    needed = _needed(method, training)
    if unused := [name for name in given if name not in needed]:
        reader = method if training is None else f"{method} as trained in {training.folder}"
        raise ValueError(f"{unused[0]}: {reader} does not read it; leave it out")
    if missing := [name for name in needed if name not in given]:
        if training is not None:
            raise ValueError(
                f"{missing[0]}: expected the file that the training in {training.folder} was made with, got none; it "
                f"reads {', '.join(needed[1:])}"
            )
        raise ValueError(
            f"{missing[0]}: expected a file beside that of {next(iter(given))}; {method} reads "
            f"{', '.join(needed)}, or none of them for the package's own small set"
        )
    for name, file in given.items():
        if name != "trained" and not file.is_file():
            raise FileNotFoundError(f"{name}: no such file: {file}")
    return training


def needed_files(method: str, trained: StrPath | None = None) -> tuple[str, ...]:
    """Return the names in ``FILES`` of what a method reads, where it does not read the package's own set.

    Args:
        method: a key of :data:`METHODS`.
        trained: folder of its training; None for released files.

    Raises:
        ValueError: see :func:`rwpm_fast.synboost.trained.read_training`.
        FileNotFoundError: see there.
    """
    return _needed(method, None if trained is None else read_training(method, trained))


def _needed(method: str, training: Training | None) -> tuple[str, ...]:
    if training is None:
        return NEEDED[method]
    return ("trained", *(name for name in training.files_of_others if name in NEEDED[method]))


def _own_training(method: str) -> Training:
    try:
        return read_training(method, WEIGHTS)
    except (FileNotFoundError, ValueError) as error:
        reason = str(error).partition(": ")[2]
        raise FileNotFoundError(
            f"this installation lacks the package's own weights of {method} ({reason}); install the package anew, or "
            f"give the released files {', '.join(NEEDED[method])}"
        ) from error
