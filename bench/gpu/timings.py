"""Rounds of the FPS benchmark, the ones whose figures must hold first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rwpm_fast.benchmark import UNITS, Case, Limits, Record, chosen, compare, fps_entries, markdown

from .context import Context, Skipped, note

TOLERANCES = [1e-3, 4e-4, 1e-4]
RWPM = (184, 320)
OURS = ("exact-*", "tolerance-*")
FILTERED = ("tolerance-*",)

Frames = Callable[[Context], list[Case]]


def rounds(
    context: Context, frames: Frames, patterns: tuple[str, ...], turns: int = 3, seconds: float = 20.0
) -> dict[str, Any]:
    """One record of contenders on frames."""
    device = context.open_device()
    limits = Limits(
        seconds=seconds,
        memory=device.free_memory(),
        rounds=1 if context.dry else turns,
        measure_memory=device.is_cuda,  # a processor's takes another process for each
    )
    if context.dry:
        patterns = tuple(p for p in patterns if not p.startswith("flex"))  # compiled on a processor for many seconds
    compared = []
    for frame in frames(context):
        entrants = fps_entries(frame, TOLERANCES[:1] if context.dry else TOLERANCES)
        keys = [p for p in patterns if any(chosen_quietly(entrants, p))]
        entrants = [c for c in chosen(entrants, keys) if not c.key.endswith("-cpu")]
        how = {"device": device, "unit": UNITS["fps"], "cache": context.work / "references", "note": note}
        compared.append(compare(frame, entrants, limits, **how))
    facts = {"machine": device.facts(), **limits.to_json(), "cases": tuple(compared), "kind": "fps"}
    made = Record(command="python -m bench.gpu", **facts)
    note(markdown(made))
    return {"record": made.to_json(), "tables": markdown(made)}


def chosen_quietly(entrants: list, pattern: str) -> list:
    """Choose as :func:`chosen` does, but nothing by a pattern that matches nothing: a backend that is missing."""
    try:
        return chosen(entrants, [pattern])
    except ValueError:
        return []


def synthetic(height: int, width: int, **settings) -> Frames:
    """One synthetic frame."""
    return lambda context: [context.frame(height, width, **settings)]


def real(number: int, **settings) -> Frames:
    """A frame of the given file of real embeddings, enlarged to the size of the paper's map."""

    def frames(context: Context) -> list[Case]:
        if number >= len(context.embeddings):
            raise Skipped(f"--embeddings: expected {number + 1} files or more, got {len(context.embeddings)}")
        source = context.embeddings[number]
        return [context.real_frame(source, *RWPM, value_channels=channels, **settings) for channels in (256, 100, 19)]

    return frames


PEERS = ("dense-released", "dense-tuned", "knn-*", "flex")

# Name -> what is run. Names are those of the tasks, by which :mod:`bench.gpu.targets` finds their results.
TIMINGS: dict[str, Callable[[Context], dict[str, Any]]] = {
    "uncut-256": partial(rounds, frames=synthetic(*RWPM, value_channels=256), patterns=OURS),
    "half-256": partial(rounds, frames=synthetic(*RWPM, value_channels=256, parts=2), patterns=(*OURS, *PEERS)),
    "real-0": partial(rounds, frames=real(0), patterns=FILTERED),
    "uncut-100": partial(rounds, frames=synthetic(*RWPM, value_channels=100), patterns=FILTERED),
    "uncut-19": partial(rounds, frames=synthetic(*RWPM, value_channels=19), patterns=OURS),
    "uncut-flex": partial(rounds, frames=synthetic(*RWPM, value_channels=256), patterns=("exact-*", "flex")),
    "deeplab": partial(rounds, frames=synthetic(512, 1024, value_channels=19, steps=5), patterns=OURS, turns=2),
    "real-1": partial(rounds, frames=real(1), patterns=FILTERED),
    "uncut-256-float32": partial(
        rounds,
        frames=synthetic(*RWPM, value_channels=256, dtype="float32"),
        patterns=("exact-*", "tolerance-0.001-*"),
        turns=2,
    ),
    "uncut-peers": partial(
        rounds, frames=synthetic(*RWPM, value_channels=256), patterns=("dense-*", "chunked", "knn-torch"), turns=2
    ),
    "quarter-256": partial(rounds, frames=synthetic(*RWPM, value_channels=256, parts=4), patterns=(*OURS, *PEERS)),
    "eighth-256": partial(rounds, frames=synthetic(*RWPM, value_channels=256, parts=8), patterns=(*OURS, *PEERS)),
    "large-256": partial(rounds, frames=synthetic(256, 512, value_channels=256, steps=5), patterns=FILTERED, turns=2),
    "half-256-float32": partial(
        rounds, frames=synthetic(*RWPM, value_channels=256, parts=2, dtype="float32"), patterns=(*OURS, *PEERS), turns=2
    ),
    "flex-autotuned": partial(
        rounds, frames=synthetic(*RWPM, value_channels=256), patterns=("exact-*", "flex-autotuned")
    ),
}
