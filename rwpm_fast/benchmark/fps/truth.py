"""What a walk on a device is measured by: the same walk in float64 there, of few channels that stand for all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ... import baselines
from ..cases import Problem
from ..reference import NEAREST, NEIGHBORS, RELEASED, cached
from .frames import Frame

# Channels that are walked in float64. Of more, so many random sums are: the walk is linear and acts on pixels alone, so
# that a sum of channels walks like a channel, and the error of random sums is in norm that of all channels.
CHANNELS = 16


class Truth(NamedTuple):
    """Sums of channels walked in float64, [B, P, c], and how: :class:`rwpm_fast.benchmark.reference.Expected`."""

    values: Tensor
    sums: Tensor | None  # [C, c], None where every channel is walked
    frame: Frame
    against: str

    def error(self, result: Tensor) -> float:
        """Norm-wise relative error of a result [B, P, C], or as a map [1, C, H, W]; infinite for another shape."""
        frame = self.frame
        if result.shape == (1, frame.value_channels, frame.height, frame.width):
            result = frame.of_map(result)
        if result.shape != (frame.parts**2, frame.part_pixels, frame.value_channels):
            return float("inf")
        difference = summed(result, self.sums).sub_(self.values).norm().item()
        size = self.values.norm().item()
        return difference / size if size else difference


def summed(values: Tensor, sums: Tensor | None) -> Tensor:
    """Values [B, P, C] in float64, or their random sums."""
    if sums is None:
        return values.to(torch.float64, copy=True)
    return torch.stack([part.double() @ sums for part in values])


def truth(
    problem: Problem,
    operator: str,
    *,
    memory: float,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Truth:
    """What ``operator`` gives in float64, sub-map by sub-map, on the problem's device.

    Args:
        problem: embeddings [B, P, D] and values [B, P, C]; in 16 bits what was rounded is what is walked.
        operator: WALK, RELEASED or NEAREST of :mod:`rwpm_fast.benchmark.reference`.
        memory: bytes that may be taken; where the matrix does not fit, every step makes it anew in slabs.
        cache: folder to keep results in, named by what they were made of.
        note: told what is done.
    """
    embeddings, values = problem.embeddings, problem.values
    channels, pixels = values.shape[-1], embeddings.shape[1]
    sums = None
    if channels > CHANNELS:
        random = torch.Generator().manual_seed(0)
        sums = (2.0 * torch.randint(2, (channels, CHANNELS), generator=random) - 1).double().to(values.device)
    settings = problem.settings
    if operator == NEAREST:
        walk, against = partial(baselines.knn_walk, neighbors=NEIGHBORS), "float64 neighbors"
    elif 8 * pixels**2 + 24 * min(baselines.SLAB, pixels**2) <= memory:
        walk, against = baselines.dense_walk, "float64 dense"
    else:
        walk, against = baselines.chunked_walk, "float64 in slabs"
    settings["steps"] += operator == RELEASED
    if sums is not None:
        against += f", {CHANNELS} sums of channels"

    def run() -> Tensor:
        note(f"reference of {operator}: {against}")
        return torch.stack(
            [walk(e.double(), v, **settings) for e, v in zip(embeddings, summed(values, sums), strict=True)]
        )

    walked = run() if cache is None else cached(cache, run, problem, f"{operator} of {against} {settings}")
    return Truth(walked.to(values.device), sums, problem.case, against)
