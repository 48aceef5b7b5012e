"""Variants of the dissimilarity network that several tests build."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from python_tests.networks.weight_rule import weights_by_rule
from rwpm_fast.synboost.dissimilarity import DissimilarityNet, semantic_one_hot
from rwpm_fast.synboost.dissimilarity_layout import RenamedState, released_names

FULL = {"dispersion": True, "spade": True, "image_correlation": True}
RESYNTHESIS = {"dispersion": False, "spade": False, "image_correlation": True}
VARIANTS = {"full": FULL, "baseline": RESYNTHESIS, "full_nocorr": FULL | {"image_correlation": False}}
ALL_FLAGS = [dict(zip(FULL, values, strict=True)) for values in product([True, False], repeat=3)]
NARROW = 4


def flags_id(flags: dict[str, bool]) -> str:
    return "-".join(flag for flag, value in flags.items() if value) or "none"


every_variant = pytest.mark.parametrize("flags", ALL_FLAGS, ids=flags_id)


def released(network: DissimilarityNet) -> RenamedState:
    return RenamedState(network, released_names(network.state_dict()))


def on_meta(**flags) -> DissimilarityNet:
    with torch.device("meta"):
        return DissimilarityNet(**flags)


def narrow(**flags) -> DissimilarityNet:
    """A network of a sixteenth of the channels, whose biases are not 0, like those of a trained one."""
    network = DissimilarityNet(**flags, width=NARROW)
    network.load_state_dict(weights_by_rule(network.state_dict()))
    return network.eval()


def random_inputs(batch: int, height: int, width: int, *, dispersion: bool = True) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (height, width)
    image = torch.randn(batch, 3, *size, generator=generator)
    synthesis = image + torch.randn(batch, 3, *size, generator=generator) / 2
    labels = torch.randint(0, 20, (batch, *size), generator=generator)
    maps = [torch.rand(batch, 3, *size, generator=generator)] if dispersion else []
    return [image, synthesis, semantic_one_hot(labels), *maps]
