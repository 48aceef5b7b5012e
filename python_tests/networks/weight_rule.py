"""The rule by which weights behind the golden files are drawn: each from its key and shape alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch


def weights_by_rule(state: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Values for the floating-point entries of a state dict; ``prefix`` stands before their names in the original."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
    with ThreadPoolExecutor(2) as pool:  # NumPy draws without holding Python's lock
        return dict(zip(shapes, pool.map(lambda name: _draw(prefix + name, shapes[name]), shapes), strict=True))


def _draw(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    x = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    if len(shape) > 1:
        return x.mul_(float(np.sqrt(1 / np.prod(shape[1:]))))
    if key.endswith("running_var"):
        return 1 + 0.1 * x.abs()
    return 1 + 0.1 * x if key.endswith(".weight") else 0.1 * x
