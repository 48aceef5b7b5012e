"""Argument checks shared by every door into the walk.

A message names the argument, what was wanted, what came and, where there is one, the way out. Nothing here imports
torch or NumPy: the checks read ``shape`` only, so one text serves tensors and arrays.
"""

from __future__ import annotations

import math
from numbers import Integral, Real


def check_graph_settings(temperature: float, tolerance: float = 0.0) -> None:
    """Check what a graph is made with.

    Raises:
        TypeError: a setting is not a number.
        ValueError: ``temperature`` not positive and finite, ``tolerance`` outside [0, 1).
    """
    _check_numbers(temperature=temperature, tolerance=tolerance)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a positive finite number, got {temperature}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: expected a number in [0, 1), got {tolerance}")


def check_walk_settings(alpha: float, steps: int) -> None:
    """Check how a graph is walked.

    Raises:
        TypeError: ``alpha`` is not a number, or ``steps`` not an integer.
        ValueError: ``alpha`` outside [0, 1], ``steps`` < 0.
    """
    _check_numbers(alpha=alpha)
    if not isinstance(steps, Integral):
        raise TypeError(f"steps: expected an integer, got {type(steps).__name__}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")
    if steps < 0:
        raise ValueError(f"steps: expected 0 or more transitions, got {steps}")


def check_settings(alpha: float, steps: int, temperature: float, tolerance: float = 0.0) -> None:
    """Check the scalar settings of a walk: both of the above."""
    check_walk_settings(alpha, steps)
    check_graph_settings(temperature, tolerance)


def _check_numbers(**settings: float) -> None:
    for name, value in settings.items():
        if not isinstance(value, Real):
            raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def check_shapes(embeddings, values=None, mask=None) -> None:
    """Check that embeddings [N, D] or [B, N, D], values [.., N, C] and mask [.., N] belong together.

    Raises:
        ValueError: wrong rank, or sizes that disagree.
    """
    shape = tuple(embeddings.shape)
    if len(shape) not in (2, 3):
        raise ValueError(f"embeddings: expected shape [N, D] or [B, N, D], got {list(shape)}")
    pixels = shape[:-1]
    if values is not None and (len(values.shape) != len(shape) or tuple(values.shape[:-1]) != pixels):
        raise ValueError(
            f"values: expected shape [{_listed(pixels)}, C] to match embeddings {list(shape)}, got {list(values.shape)}"
        )
    if mask is not None and tuple(mask.shape) != pixels:
        raise ValueError(
            f"mask: expected shape [{_listed(pixels)}] to match embeddings {list(shape)}, got {list(mask.shape)}"
        )


def _listed(sizes) -> str:
    return ", ".join(map(str, sizes))
