"""The error of an export that cannot be made, kept or run."""

from __future__ import annotations


class ExportError(ValueError):
    """An exported file cannot be made, kept or run; the message says in one line which, why, and what helps.

    Attributes:
        exit_status: with which a command ends that meets it.
    """

    exit_status = 1
