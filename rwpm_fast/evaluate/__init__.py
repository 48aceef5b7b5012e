"""Metrics of networks on data sets, without and with the walk: single evaluations, sweeps, the published tables."""

from __future__ import annotations

from . import published
from .distributed import ALONE, Processes, launch, of_torchrun, started
from .runner import Photo, Sweep, evaluate, sweep

__all__ = ["ALONE", "Photo", "Processes", "Sweep", "evaluate", "launch", "of_torchrun", "published", "started", "sweep"]
