"""The torch-free compiled module, or why it is not there."""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        from . import _native
    except ImportError as error:
        return None, f"{error}; build it with: pip install --no-build-isolation -e . (needs g++ and Python's headers)"
    return _native, None


def unsupported_reason() -> str | None:
    """Why the module cannot be used, with the way out; None when it can."""
    return _load()[1]


def native() -> ModuleType:
    """The compiled module ``rwpm_fast._native``.

    Raises:
        RuntimeError: it is not built for this Python; the message says how to build it.
    """
    module, reason = _load()
    if module is None:
        raise RuntimeError(f"rwpm_fast._native is out of use: {reason}")
    return module


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
