"""The error of an export that cannot be made, kept or run."""

from __future__ import annotations

import re


class ExportError(ValueError):
    """An exported file cannot be made, kept or run; the message says in one line which, why, and what helps.

    Attributes:
        exit_status: with which a command ends that meets it.
    """

    exit_status = 1


def reason_of(error: BaseException) -> str:
    """What a compiler or exporter says of a failure, in one line: that of its first cause, without colors."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    # A C++ compiler's words stand below its command.
    return next((line for line in lines if "error: " in line), lines[0] if lines else type(error).__name__)
