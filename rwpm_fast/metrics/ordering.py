"""Scores in order, and how many of them lie above thresholds: compiled, but for float64, or else NumPy's."""

from __future__ import annotations

import numpy as np

from .. import native
from ..io.arrays import ascending, widened


def sorted_scores(scores: np.ndarray) -> np.ndarray:
    """Sort scores in a copy of their own type.

    Args:
        scores: [N] float16, float32 or float64, without NaN.
    """
    if scores.dtype != np.float64 and native.unsupported_reason() is None:
        return native.native().sort_scores(widened(scores)).astype(scores.dtype, copy=False)
    return ascending(scores)


def add_counts_above(scores: np.ndarray, thresholds: np.ndarray, at_or_above: np.ndarray, above: np.ndarray) -> None:
    """Add how many scores are at or above, and how many above each threshold.

    Args:
        scores: [N] floating point, ascending.
        thresholds: [K] float32 or float64, ascending.
        at_or_above: [K] int64 counts, which grow.
        above: [K] int64 counts, which grow.
    """
    scores = widened(scores)
    if scores.dtype == thresholds.dtype == np.float32 and native.unsupported_reason() is None:
        native.native().count_above(scores, thresholds, at_or_above, above)
        return
    at_or_above += len(scores) - np.searchsorted(scores, thresholds, side="left")
    above += len(scores) - np.searchsorted(scores, thresholds, side="right")
