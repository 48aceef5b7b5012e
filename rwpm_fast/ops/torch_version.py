"""Which torch this is, against the oldest that a part needs."""

from __future__ import annotations

import torch

OLDEST_STABLE_ABI = (2, 11)  # the compiled operators
OLDEST_TRITON_OP = (2, 6)  # torch.library.triton_op


def too_old(oldest: tuple[int, int]) -> str | None:
    """Why this torch does not do where ``oldest`` (major, minor) or later is needed; None when it does."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version >= oldest:
        return None
    return f"it needs torch >= {'.'.join(map(str, oldest))}, this is torch {torch.__version__}; upgrade torch"
