"""Walks that will take minutes say so before they begin, and on a terminal how far they are."""

from __future__ import annotations

import sys
import time
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.estimate import estimate_walk
from ..ops.maps import Walk
from ..scoring.scorer import Scorer

SLOW = 60.0  # seconds
TICK = 5.0  # seconds from line to line


def announce_slow_walks(scorer: Scorer) -> None:
    """Let the walk of a scorer announce itself on standard error where it takes more than :data:`SLOW` seconds."""
    if isinstance(scorer.walk, Walk):
        announcer = _Announcer()
        scorer.walk.register_forward_pre_hook(announcer.begin, with_kwargs=True)
        scorer.walk.register_forward_hook(announcer.end, always_call=True)


class _Announcer:
    """Hooks of a walk."""

    def __init__(self) -> None:
        self._told: set[tuple[int, int]] = set()
        self._done: Event | None = None

    def begin(self, walk: Walk, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():  # sizes are symbols, which an estimate would fix
            return
        embedding_map: Tensor = args[0]
        values = kwargs.get("value_map")
        height, width = size = (embedding_map.shape[-2], embedding_map.shape[-1])
        channels = [map_.shape[-3] for map_ in (embedding_map, embedding_map if values is None else values)]
        estimates = estimate_walk(size, channels[0], channels[1], walk.settings, embedding_map.device)
        least, most = (estimate.seconds for estimate in estimates)
        if least > SLOW and size not in self._told:
            self._told.add(size)
            way_out = "--parts 2 is faster" if walk.settings.tolerance else "--tolerance 1e-4 or --parts 2 is faster"
            upto = f", up to {_minutes(most)} where the graph is not sparse" if most > least else ""
            what = f"the walk of {width}x{height} = {height * width} pixels"
            print(f"{what} takes about {_minutes(least)}{upto}; {way_out}", file=sys.stderr)
        if most > SLOW and sys.stderr.isatty():
            self._done = Event()
            Thread(target=_tick, args=(self._done, most), daemon=True).start()

    def end(self, _walk: nn.Module, _args: Any, _output: Any) -> None:
        if self._done is not None:
            self._done.set()
            self._done = None


def _tick(done: Event, most: float) -> None:
    begin = time.monotonic()
    while not done.wait(TICK):
        print(f"walk: {_minutes(time.monotonic() - begin)} of at most about {_minutes(most)}", file=sys.stderr)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
