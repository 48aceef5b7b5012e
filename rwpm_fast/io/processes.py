"""What processes that work together say when one of them goes away. Needs neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def together() -> Iterator[None]:
    """Do in a block what all processes do together, and nothing else.

    Raises:
        ConnectionError: the block failed, by RuntimeError, OSError or EOFError, which here means that another process
            is not there any more.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        reason = f" ({error})" if str(error) else ""
        raise ConnectionError(f"another process gave up or went away{reason}; its own message says why") from error
