"""What a training left in a folder: the networks of a method, and in its JSON file how they are to be used.

The package's own set is such a folder too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from ..checks import check_integers
from .ensemble import MAPS, Weights, weighted_average
from .light_generator import check_size

# What a training may have been made with: what is its own or that of the segmentation network, then files of others.
SYNTHESES = {"light": (), "CC-FPSE": ("generator", "image_encoder")}
FEATURES = {"network": (), "vgg19": ("vgg19",)}


@dataclass(frozen=True)
class Training:
    """A method as it was trained; see :func:`rwpm_fast.synboost.training_run.train_method` for the files.

    Attributes:
        method: its name.
        folder: of the training.
        width: channels of the dissimilarity network at the image's size.
        size: height and width at which photo and synthesis were compared.
        weights: of the ensemble.
        synthesis: a key of ``SYNTHESES``.
        features: a key of ``FEATURES``.
    """

    method: str
    folder: Path
    width: int
    size: tuple[int, int]
    weights: Weights
    synthesis: str
    features: str

    @property
    def network(self) -> Path:
        """File of the dissimilarity network."""
        return self.folder / f"{self.method}.npz"

    @property
    def generator(self) -> Path | None:
        """File of the light generator; None where the synthesis is another one."""
        return self.folder / "generator.npz" if self.synthesis == "light" else None

    @property
    def files_of_others(self) -> tuple[str, ...]:
        """What it was made with and is not in the folder, by argument of :func:`rwpm_fast.synboost.load`."""
        return (*SYNTHESES[self.synthesis], *FEATURES[self.features])


def read_training(method: str, folder: str | PathLike[str]) -> Training:
    """Read how a method was trained, and check that its networks are there.

    Args:
        method: a key of :data:`rwpm_fast.synboost.METHODS`.
        folder: ``--out`` of ``rwpm-fast train``.

    Raises:
        FileNotFoundError: no such folder, it holds no training of the method, or lacks one of its networks.
        ValueError: the training's JSON file is damaged.
    """
    folder = Path(folder)
    record = folder / f"{method}.json"
    if not folder.is_dir():
        raise FileNotFoundError(f"trained: no such folder: {folder}")
    if not record.is_file():
        raise FileNotFoundError(
            f"trained: expected a folder with a training of {method}, got {folder} without {record.name}; a training "
            "that was interrupted goes on with the same command"
        )
    try:
        training = _parsed(method, folder, record.read_bytes())
    except (ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"trained: {record} is damaged ({reason}); give the folder of another training") from error
    for file in filter(None, (training.network, training.generator)):
        if not file.is_file():
            raise FileNotFoundError(f"trained: {record} is there without {file}; give the whole folder of a training")
    return training


def _parsed(method: str, folder: Path, text: bytes) -> Training:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise TypeError("expected an object")
    if content["method"] != method:
        raise ValueError(f"method: expected {method}, got {content['method']}")
    check_integers(width=content["width"])
    height, width = content["size"]
    check_integers(height=height, width=width)
    check_size((height, width))
    anomaly, entropy, perceptual, distance = content["ensemble_weights"]
    weights = anomaly, entropy, perceptual, distance
    weighted_average(torch.zeros(len(MAPS), 1, 1), weights)  # an error for weights that make no average
    # A training without files of others need not name them.
    parts = {"synthesis": content.get("synthesis", "light"), "features": content.get("features", "network")}
    for (name, value), known in zip(parts.items(), (SYNTHESES, FEATURES), strict=True):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    return Training(method, folder, content["width"], (height, width), weights, **parts)
