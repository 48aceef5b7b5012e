"""Progress bars on a terminal, and lines above them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec


def progress(items: Iterable, what: str, unit: str = "photo") -> Iterable:
    """Wrap items in a progress bar if standard error is a terminal and tqdm is installed.

    Args:
        items: what to iterate over.
        what: name of the work, in front of the bar.
        unit: what an item is called.
    """
    if not sys.stderr.isatty() or find_spec("tqdm") is None:
        return items
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=unit, leave=False)


def print_above(text: str) -> None:
    """Print a line to standard output, above the progress bar if one is shown."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stdout)
    else:
        print(text)
