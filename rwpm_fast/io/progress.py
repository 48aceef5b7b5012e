"""Progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def progress(items: Iterable, what: str) -> Iterable:
    """A progress bar when someone watches a terminal, nothing otherwise."""
    from tqdm import tqdm

    return tqdm(items, desc=what, unit="photo", disable=not sys.stderr.isatty(), leave=False)


def say(text: str) -> None:
    """A line that does not tear a progress bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
