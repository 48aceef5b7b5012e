"""The figures that must hold on an H100, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Parts = dict[str, dict[str, Any]]


def rows(parts: Parts, part: str, case: int = 0) -> list[dict[str, Any]]:
    """Rows of a part's case that have a time; none where the part did not run."""
    record = parts.get(part, {}).get("record")
    return (
        [r for r in record["cases"][case]["rows"] if "seconds" in r] if record and case < len(record["cases"]) else []
    )


def fastest(parts: Parts, part: str, pattern: str, case: int = 0) -> dict[str, Any] | None:
    """The fastest row of contenders that match."""
    found = [row for row in rows(parts, part, case) if fnmatchcase(row["contender"], pattern)]
    return min(found, key=lambda row: row["seconds"], default=None)


def milliseconds(part: str, pattern: str, case: int = 0) -> Callable[[Parts], float | None]:
    def value(parts: Parts) -> float | None:
        row = fastest(parts, part, pattern, case)
        return None if row is None else 1000 * row["seconds"]

    return value


def times_faster(ours: tuple[str, str], theirs: tuple[str, str]) -> Callable[[Parts], float | None]:
    """Their time over ours, each (part, pattern)."""

    def value(parts: Parts) -> float | None:
        mine, other = fastest(parts, *ours), fastest(parts, *theirs)
        return None if mine is None or other is None else other["seconds"] / mine["seconds"]

    return value


def step_share(parts: Parts) -> float | None:
    shares = [r["step_share_of_peak"] for r in rows(parts, "uncut-256") if "step_share_of_peak" in r]
    return 100 * max(shares) if shares else None


def memory(parts: Parts) -> float | None:
    """Of all our walks of the widest map the most."""
    peaks = [r["peak_bytes"] for r in rows(parts, "uncut-256") if r.get("peak_bytes") is not None]
    return max(peaks) / 2**20 if peaks else None


def over_triton(parts: Parts) -> float | None:
    """Of the steps in CUDA C++ the largest gain over Triton's, on any size."""
    timed = [row for row in parts.get("steps", {}).get("rows", []) if "times_triton" in row]
    return max((row["times_triton"] for row in timed if row["kernel"] != "triton"), default=None)


@dataclass(frozen=True)
class Target:
    """A figure: what it must be and what it should be, at most or, with ``least``, at least."""

    text: str
    unit: str
    must: float
    aim: float
    value: Callable[[Parts], float | None]
    least: bool = False

    def met(self, value: float, bar: float) -> bool:
        return value >= bar if self.least else value <= bar


def _filtered(part: str, name: str, bars: tuple[tuple[int, float, float], ...]) -> list[Target]:
    return [
        Target(f"{name}, filtered, C = {channels}", "ms", must, aim, milliseconds(part, "tolerance-*", case))
        for case, (channels, must, aim) in enumerate(bars)
    ]


_BARS = ((256, 60, 15), (100, 30, 5), (19, 12, 3))
_HALF, _WHOLE = ("half-256", "tolerance-*"), ("uncut-256", "tolerance-*")

TARGETS = [
    Target("exact step, N = 58 880, D = C = 256, of the product rate", "%", 45, 75, step_share, least=True),
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


def verdicts(parts: Parts) -> list[dict[str, Any]]:
    """Every target with its measured value, None where its part did not run."""
    made = []
    for target in TARGETS:
        value = target.value(parts)
        row = {"text": target.text, "unit": target.unit, "must": target.must, "aim": target.aim, "least": target.least}
        row |= {"value": value}
        if value is not None:
            row |= {"met": target.met(value, target.must), "aim_met": target.met(value, target.aim)}
        made.append(row)
    return made


def markdown(parts: Parts) -> str:
    """The verdicts as a table."""
    lines = ["| figure | measured | must | aim | |", "|---|---|---|---|---|"]
    for row in verdicts(parts):
        sign = ">=" if row["least"] else "<="
        bars = f"{sign} {row['must']:g} {row['unit']} | {sign} {row['aim']:g}"
        if row["value"] is None:
            lines.append(f"| {row['text']} | not measured | {bars} | |")
        else:
            verdict = "aim met" if row["aim_met"] else "met" if row["met"] else "MISSED"
            lines.append(f"| {row['text']} | {row['value']:.4g} | {bars} | {verdict} |")
    return "\n".join(lines) + "\n"
