"""Metrics of networks on data sets, without and with the walk: single evaluations, sweeps, the published tables.

:func:`run` evaluates an :class:`EvaluationConfig`, as ``rwpm-fast evaluate`` does; :func:`evaluate` and :func:`sweep`
take scorers and frames, :func:`evaluate_scores` score maps of any method, :func:`measure_temporal` scorers and
sequences. :func:`draw_photos` shows what a result is made of. Tables of SynBoost's appendix that are not of such
results are :func:`times_table` and :func:`ensemble_table`.
"""

from __future__ import annotations

from . import published
from .config import ConfigError, EvaluationConfig
from .distributed import SINGLE_PROCESS, Processes, from_environment, launch, started
from .ensemble_table import ensemble_table
from .evaluation import evaluate_scores, run, run_plan
from .module_times import times_table
from .photo_figure import draw_photos
from .plain_table import PlainTable
from .plan import Experiment, Plan, make_plan
from .results import EvaluationResult, ResultRow
from .runner import ImageResult, Sweep, evaluate, sweep
from .temporal import FrameSequence, SequenceFrame, TemporalRow, drive_sequence, measure_temporal, photo_sequence

__all__ = [
    "SINGLE_PROCESS",
    "ConfigError",
    "EvaluationConfig",
    "EvaluationResult",
    "Experiment",
    "FrameSequence",
    "ImageResult",
    "PlainTable",
    "Plan",
    "Processes",
    "ResultRow",
    "SequenceFrame",
    "Sweep",
    "TemporalRow",
    "draw_photos",
    "drive_sequence",
    "ensemble_table",
    "evaluate",
    "evaluate_scores",
    "from_environment",
    "launch",
    "make_plan",
    "measure_temporal",
    "photo_sequence",
    "published",
    "run",
    "run_plan",
    "started",
    "sweep",
    "times_table",
]
