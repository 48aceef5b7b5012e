"""Checks of numbers that users give, for all settings. Needs neither torch nor NumPy."""

from __future__ import annotations

import sys
from numbers import Integral, Rational, Real

MAX_INTEGER = 2**63 - 1


def check_numbers(**settings: float) -> None:
    """Check that settings are numbers that a float can hold.

    Raises:
        TypeError: a setting is not a number.
        ValueError: a setting is beyond the range of a float.
    """
    for name, value in settings.items():
        if not isinstance(value, Real):
            raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
        if isinstance(value, Rational) and abs(value) > sys.float_info.max:
            raise ValueError(f"{name}: expected a number within the range of a float, got one beyond it")


def check_integers(**settings: int) -> None:
    """Check that settings are integers of 64 bits, which the operators take.

    Raises:
        TypeError: a setting is not an integer.
        ValueError: a setting has more than 64 bits.
    """
    for name, value in settings.items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError(f"{name}: expected an integer of at most 64 bits, got one beyond")
