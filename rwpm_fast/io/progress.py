"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def progress(items: Iterable, what: str) -> Iterable:
    """Wrap items in a progress bar if standard error is a terminal.

    Args:
        items: what to iterate over.
        what: name of the work, in front of the bar.
    """
    from tqdm import tqdm

    return tqdm(items, desc=what, unit="photo", disable=not sys.stderr.isatty(), leave=False)
