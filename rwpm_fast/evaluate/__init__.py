"""Metrics of networks on data sets, without and with the walk: single evaluations, sweeps, the published tables."""

from __future__ import annotations

from . import tables
from .processes import ALONE, Processes, launch, of_torchrun, started
from .sweep import Photo, Sweep, evaluate, sweep

__all__ = ["ALONE", "Photo", "Processes", "Sweep", "evaluate", "launch", "of_torchrun", "started", "sweep", "tables"]
