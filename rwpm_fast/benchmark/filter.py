"""The filter of a walk with a tolerance by itself, beside the peak of the instructions that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .. import native
from . import machine
from .cases import Case
from .contender import forced_isa

NOTHING = 9.0  # a cosine that no pair has, however it is rounded
ROUNDING = 1e-5  # of a float32 cosine, with room
PEAK_SECONDS = 0.3


def time_filter(
    case: Case, isas: list[str | None], rounds: int, *, note: Callable[[str], None] = lambda text: None
) -> list[dict[str, Any]]:
    """Time the filter on a map: a pass over half of all pairs, by symmetry, in which nothing is found.

    It is the pass that compiles the sparse matrix of a walk; panels are packed and rounded before it. Instruction sets
    take turns in every round, each beside a measurement of its peak.

    Args:
        case: whose embeddings are filtered; its values and its walk are of no account.
        isas: instruction sets; None leaves the choice to the kernels.
        rounds: passes of each, 1 or more.
        note: told what is done, a line at a time.

    Returns:
        For a record, a row for each instruction set: the map, ``isa``, ``format`` of the numbers it multiplies, and
        ``matched``, whether a pass over a small map found the pairs that float64 finds. Only then ``operations`` of a
        pass, a multiply-add counted as two, without those of channels and pixels that pad; ``load``, ``runs`` and
        ``peaks`` of the rounds; ``seconds``, ``spread``, ``operations_per_second``, ``peak_operations_per_second`` and
        ``share_of_peak``, of medians.

    Raises:
        RuntimeError: the compiled module is not built.
    """
    kernels, threads = native.native(), torch.get_num_threads()
    embeddings = case.problem().embeddings.numpy()  # [N, D]
    small = case.small().problem().embeddings.numpy()
    facts = {name: case.as_dict()[name] for name in ("name", "height", "width", "pixels", "channels")}
    rows = []
    for isa in isas:
        with forced_isa(isa):
            row = {"isa": kernels.chosen_isa(), "format": kernels.filter_format(), "matched": _finds(small, threads)}
        rows.append({**facts, **row, "load": [], "runs": [], "peaks": []})
    for number in range(rounds):
        for row in [r for r in rows if r["matched"]]:
            note(f"round {number + 1} of {rounds}: the filter alone, {row['isa']}")
            row["load"].append(machine.load())
            with forced_isa(row["isa"]):
                row["peaks"].append(kernels.peak_filter(threads, PEAK_SECONDS))
                seconds, tested, _ = kernels.time_filter(embeddings, NOTHING, threads)
            row["runs"].append(seconds)
            row["operations"] = 2 * tested * case.channels
    return [row | _speed(row) if row["matched"] else row for row in rows]


def _finds(embeddings: np.ndarray, threads: int) -> bool:
    """Whether a pass finds the hundredth of all pairs that are most alike."""
    unit = F.normalize(torch.from_numpy(embeddings).double(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1).flatten().sort().values
    threshold = float(cosines[-1 - len(cosines) // 100])
    bounds = cosines.new_tensor([threshold + ROUNDING, threshold - ROUNDING])
    fewest, most = (len(cosines) - torch.searchsorted(cosines, bounds)).tolist()
    return fewest <= native.native().time_filter(embeddings, threshold, threads)[2] <= most


def _speed(row: dict[str, Any]) -> dict[str, float]:
    seconds, peak = median(row["runs"]), median(row["peaks"])
    rate = row["operations"] / seconds
    return {
        "seconds": seconds,
        "spread": max(row["runs"]) / min(row["runs"]),
        "operations_per_second": rate,
        "peak_operations_per_second": peak,
        "share_of_peak": rate / peak,
    }
