"""Frames a second of the walk on the paper's maps, on any torch device, beside what one would run there instead.

``frames`` (what is walked) -> ``truth`` (its float64) -> ``device`` (time and memory there) -> ``walker`` (a contender)
and ``estimates`` (what each takes) -> ``own``, ``dense``, ``nearest`` (how they walk) -> ``walks`` (all of them); the
rounds are :func:`rwpm_fast.benchmark.compare`'s.
"""

from __future__ import annotations

from typing import Any

from .. import record as record_of_cases
from ..runner import Limits
from .device import Captured, Device
from .frames import DTYPES, PAPER, PAPER_STEPS, Frame, paper_frames
from .published import SOURCE, published
from .table import markdown
from .walks import Walker, ours, peers, walkers

__all__ = [
    "DTYPES",
    "KIND",
    "PAPER",
    "PAPER_STEPS",
    "SOURCE",
    "Captured",
    "Device",
    "Frame",
    "Walker",
    "markdown",
    "ours",
    "paper_frames",
    "peers",
    "published",
    "record",
    "walkers",
]

KIND = "fps"


def record(
    cases: list[dict[str, Any]], command: str, limits: Limits, device: Device, network_ms: float = 0.0
) -> dict[str, Any]:
    """What :func:`rwpm_fast.benchmark.compare` gave for frames on a device, for JSON.

    Args:
        network_ms: time of a network before the walk, 0 for none: tables add it.
    """
    made = record_of_cases(cases, command, limits)
    return made | {"kind": KIND, "machine": device.facts(), "network_ms": network_ms}
