"""The figures that must hold on an H100, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Results = dict[str, dict[str, Any]]  # of tasks by name


def rows(results: Results, task: str, case: int = 0) -> list[dict[str, Any]]:
    """Rows of a task's case that have a time; none where the task did not run."""
    record = results.get(task, {}).get("record")
    return (
        [r for r in record["cases"][case]["rows"] if "seconds" in r] if record and case < len(record["cases"]) else []
    )


def fastest(results: Results, task: str, pattern: str, case: int = 0) -> dict[str, Any] | None:
    """The fastest row of contenders that match."""
    found = [row for row in rows(results, task, case) if fnmatchcase(row["contender"], pattern)]
    return min(found, key=lambda row: row["seconds"], default=None)


def milliseconds(task: str, pattern: str, case: int = 0) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        row = fastest(results, task, pattern, case)
        return None if row is None else 1000 * row["seconds"]

    return value


def times_faster(ours: tuple[str, str], theirs: tuple[str, str]) -> Callable[[Results], float | None]:
    """Their time over ours, each (task, pattern)."""

    def value(results: Results) -> float | None:
        own, other = fastest(results, *ours), fastest(results, *theirs)
        return None if own is None or other is None else other["seconds"] / own["seconds"]

    return value


def step_share(results: Results) -> float | None:
    shares = [r["step_share_of_peak"] for r in rows(results, "uncut-256") if "step_share_of_peak" in r]
    return 100 * max(shares) if shares else None


def memory(results: Results) -> float | None:
    """The most that any of our walks of the widest map takes, in MiB."""
    peaks = [r["peak_bytes"] for r in rows(results, "uncut-256") if r.get("peak_bytes") is not None]
    return max(peaks) / 2**20 if peaks else None


def over_triton(results: Results) -> float | None:
    """The largest gain of a step in CUDA C++ over Triton's, on any size."""
    timed = [row for row in results.get("steps", {}).get("rows", []) if "times_triton" in row]
    return max((row["times_triton"] for row in timed if row["kernel"] != "triton"), default=None)


@dataclass(frozen=True)
class Target:
    """A figure that must hold.

    Attributes:
        text: what is measured.
        unit: of the figure.
        must: bound that it has to keep.
        aim: bound that it should keep.
        value: measures it; None where its task did not run.
        at_least: whether the bounds are lower ones.
    """

    text: str
    unit: str
    must: float
    aim: float
    value: Callable[[Results], float | None]
    at_least: bool = False

    def met(self, value: float, bar: float) -> bool:
        return value >= bar if self.at_least else value <= bar


def _filtered(task: str, name: str, bars: tuple[tuple[int, float, float], ...]) -> list[Target]:
    return [
        Target(f"{name}, filtered, C = {channels}", "ms", must, aim, milliseconds(task, "tolerance-*", case))
        for case, (channels, must, aim) in enumerate(bars)
    ]


_BARS = ((256, 60, 15), (100, 30, 5), (19, 12, 3))
_HALF, _WHOLE = ("half-256", "tolerance-*"), ("uncut-256", "tolerance-*")

TARGETS = [
    Target("exact step, N = 58 880, D = C = 256, of the product rate", "%", 45, 75, step_share, at_least=True),
    Target("184x320 uncut, T = 20, exact, C = 256", "ms", 200, 120, milliseconds("uncut-256", "exact-*")),
    *_filtered("uncut-256", "184x320 uncut, T = 20", _BARS[:1]),
    *_filtered("uncut-100", "184x320 uncut, T = 20", _BARS[1:2]),
    *_filtered("uncut-19", "184x320 uncut, T = 20", _BARS[2:]),
    *_filtered("real-0", "the same, real embeddings (first file)", _BARS),
    *_filtered("real-1", "the same, real embeddings (second file)", _BARS),
    Target("184x320, n = 2, T = 20, filtered, C = 256", "ms", 20, 4, milliseconds(*_HALF)),
    Target("512x1024 uncut, T = 5, 19 logits, the faster path", "ms", 1500, 300, milliseconds("deeplab", "*")),
    Target("memory above inputs, 184x320 uncut, C = 256", "MiB", 1024, 300, memory),
    Target(
        "FlexAttention over ours, exact, uncut",
        "x",
        1.2,
        2,
        times_faster(("uncut-flex", "exact-*"), ("uncut-flex", "flex")),
        True,
    ),
    Target(
        "dense as released (n = 2) over ours uncut, filtered",
        "x",
        5,
        20,
        times_faster(_WHOLE, ("half-256", "dense-released")),
        True,
    ),
    Target(
        "dense tuned over ours, filtered, n = 2", "x", 1.5, 5, times_faster(_HALF, ("half-256", "dense-tuned")), True
    ),
    Target("a step in CUDA C++ over Triton's, its best size", "x", 1.1, 1.1, over_triton, True),
    Target("50 nearest over ours, filtered, n = 2", "x", 2, 10, times_faster(_HALF, ("half-256", "knn-*")), True),
]


def verdicts(results: Results) -> list[dict[str, Any]]:
    """Every target with its measured value, None where its task did not run."""
    made = []
    for target in TARGETS:
        value = target.value(results)
        row = {
            "text": target.text,
            "unit": target.unit,
            "must": target.must,
            "aim": target.aim,
            "at_least": target.at_least,
        }
        row |= {"value": value}
        if value is not None:
            row |= {"met": target.met(value, target.must), "aim_met": target.met(value, target.aim)}
        made.append(row)
    return made


def markdown(results: Results) -> str:
    """The verdicts as a table."""
    lines = ["| figure | measured | must | aim | |", "|---|---|---|---|---|"]
    for row in verdicts(results):
        sign = ">=" if row["at_least"] else "<="
        bars = f"{sign} {row['must']:g} {row['unit']} | {sign} {row['aim']:g}"
        if row["value"] is None:
            lines.append(f"| {row['text']} | not measured | {bars} | |")
        else:
            verdict = "aim met" if row["aim_met"] else "met" if row["met"] else "MISSED"
            lines.append(f"| {row['text']} | {row['value']:.4g} | {bars} | {verdict} |")
    return "\n".join(lines) + "\n"
