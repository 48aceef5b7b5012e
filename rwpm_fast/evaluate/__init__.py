"""Metrics of networks on data sets, without and with the walk: single evaluations, sweeps, the published tables.

:func:`run` evaluates an :class:`EvaluationConfig`, as ``rwpm-fast evaluate`` does; :func:`evaluate` and :func:`sweep`
take scorers and frames.
"""

from __future__ import annotations

from . import published
from .config import ConfigError, EvaluationConfig
from .distributed import SINGLE_PROCESS, Processes, from_environment, launch, started
from .evaluation import run, run_plan
from .plan import Experiment, Plan, make_plan
from .results import EvaluationResult, ResultRow
from .runner import ImageResult, Sweep, evaluate, sweep

__all__ = [
    "SINGLE_PROCESS",
    "ConfigError",
    "EvaluationConfig",
    "EvaluationResult",
    "Experiment",
    "ImageResult",
    "Plan",
    "Processes",
    "ResultRow",
    "Sweep",
    "evaluate",
    "from_environment",
    "launch",
    "make_plan",
    "published",
    "run",
    "run_plan",
    "started",
    "sweep",
]
