"""Load the compiled module that needs no torch, or find out why it cannot be used."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import ModuleType


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return import_module("._native", __package__), None
    except ImportError as error:
        return None, f"{error}; build it with: pip install --no-build-isolation -e . (needs g++ and Python's headers)"


def unsupported_reason() -> str | None:
    """Say why the compiled module cannot be used, and what helps; None if it can."""
    return _load()[1]


def native() -> ModuleType:
    """Return the compiled module ``rwpm_fast._native``.

    Raises:
        RuntimeError: the module is not built for this Python; the message says how to build it.
    """
    module, reason = _load()
    if module is None:
        raise RuntimeError(f"rwpm_fast._native is out of use: {reason}")
    return module


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
