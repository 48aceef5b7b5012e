"""Why a photo could not be used, in words, while errors that are not the photo's go on."""

from __future__ import annotations

from pathlib import Path

from ..io.images import ImageError, read_header
from ..memory import is_out_of_memory


def photo_failure(error: Exception, photo: Path, *, kinds: tuple[type[Exception], ...] = (ValueError,)) -> str:
    """Say why a photo could not be used; called while the error is handled, and keeps nothing of it.

    Args:
        error: what its scoring raised.
        photo: the photo.
        kinds: errors that are the photo's, beside those of memory.

    Returns:
        The message of the error, or the size of a photo that memory did not suffice for.

    Raises:
        Exception: ``error``, if it is not the photo's.
    """
    if is_out_of_memory(error):
        return f"out of memory{_of_size(photo)}; make it smaller, or run where a process may take more"
    if isinstance(error, kinds):
        return str(error)
    raise error


def _of_size(photo: Path) -> str:
    try:
        height, width = read_header(photo).upright_size
    except (ImageError, MemoryError):
        return ""
    return f" on {width}x{height} pixels"
