"""The settings of a walk: defaults, checks and limits. Needs neither torch nor NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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


def is_anchored(anchor: float, anchor_share: float) -> bool:
    """Return whether pixels are neighbors of themselves; see :func:`check_anchor_settings`."""
    return anchor > -1 or anchor_share > 0


def check_anchor_settings(anchor: float, anchor_share: float) -> None:
    """Check the settings of the anchor.

    Args:
        anchor: cosine s0 of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels that s0 is chosen to anchor, in [0, 1]; 0: s0 is ``anchor``.

    Raises:
        TypeError: a setting is not a number.
        ValueError: ``anchor`` NaN, ``anchor_share`` outside [0, 1], or both given.
    """
    check_numbers(anchor=anchor, anchor_share=anchor_share)
    if anchor != anchor:  # NaN; torch.compile traces no math.isnan of a symbol
        raise ValueError("anchor: expected a cosine, or -1 for no anchor, got nan")
    if not 0 <= anchor_share <= 1:
        raise ValueError(f"anchor_share: expected a number in [0, 1], got {anchor_share}")
    if anchor > -1 and anchor_share > 0:
        raise ValueError(f"anchor_share: expected 0 with an anchor, got {anchor_share} and anchor {anchor}")


def check_settings(alpha: float, steps: int, temperature: float, tolerance: float = 0.0) -> None:
    """Check all scalar settings; see :func:`check_walk_settings` and :func:`check_graph_settings`."""
    check_walk_settings(alpha, steps)
    check_graph_settings(temperature, tolerance)


@dataclass(frozen=True)
class WalkSettings:
    """Settings of a walk, checked on construction. What is left out has the default of the operator.

    Attributes:
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk.
        parts: n of the paper: the map is cut into n x n sub-maps; 1: uncut.
        anchor: cosine s0 of a pixel with its own value; -1 or lower: no anchor, the published walk.
        anchor_share: share of the pixels that s0 is chosen to anchor, in [0, 1]; 0: s0 is ``anchor``.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a setting is out of its range.
    """

    alpha: float = 0.99
    steps: int = 20
    temperature: float = 0.01
    tolerance: float = 0.0
    parts: int = 1
    anchor: float = -1.0
    anchor_share: float = 0.0

    def __post_init__(self) -> None:
        check_settings(self.alpha, self.steps, self.temperature, self.tolerance)
        check_anchor_settings(self.anchor, self.anchor_share)
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
            "anchor": self.anchor,
            "anchor_share": self.anchor_share,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the settings for records, those of the anchor only if there is one."""
        names = ["alpha", "steps", "temperature", "parts", "tolerance"]
        if is_anchored(self.anchor, self.anchor_share):
            names += ["anchor", "anchor_share"]
        return {name: getattr(self, name) for name in names}

    def anchor_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments of :func:`rwpm_fast.ops.anchor.own_weights`."""
        return {"temperature": self.temperature, "anchor": self.anchor, "anchor_share": self.anchor_share}


# Of torch.ops.rwpm.walk, whose schema has them, of the same operator in ONNX, and of C: the exact walk.
OPERATOR_DEFAULTS = WalkSettings()

# Of Python's functions and modules, of commands and of evaluations. With this tolerance, DABNet's AP, AuROC and FPR95
# on RoadAnomaly are those of the exact walk to four digits, in a sixteenth of the time.
DEFAULTS = WalkSettings(tolerance=1e-4)


def command_settings(given: Mapping[str, Any], *, anchor_share: float = 0.0) -> WalkSettings:
    """Return the settings of a command or an evaluation.

    Args:
        given: settings by name; they replace the defaults. A given ``anchor`` takes the place of ``anchor_share``.
        anchor_share: the network's default.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a setting is out of its range.
    """
    share = 0.0 if "anchor" in given else anchor_share
    return replace(DEFAULTS, **{"anchor_share": share, **given})
