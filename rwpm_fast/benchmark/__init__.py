"""Benchmarks of the walk: contenders in turn within one run, each checked against float64 before it gets a time.

``cases`` (what is walked) -> ``reference`` (its float64) -> ``contender`` (a way to walk) and ``costs`` (what each
takes) -> ``device`` (time and memory there) -> ``ours``, ``torch_walks``, ``libraries`` (how they walk) -> ``entries``
(all of them) -> ``runner`` (the rounds) -> ``record`` (what was found) -> ``table``.

``rwpm-fast bench`` runs it on maps of your size, ``rwpm-fast bench fps`` on the paper's maps; the folder bench/ of the
repository adds peers that need more than torch, and real embeddings.
"""

from __future__ import annotations

from .cases import Case, Problem, map_shape, paper_cases
from .contender import Contender, Facts, Unavailable, chosen
from .device import CpuDevice, CudaDevice, open_device
from .entries import UNITS, fps_entries, walk_entries
from .filter import time_filter
from .ours import chosen_isa, isas, our_walk
from .record import Comparison, FilterResult, Record, Result
from .runner import Limits, compare
from .table import markdown

__all__ = [
    "UNITS",
    "Case",
    "Comparison",
    "Contender",
    "CpuDevice",
    "CudaDevice",
    "Facts",
    "FilterResult",
    "Limits",
    "Problem",
    "Record",
    "Result",
    "Unavailable",
    "chosen",
    "chosen_isa",
    "compare",
    "fps_entries",
    "isas",
    "map_shape",
    "markdown",
    "open_device",
    "our_walk",
    "paper_cases",
    "time_filter",
    "walk_entries",
]
