"""Names in messages, alone and in lists. Needs neither torch nor NumPy."""

from __future__ import annotations

import re
from collections.abc import Iterable


def first_few(names: Iterable[object], limit: int = 5) -> tuple[list[str], str]:
    """Split names into the first ones and a text for the rest.

    Args:
        names: what to list; each is shown by its ``str``.
        limit: how many to show.

    Returns:
        The first ``limit`` names, and "and N more" for the others; an empty text if there are none.
    """
    texts = [str(name) for name in names]
    rest = len(texts) - limit
    return texts[:limit], f"and {rest} more" if rest > 0 else ""


def listed(names: Iterable[object], limit: int = 5) -> str:
    """Join the first names by commas, with "and N more" at the end where there are more than ``limit``.

    Args:
        names: what to list; each is shown by its ``str``.
        limit: how many to show.
    """
    shown, rest = first_few(names, limit)
    return " ".join(filter(None, [", ".join(shown), rest]))


def printable(name: object) -> str:
    """Escape the control characters of a name, such as newlines, which would break its line or act on the terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda sign: repr(sign[0])[1:-1], str(name))


def printable_lines(text: object) -> str:
    """Escape control characters as :func:`printable` does, but keep the ends of lines."""
    return "\n".join(map(printable, str(text).split("\n")))
