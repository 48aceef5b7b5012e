"""The filter of a walk with a tolerance alone, against the peak of the instructions that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import torch
from torch.nn import functional as F

from .. import native
from . import machine
from .cases import Case
from .ours import forced_isa
from .record import FilterResult, summary
from .runner import take_turns

NOTHING = 9.0  # a cosine that no pair has, however it is rounded
ROUNDING = 1e-5  # of a float32 cosine, with room
PEAK_SECONDS = 0.3


def time_filter(
    case: Case, isas: Sequence[str | None], rounds: int, *, note: Callable[[str], None] = lambda text: None
) -> list[FilterResult]:
    """Time the filter on a map: a pass over half of all pairs, by symmetry, in which nothing is found.

    It is the pass that compiles the sparse matrix of a walk; panels are packed and rounded before it. Instruction sets
    take turns in every round, each with a measurement of its peak. One that does not find the pairs of a small map
    that float64 finds is refused a time.

    Args:
        case: an uncut map in float32, whose embeddings are filtered; its values and its walk are of no account.
        isas: instruction sets; None leaves the choice to the kernels.
        rounds: passes of each, 1 or more.
        note: gets what is done, a line at a time.

    Returns:
        A row for each instruction set.

    Raises:
        RuntimeError: the compiled module is not built.
    """
    kernels, threads = native.native(), torch.get_num_threads()
    embeddings = case.problem().embeddings[0].numpy()  # [N, D]
    small = case.small().problem().embeddings[0].numpy()
    sizes = (case.name, case.height, case.width, case.pixels, case.channels)
    entries = []
    for isa in isas:
        with forced_isa(isa):
            matched = _finds(small, threads)
            entries.append(_Entry(FilterResult(*sizes, kernels.chosen_isa(), kernels.filter_format(), matched)))

    def run_once(entry: _Entry, turn: str) -> None:
        if not entry.result.matched:
            return
        note(f"{turn}: the filter alone, {entry.result.isa}")
        with forced_isa(entry.result.isa):
            entry.peaks.append(kernels.peak_filter(threads, PEAK_SECONDS))
            seconds, tested, _ = kernels.time_filter(embeddings, NOTHING, threads)
        entry.runs.append(seconds)
        entry.operations = 2 * tested * case.channels

    load = take_turns(rounds, entries, run_once, before=machine.load)
    return [entry.done(load) for entry in entries]


@dataclass
class _Entry:
    """An instruction set on its way through the rounds."""

    result: FilterResult
    runs: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    operations: int = 0

    def done(self, load: list[float]) -> FilterResult:
        if not self.runs:
            return self.result
        figures, peak = summary(self.runs), median(self.peaks)
        rate = self.operations / figures["seconds"]
        return replace(
            self.result,
            **figures,
            load=tuple(load),
            peaks=tuple(self.peaks),
            operations=self.operations,
            operations_per_second=rate,
            peak_operations_per_second=peak,
            share_of_peak=rate / peak,
        )


def _finds(embeddings: np.ndarray, threads: int) -> bool:
    """Whether a pass finds the hundredth of all pairs that are most alike."""
    unit = F.normalize(torch.from_numpy(embeddings).double(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1).flatten().sort().values
    threshold = float(cosines[-1 - len(cosines) // 100])
    bounds = cosines.new_tensor([threshold + ROUNDING, threshold - ROUNDING])
    least, most = (len(cosines) - torch.searchsorted(cosines, bounds)).tolist()
    return least <= native.native().time_filter(embeddings, threshold, threads)[2] <= most
