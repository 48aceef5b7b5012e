"""Benchmarks of the walk: contenders in turn within one run, each checked against float64 before it gets a time.

``rwpm-fast bench`` is the short version for sizes of your own; the folder bench/ of the repository adds peers that need
more than torch, and real embeddings.
"""

from __future__ import annotations

from typing import Any

from . import machine
from .cases import Case, Problem, map_shape
from .contender import Contender, Unavailable, chosen, chosen_isa, isas, ours, torch_walks
from .filter import time_filter
from .runner import Limits, compare
from .table import markdown

__all__ = [
    "Case",
    "Contender",
    "Limits",
    "Problem",
    "Unavailable",
    "chosen",
    "chosen_isa",
    "compare",
    "isas",
    "map_shape",
    "markdown",
    "ours",
    "record",
    "succeeded",
    "time_filter",
    "torch_walks",
]


def record(
    cases: list[dict[str, Any]], command: str, limits: Limits, filters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """What :func:`compare` gave for cases, with the machine, the versions, the commit and the command, for JSON;
    under ``filter``, where there are any, the rows that :func:`time_filter` gave."""
    made = {
        "command": command,
        "commit": machine.commit(),
        "machine": machine.facts(),
        "limits": {"seconds": limits.seconds, "memory": limits.memory},
        "rounds": limits.rounds,
        "cases": cases,
    }
    return made | {"filter": filters} if filters else made


def succeeded(record: dict[str, Any]) -> bool:
    """Whether all that ran, walks and filters, gave what they should; what was left out by a limit does not count."""
    rows = [row for case in record["cases"] for row in case["rows"]] + record.get("filter", [])
    return all("skipped" in row or ("failed" not in row and row["matched"]) for row in rows)
