"""This package's walks as contenders: they get the map as a network gives it, and cut it within the time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from .. import native
from ..ops import library
from ..ops.backends import BACKENDS
from ..ops.functional import walk
from ..ops.info import WalkInfo
from ..ops.maps import Walk, partition_edges, walk_blocks
from . import costs
from .cases import DTYPES, Case, Problem
from .contender import Contender, Facts, Run, Unavailable
from .device import Captured

PLAIN = "torch"  # the backend that needs no kernels


@contextmanager
def forced_isa(isa: str | None) -> Iterator[None]:
    """Have the compiled kernels use an instruction set; None leaves the choice to them."""
    before = os.environ.get("RWPM_ISA")
    if isa is not None:
        os.environ["RWPM_ISA"] = isa
    try:
        yield
    finally:
        if isa is not None:
            os.environ.pop("RWPM_ISA")
            if before is not None:
                os.environ["RWPM_ISA"] = before


def isas() -> list[str]:
    """Instruction sets that can be forced here, best first; plain torch alone where the compiled kernels cannot
    serve."""
    if native.unsupported_reason() is not None or library.unsupported_reason() is not None:
        return [PLAIN]
    return native.native().build()["isa_available"]


def chosen_isa() -> str:
    """The instruction set that the compiled kernels use here unless forced; plain torch where they cannot serve."""
    return PLAIN if isas() == [PLAIN] else native.native().chosen_isa()


def backends(case: Case) -> list[str]:
    """Backends of :func:`rwpm_fast.walk` that can walk such a case here, but plain torch."""
    sample = torch.empty(1, 2, case.channels, device=case.device, dtype=DTYPES[case.dtype])
    served = (b for b in BACKENDS.values() if b.unsupported_reason(sample, None) is None)
    return [b.name for b in served if b.name != PLAIN]


def our_walk(kernels: str, tolerance: float = 0.0, *, captured: bool = False, bound: float | None = None) -> Contender:
    """This package's walk.

    Args:
        kernels: a backend, or an instruction set of the compiled kernels for the CPU.
        tolerance: 0: exact.
        captured: as a CUDA graph.
        bound: norm-wise relative error that it may have; None for what its contract allows.
    """
    kind = f"tolerance {tolerance:g}" if tolerance else "exact"
    if tolerance:
        work, memory = costs.flops_pairs, costs.bytes_states if kernels == PLAIN else costs.bytes_sparse
    elif kernels == "cpu" or kernels not in BACKENDS:
        work, memory = costs.flops_exact_cpu, costs.bytes_exact_cpu
    else:
        work, memory = costs.flops_exact_tiled, costs.bytes_states
    return Contender(
        f"{kind.replace(' ', '-')}-{kernels}" + ("-graph" if captured else ""),
        f"rwpm_fast, {kind}, {'plain torch' if kernels == PLAIN else kernels}" + (", CUDA graph" if captured else ""),
        partial(_prepare, kernels=kernels, tolerance=tolerance, captured=captured),
        work,
        memory,
        tolerance=tolerance,
        exact=not tolerance,
        facts=None if captured else partial(_facts, kernels=kernels, tolerance=tolerance) if tolerance else _all_pairs,
        bound=bound,
        predict=partial(costs.seconds_ours, tolerance=tolerance) if kernels in ("cpu", chosen_isa()) else None,
    )


def _split(kernels: str) -> tuple[str, str | None]:
    """Backend and instruction set to be forced."""
    return (kernels, None) if kernels in BACKENDS else ("cpu", kernels)


def _prepare(problem: Problem, kernels: str, tolerance: float, captured: bool) -> Run:
    """The map as a network gives it, [1, D, H, W], by :class:`rwpm_fast.Walk`, which cuts it."""
    case = problem.case
    backend, isa = _split(kernels)
    embeddings, values = case.to_map(problem.embeddings), case.to_map(problem.values)
    walk = Walk(**asdict(replace(case.settings, tolerance=tolerance)), backend=backend)

    def run() -> Tensor:
        with forced_isa(isa):
            return walk(embeddings, values)

    if not captured:
        return run
    if not embeddings.is_cuda:
        raise Unavailable(f"CUDA graphs need a GPU, this is {embeddings.device}")
    return Captured(run)


def _facts(problem: Problem, kernels: str, tolerance: float) -> Facts:
    """What the same walks report, cut and handed over as Walk does it."""
    case = problem.case
    backend, isa = _split(kernels)
    settings = replace(case.settings, tolerance=tolerance).operator_kwargs()
    infos: list[WalkInfo] = []

    def walk_pixels(embeddings: Tensor, values: Tensor, *, mask: None) -> Tensor:
        walked, info = walk(embeddings, values, **settings, backend=backend, return_info=True)
        infos.extend(info if isinstance(info, tuple) else [info])
        return walked

    edges = (partition_edges(side, case.parts) for side in (case.height, case.width))
    maps = case.to_map(problem.embeddings), case.to_map(problem.values)
    with forced_isa(isa):
        walk_blocks(walk_pixels, *maps, None, *edges, by_patches=maps[0].is_cuda or backend == "triton")
    paths = {info.path for info in infos}
    return Facts(
        sum(info.kept for info in infos) if paths == {"sparse"} else None,
        " and ".join(sorted(paths)),
        max(info.dropped_mass for info in infos),
    )


def _all_pairs(problem: Problem) -> Facts:
    return Facts(problem.case.pairs)
