"""What each operator gives in float64: the measure of every contender's error."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import baselines, reference
from ..io.files import atomic_write
from ..ops.functional import walk as streamed_walk
from ..ops.maps import partition_edges
from .cases import Problem

WALK = "the walk"
RELEASED = "the walk, T + 1 transitions"
CUT = "the walk on 2 x 2 sub-maps"
NEAREST = "the walk on 50 nearest neighbors"

PARTS = 2
NEIGHBORS = 50


class Expected(NamedTuple):
    """An operator's result in float64, [N, C], and how it was made: what tables name beside an error."""

    values: Tensor
    against: str

    def error(self, result: Tensor) -> float:
        """Norm-wise relative error of a result [N, C]; infinite for another shape."""
        if result.shape != self.values.shape:
            return float("inf")
        difference = (result.double() - self.values).norm().item()
        size = self.values.norm().item()
        return difference / size if size else difference


def cut(walk: Callable[[Tensor, Tensor], Tensor], problem: Problem) -> Tensor:
    """``walk`` of each of 2 x 2 sub-maps by itself, [N, C]."""
    shape = problem.case.height, problem.case.width
    rows, columns = (partition_edges(side, PARTS) for side in shape)
    index = torch.arange(problem.case.pixels).reshape(shape)
    result = torch.empty_like(problem.values)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            pixels = index[top:bottom, left:right].flatten()
            result[pixels] = walk(problem.embeddings[pixels], problem.values[pixels])
    return result


def expected(
    problem: Problem,
    operator: str,
    *,
    memory: float,
    cache: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Expected:
    """What ``operator`` gives in float64.

    By its dense definition where two float64 matrices fit into ``memory`` bytes, else streamed by this package's
    float64 walk, which never holds a matrix but takes minutes.

    Args:
        problem: the map, taken as float64.
        operator: one of the operators above.
        memory: bytes that may be taken.
        cache: folder to keep streamed results in, named by what they were made of.
        note: told what takes long.
    """
    case = problem.case
    problem = Problem(case, problem.embeddings.double(), problem.values.double())
    settings = problem.settings
    if operator == NEAREST:
        return Expected(
            baselines.knn_walk(problem.embeddings, problem.values, neighbors=NEIGHBORS, **settings),
            "float64 neighbors",
        )
    largest = case.pixels
    if operator == CUT:
        largest = -(-case.height // PARTS) * -(-case.width // PARTS)
    settings["steps"] += operator == RELEASED
    if 2 * 8 * largest**2 <= memory:
        walk, against = reference.walk, "float64 dense"
    else:
        walk, against = streamed_walk, "float64 streamed"
        note(f"float64 reference of {operator}: streamed, since the matrix does not fit; this takes long")

    def run() -> Tensor:
        def on(embeddings: Tensor, values: Tensor) -> Tensor:
            return walk(embeddings, values, **settings)

        return cut(on, problem) if operator == CUT else on(problem.embeddings, problem.values)

    if cache is None or walk is reference.walk:
        return Expected(run(), against)
    return Expected(cached(cache, run, problem, f"{operator} {case.height}x{case.width} {settings}"), against)


def cached(folder: Path, run: Callable[[], Tensor], problem: Problem, operator: str) -> Tensor:
    """What ``run`` gives of a problem, on the CPU, from a file of ``folder`` that is named by problem and operator."""
    digest = hashlib.sha256(operator.encode())
    for tensor in (problem.embeddings, problem.values):
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().numpy())
    file = folder / f"reference_{digest.hexdigest()[:32]}.npy"
    if file.exists():
        return torch.from_numpy(np.load(file))
    result = run().cpu()
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(file, lambda stream: np.save(stream, result.numpy()))
    return result
