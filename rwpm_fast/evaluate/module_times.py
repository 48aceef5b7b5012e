"""Table 5 of the SynBoost appendix: time of each module, of the full and the light chain."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import torch

from ..info import processor
from ..synboost.pipeline import Seconds
from .plain_table import Cell, PlainTable

# Milliseconds of the full and the light version.
PUBLISHED = {
    "segmentation": (1256.0, 47.0),
    "synthesis": (192.0, 62.0),
    "perceptual difference": (13.0, 13.0),
    "dissimilarity": (53.0, 53.0),
    "total": (1514.0, 175.0),
}
SOURCE = "Table 5, mean of 100 photos, GTX 1080 Ti; photos of 2048x1024, syntheses of 1024x512, the rest at 512x256"
NOTE = (
    "The total is that of the four modules above it, as published. The rows below it are in none of the paper's: the "
    "maps of the logits with the resizing of logits and photo, and the average of the maps with its resizing."
)


def module_milliseconds(seconds: Seconds) -> dict[str, float]:
    """Return the time of each row of the table, in milliseconds.

    The walk, where there is one, belongs to the segmentation.
    """
    rows = {
        "segmentation": seconds.network + seconds.walk,
        "synthesis": seconds.synthesis,
        "perceptual difference": seconds.perceptual,
        "dissimilarity": seconds.dissimilarity,
    }
    rows["total"] = sum(rows.values())
    rows |= {"entropy and distance": seconds.uncertainty, "ensemble": seconds.ensemble, "whole chain": sum(seconds)}
    return {name: 1000 * value for name, value in rows.items()}


def times_table(measured: Mapping[str, Sequence[Seconds]]) -> PlainTable:
    """Make the table of measured times.

    Args:
        measured: "full" and "light", or one of the two, to the seconds of each run; see
            :func:`rwpm_fast.synboost.timing.measure_chains`.

    Returns:
        Mean and standard deviation in milliseconds; of a single run there is no deviation.

    Raises:
        ValueError: another chain, or one without a run.

    Example:
        >>> print(times_table(measure_chains({"light": chain}, photo)).markdown())
    """
    if unknown := [name for name in measured if name not in ("full", "light")]:
        raise ValueError(f"measured: expected full and light, got {unknown[0]!r}")
    if empty := [name for name, runs in measured.items() if not runs]:
        raise ValueError(f"measured: expected one run or more, got none of {empty[0]}")
    header = ["module", *(f"{name}, {what}" for name in measured for what in ("mean ms", "std ms"))]
    header += [f"published {name}, ms" for name in measured]
    columns = {name: list(map(module_milliseconds, runs)) for name, runs in measured.items()}
    rows: list[list[Cell]] = []
    for module in module_milliseconds(Seconds(*[0.0] * len(Seconds._fields))):
        row: list[Cell] = [module]
        for runs in columns.values():
            times = [run[module] for run in runs]
            row += [statistics.mean(times), statistics.stdev(times) if len(times) > 1 else None]
        published = dict(zip(("full", "light"), PUBLISHED.get(module, (None, None)), strict=True))
        rows.append([*row, *(published[name] for name in measured)])
    title = "Table 5: time of the modules of SynBoost, one photo at a time"
    return PlainTable(title, header, rows, 1, SOURCE, [NOTE])


def machine_note(device: torch.device, runs: int, warmup: int) -> str:
    """Say in two sentences where and how times were measured, and of which weights."""
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{processor()}, {torch.get_num_threads()} threads"
    rounds = f"{runs} timed run{'s' if runs > 1 else ''} after {warmup} of warm-up"
    return (
        f"{machine}, torch {torch.__version__}: {rounds}, chains in turn, each module synchronized. Weights are "
        "random, which take as long as trained ones; the light chain has the package's own networks, whose perceptual "
        "difference is of the segmentation network in place of VGG19."
    )
