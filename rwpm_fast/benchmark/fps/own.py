"""This package's walks in the FPS benchmark: they get the map as a network gives it, and cut it within the time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...ops.backends import BACKENDS
from ...ops.functional import walk
from ...ops.maps import partition_edges, walk_blocks, walk_map
from ..cases import Problem
from ..contender import Run, Unavailable
from .device import Captured
from .estimates import paired, sparse, states, streamed
from .frames import Frame
from .walker import TOLERANT, Walker


def backends(frame: Frame) -> list[str]:
    """Backends of :func:`rwpm_fast.walk` that can walk such a frame here, but plain torch."""
    sample = torch.empty(1, 2, frame.channels, device=frame.device, dtype=getattr(torch, frame.dtype))
    found = []
    for backend in BACKENDS:
        if backend == "torch":
            continue
        try:
            walk(sample, backend=backend, steps=0)
            found.append(backend)
        except RuntimeError:
            continue
    return found


def _ours(problem: Problem, backend: str, tolerance: float, captured: bool) -> Run:
    """The map as a network gives it, [1, D, H, W], by :func:`rwpm_fast.walk_map`, which cuts it."""
    case = problem.case
    embeddings, values = case.as_map(problem.embeddings), case.as_map(problem.values)
    settings = {**problem.settings, "parts": case.parts, "tolerance": tolerance, "backend": backend}

    def run() -> Tensor:
        return walk_map(embeddings, values, **settings)

    if not captured:
        return run
    if not embeddings.is_cuda:
        raise Unavailable(f"CUDA graphs need a GPU, this is {embeddings.device}")
    return Captured(run)


def _facts(problem: Problem, backend: str, tolerance: float) -> dict[str, Any]:
    """What the same walks tell, cut and handed over as walk_map does it."""
    case, infos = problem.case, []

    def walk_pixels(embeddings: Tensor, values: Tensor, *, mask: None) -> Tensor:
        settings = {**problem.settings, "tolerance": tolerance, "backend": backend, "return_info": True}
        walked, told = walk(embeddings, values, **settings)
        infos.extend(told)
        return walked

    edges = (partition_edges(side, case.parts) for side in (case.height, case.width))
    maps = case.as_map(problem.embeddings), case.as_map(problem.values)
    walk_blocks(walk_pixels, *maps, None, *edges, by_patches=backend != "cpu")
    paths = {info.path for info in infos}
    return {
        "path": " and ".join(sorted(paths)),
        "pairs": sum(info.kept for info in infos) if paths == {"sparse"} else None,
        "dropped": max(info.dropped_mass for info in infos),
    }


def _all_pairs(problem: Problem) -> int:
    return problem.case.pairs


def ours(backend: str, tolerance: float = 0.0, *, captured: bool = False) -> Walker:
    """This package's walk by a backend, exact or with a tolerance; ``captured``: as a CUDA graph."""
    kind = f"tolerance {tolerance:g}" if tolerance else "exact"
    bound = {"backend": backend, "tolerance": tolerance}
    return Walker(
        f"{kind.replace(' ', '-')}-{backend}" + ("-graph" if captured else ""),
        f"rwpm_fast, {kind}, {backend}" + (", CUDA graph" if captured else ""),
        partial(_ours, **bound, captured=captured),
        work=paired if tolerance else streamed,
        memory=sparse if tolerance else states,
        tolerance=tolerance,
        exact=not tolerance,
        pairs=None if captured or tolerance else _all_pairs,
        facts=partial(_facts, **bound) if tolerance and not captured else None,
        most=TOLERANT if tolerance else None,
    )
