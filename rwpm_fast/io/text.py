"""Text of messages. Needs neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterable


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Join the first few names and count the others, as in "a, b and 3 more".

    Args:
        names: any number of names.
        limit: how many to write out.
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
