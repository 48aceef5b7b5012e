"""Load the compiled module that needs no torch, or find out why it cannot be used."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

_NEEDS = "needs g++ and Python's headers"


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return import_module("._native", __package__), None
    except ImportError as error:
        return None, f"{error}; {way_to_build('_native*.so', _NEEDS)}"


def way_to_build(file: str, needs: str) -> str:
    """Say how a compiled file that is missing here comes about, or where it is.

    Who stands in the source folder imports the source in place of the package that is installed, since that folder
    comes first on Python's path.

    Args:
        file: pattern of its name.
        needs: what its build needs, for the message.
    """
    here, build = Path(__file__).parent, f"pip install --no-build-isolation -e . ({needs})"
    for folder in map(Path, sys.path):
        other = folder / here.name
        if any(other.glob(file)) and not other.samefile(here):
            return (
                f"Python imports the source folder {here.parent} in place of the package installed in {folder}; "
                f"change to another folder, or build it in this one: {build}"
            )
    return f"build it with: {build}"


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
