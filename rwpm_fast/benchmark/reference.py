"""What each operator gives in float64: the measure of every contender's error."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import baselines, reference
from ..io.files import atomic_write
from ..ops.functional import walk as streamed_walk
from ..ops.maps import partition_edges
from .cases import Case, Problem

WALK = "the walk"
RELEASED = "the walk, T + 1 transitions"
CUT = "the walk on 2 x 2 sub-maps"
NEAREST = "the walk on 50 nearest neighbors"

CUT_PARTS = 2
NEIGHBORS = 50


@dataclass(frozen=True)
class Method:
    """How a device makes the float64 of a walk.

    Args:
        dense: walks embeddings [P, D] and values [P, C] by the matrix.
        dense_bytes: what that takes, of P.
        streamed: walks where that does not fit.
        how_streamed: how tables call it.
        max_channels: so many channels are walked at most, None for all. Of more, so many random sums are: the walk is
            linear and acts on pixels alone, so that a sum of channels walks like a channel, and the error of random
            sums is in norm that of all channels.
    """

    dense: Callable[..., Tensor]
    dense_bytes: Callable[[int], float]
    streamed: Callable[..., Tensor]
    how_streamed: str
    max_channels: int | None = None


# By the definition, which holds two matrices, or by this package's float64 kernels.
ON_CPU = Method(reference.walk, lambda pixels: 2 * 8 * pixels**2, streamed_walk, "streamed")
ON_GPU = Method(
    baselines.dense_walk,
    lambda pixels: 8 * pixels**2 + 24 * min(baselines.SLAB, pixels**2),
    baselines.chunked_walk,
    "in slabs",
    max_channels=16,
)


@dataclass(frozen=True)
class Reference:
    """An operator's result in float64.

    Attributes:
        values: [B, P, C], or sums of its channels [B, P, c].
        sums: [C, c] that made them, None where every channel is walked.
        case: what was walked.
        against: how it was made: what tables name after an error.
    """

    values: Tensor
    sums: Tensor | None
    case: Case
    against: str

    def error(self, result: Tensor) -> float:
        """Norm-wise relative error of a result [B, P, C], or as a map [1, C, H, W]; infinite for another shape."""
        case = self.case
        if result.shape == (1, case.value_channels, case.height, case.width):
            result = case.from_map(result)
        if result.shape != (case.parts**2, case.part_pixels, case.value_channels):
            return float("inf")
        difference = _summed(result, self.sums).sub_(self.values).norm().item()
        size = self.values.norm().item()
        return difference / size if size else difference


def cut(walk: Callable[[Tensor, Tensor], Tensor], problem: Problem) -> Tensor:
    """``walk`` of each of 2 x 2 sub-maps, which may differ in size, of an uncut map: [1, N, C]."""
    shape = problem.case.height, problem.case.width
    rows, columns = (partition_edges(side, CUT_PARTS) for side in shape)
    index = torch.arange(problem.case.pixels).reshape(shape)
    result = torch.empty_like(problem.values)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            pixels = index[top:bottom, left:right].flatten()
            result[0, pixels] = walk(problem.embeddings[0, pixels], problem.values[0, pixels])
    return result


def reference_of(
    problem: Problem,
    operator: str,
    *,
    memory: float,
    method: Method = ON_CPU,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Reference:
    """What ``operator`` gives in float64, sub-map by sub-map, on the problem's device.

    Args:
        problem: the map; in 16 bits what was rounded is what is walked.
        operator: one of the operators above.
        memory: bytes that may be taken; where the matrix does not fit, the walk is streamed, which takes minutes.
        method: how the walk is made.
        cache: folder to keep results in, named by what they were made of; those of the definition are not kept.
        note: gets what is done.
    """
    case, settings = problem.case, problem.settings
    channels, sums = case.value_channels, None
    if method.max_channels is not None and channels > method.max_channels:
        random = torch.Generator().manual_seed(0)
        signs = torch.randint(2, (channels, method.max_channels), generator=random)
        sums = (2.0 * signs - 1).double().to(problem.values.device)
    largest = case.part_pixels
    if operator == CUT:
        largest = -(-case.height // CUT_PARTS) * -(-case.width // CUT_PARTS)
    walk: Callable[..., Tensor]
    if operator == NEAREST:
        walk, against = partial(baselines.knn_walk, neighbors=NEIGHBORS), "float64 neighbors"
    elif method.dense_bytes(largest) <= memory:
        walk, against = method.dense, "float64 dense"
    else:
        walk, against = method.streamed, f"float64 {method.how_streamed}"
    settings["steps"] += operator == RELEASED
    if sums is not None:
        against += f", {method.max_channels} sums of channels"

    def run() -> Tensor:
        note(f"reference of {operator}: {against}")
        summed = Problem(case, problem.embeddings, _summed(problem.values, sums))

        def on(embeddings: Tensor, values: Tensor) -> Tensor:
            return walk(embeddings.double(), values, **settings)

        return cut(on, summed) if operator == CUT else summed.each(on)

    how = f"{operator} {case.height}x{case.width} {against} {settings}"
    # What the definition gives is never taken from a file.
    walked = run() if cache is None or walk is reference.walk else _cached(cache, run, problem, how)
    return Reference(walked.to(problem.values.device), sums, case, against)


def _summed(values: Tensor, sums: Tensor | None) -> Tensor:
    """Values [B, P, C] in float64, or their random sums."""
    if sums is None:
        return values.to(torch.float64, copy=True)
    return torch.stack([part.double() @ sums for part in values])


def _cached(folder: Path, run: Callable[[], Tensor], problem: Problem, how: str) -> Tensor:
    """What ``run`` gives of a problem, from a file of ``folder`` that is named by the problem and how it is walked."""
    digest = hashlib.sha256(how.encode())
    for tensor in (problem.embeddings, problem.values):
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().numpy().data)
    file = folder / f"reference_{digest.hexdigest()[:32]}.npy"
    if file.exists():
        return torch.from_numpy(np.load(file))
    result = run().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(file, lambda stream: np.save(stream, result.numpy()))
    return result
