"""The rule for weights of networks with spectral norms, and such networks filled by it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from python_tests.networks.weight_rule import weights_by_rule

NetworkType = TypeVar("NetworkType", bound=nn.Module)


def spectral_weights_by_rule(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values for all entries of a state dict: singular vectors after five steps of the power iteration, counters 0."""
    weights = weights_by_rule(state)
    for name in state:
        if name.endswith("weight_u"):
            layer = name.removesuffix("weight_u")
            left, right = _singular_vectors(weights[layer + "weight_orig"], name)
            weights |= {name: left, layer + "weight_v": right}
    return {name: weights.get(name, torch.tensor(0)) for name in state}


def _singular_vectors(weight: torch.Tensor, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    matrix = weight.double().flatten(1).numpy()
    left = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(len(matrix))
    left /= np.linalg.norm(left)
    for _ in range(5):
        right = left @ matrix
        right /= np.linalg.norm(right)
        left = matrix @ right
        left /= np.linalg.norm(left)
    return torch.from_numpy(left).float(), torch.from_numpy(right).float()


def filled(kind: type[NetworkType], *args: object, **settings: object) -> NetworkType:
    """Build a network in evaluation mode with weights by the rule, which are held once."""
    with torch.device("meta"):
        network = kind(*args, **settings)
    network.load_state_dict(spectral_weights_by_rule(network.state_dict()), assign=True)
    return network.eval()
