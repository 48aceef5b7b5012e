"""Progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def progress(items: Iterable, what: str) -> Iterable:
    """Iterate with a progress bar if standard error is a terminal.

    Args:
        items: what to iterate over, photos.
        what: label of the bar.
    """
    from tqdm import tqdm

    return tqdm(items, desc=what, unit="photo", disable=not sys.stderr.isatty(), leave=False)


def say(text: str) -> None:
    """Print a line to standard output above any progress bar."""

    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
