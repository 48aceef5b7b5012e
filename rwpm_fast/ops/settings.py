"""The settings of a walk: defaults, checks and limits. Needs neither torch nor NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..checks import check_integers, check_numbers

# Limits of the factor on cosines. Beyond them no weight changes, and float32 would overflow or multiply infinity by 0.
MAX_SCALE, MIN_SCALE = 1e30, 1e-30


def cosine_scale(temperature: float) -> float:
    """Compute the factor that turns cosines into logits: 1 / temperature, within its limits.

    Args:
        temperature: softmax temperature tau > 0.
    """
    return min(max(1 / temperature, MIN_SCALE), MAX_SCALE)


def check_graph_settings(temperature: float, tolerance: float = 0.0) -> None:
    """Check the settings of a graph.

    Args:
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1).

    Raises:
        TypeError: a setting is not a number.
        ValueError: ``temperature`` not positive and finite, ``tolerance`` outside [0, 1).
    """
    check_numbers(temperature=temperature, tolerance=tolerance)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a positive finite number, got {temperature}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: expected a number in [0, 1), got {tolerance}")


def check_walk_settings(alpha: float, steps: int) -> None:
    """Check the settings of a walk on a graph.

    Args:
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.

    Raises:
        TypeError: ``alpha`` is not a number, or ``steps`` not an integer.
        ValueError: ``alpha`` outside [0, 1], ``steps`` < 0.
    """
    check_numbers(alpha=alpha)
    check_integers(steps=steps)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], got {alpha}")
    if steps < 0:
        raise ValueError(f"steps: expected 0 or more transitions, got {steps}")


def check_settings(alpha: float, steps: int, temperature: float, tolerance: float = 0.0) -> None:
    """Check all scalar settings; see :func:`check_walk_settings` and :func:`check_graph_settings`."""
    check_walk_settings(alpha, steps)
    check_graph_settings(temperature, tolerance)


@dataclass(frozen=True)
class WalkSettings:
    """Settings of a walk, checked on construction.

    Attributes:
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk.
        parts: n of the paper: the map is cut into n x n sub-maps; 1: uncut.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a setting is out of its range.
    """

    alpha: float = 0.99
    steps: int = 20
    temperature: float = 0.01
    tolerance: float = 0.0
    parts: int = 1

    def __post_init__(self) -> None:
        check_settings(self.alpha, self.steps, self.temperature, self.tolerance)
        check_integers(parts=self.parts)
        if self.parts < 1:
            raise ValueError(f"parts: expected 1 or more, got {self.parts}")

    def operator_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments of ``torch.ops.rwpm.walk``: all settings but ``parts``."""
        return {
            "alpha": self.alpha,
            "steps": self.steps,
            "temperature": self.temperature,
            "tolerance": self.tolerance,
        }


DEFAULTS = WalkSettings()

# Of commands and evaluations. With this tolerance, DABNet's AP, AuROC and FPR95 on RoadAnomaly are those of the exact
# walk to four digits, in a sixteenth of the time.
COMMAND_DEFAULTS = WalkSettings(tolerance=1e-4)
