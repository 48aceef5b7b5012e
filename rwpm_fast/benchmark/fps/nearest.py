"""Walks on graphs of nearest neighbors, by whoever searches for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ... import baselines
from ..cases import Problem
from ..contender import Run, Unavailable
from ..libraries import Search
from ..reference import NEAREST, NEIGHBORS
from .dense import blocks, in_float32, logits_of
from .estimates import listed, paired
from .walker import NEIGHBORS_BOUND, Walker


def _nearest_pairs(problem: Problem) -> int:
    return problem.case.pixels * NEIGHBORS


def topk(dtype: torch.dtype, q: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Cosines and indices [N, k] by products of a dtype, slab by slab; q: [N, D]."""
    keys = q.to(dtype)
    found = []
    for block in blocks(len(q)):
        x = logits_of(keys[block], keys)
        x[:, block.start :].fill_diagonal_(-torch.inf)
        found.append(x.topk(neighbors, dim=-1))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _nearest(problem: Problem, search: Callable[[], Search] | None) -> Run:
    if problem.case.part_pixels <= NEIGHBORS:
        raise Unavailable(f"{NEIGHBORS} nearest neighbors need more than {problem.case.part_pixels} pixels")
    by = partial(topk, problem.embeddings.dtype) if search is None else search()
    return in_float32(problem, partial(baselines.knn_walk, neighbors=NEIGHBORS, search=by))


def nearest_walker(key: str, label: str, search: Callable[[], Search] | None, **facts) -> Walker:
    prepare = partial(_nearest, search=search)
    about = {"operator": NEAREST, "exact": False, "pairs": _nearest_pairs, "most": NEIGHBORS_BOUND}
    return Walker(key, f"{NEIGHBORS} nearest by {label}", prepare, paired, listed, **about, **facts)
