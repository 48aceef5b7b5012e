"""Small parts of the chain: networks of few channels, and a synthesis that needs no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from python_tests.networks.weight_rule import weights_by_rule
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.synboost import methods
from rwpm_fast.synboost.dissimilarity import DissimilarityNet
from rwpm_fast.synboost.ensemble import PUBLISHED_WEIGHTS
from rwpm_fast.synboost.light_generator import LightGenerator
from rwpm_fast.synboost.pipeline import SynBoost
from rwpm_fast.synboost.vgg import VGG19

SIZE = (32, 64)
RESYNTHESIS = {"dispersion": False, "spade": False}
NO_ENSEMBLE = (1, 0, 0, 0)


class Posterized:
    """A synthesis that paints every class in a color of its own, lit as the photo is."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        self.size = size

    def __call__(self, class_map: Tensor, photos: Tensor) -> Tensor:
        ids = F.interpolate(class_map[:, None].float(), self.size, mode="nearest-exact")
        colors = torch.cat([(ids * factor).sin() for factor in (1, 2, 3)], dim=1)
        return colors * photos.float().mean((1, 2, 3), keepdim=True) / 255


def dissimilarity(**flags: Any) -> DissimilarityNet:
    network = DissimilarityNet(**flags, width=4)
    network.load_state_dict(weights_by_rule(network.state_dict()))
    return network


def vgg19() -> VGG19:
    network = VGG19(width=4)
    network.load_state_dict(weights_by_rule(network.state_dict()))
    return network


def small_pipeline(**settings: Any) -> SynBoost:
    """A pipeline of small parts; ``settings`` replace them or are added."""
    parts: dict[str, Any] = {
        "segmentation": Scorer(TinyNetwork()),
        "synthesis": Posterized(),
        "dissimilarity": dissimilarity(),
        "features": vgg19(),
        "size": SIZE,
    }
    return SynBoost(**parts | settings)


def put_training(folder: Path, methods: Mapping[str, Sequence[float]], **record: Any) -> None:
    """Write trainings of narrow networks by a rule, which compare small photos.

    Args:
        folder: of the trainings, to be made.
        methods: name to the weights of its ensemble.
        record: what else the JSON files say.
    """
    folder.mkdir()
    flags = {"synboost": {}, "resynthesis": RESYNTHESIS}
    networks = {"generator": LightGenerator(4), **{name: DissimilarityNet(**flags[name], width=4) for name in methods}}
    for name, network in networks.items():
        np.savez(folder / f"{name}.npz", **weights_by_rule(network.state_dict()))
    for method, weights in methods.items():
        content = {"method": method, "width": 4, "size": SIZE, "ensemble_weights": weights, **record}
        (folder / f"{method}.json").write_text(json.dumps(content))


def put_own_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder of :func:`put_training` stand for the package's own weights."""
    monkeypatch.setattr(methods, "WEIGHTS", folder)
    monkeypatch.setattr(methods, "WIDTH", 4)
    put_training(folder, {"synboost": PUBLISHED_WEIGHTS, "resynthesis": NO_ENSEMBLE})
