"""The version of torch, and the oldest ones that parts of the package need."""

from __future__ import annotations

import torch

OLDEST_STABLE_ABI = (2, 11)  # the compiled operators
OLDEST_TRITON_OP = (2, 6)  # torch.library.triton_op


def too_old(oldest: tuple[int, int]) -> str | None:
    """Say that this torch is too old, with what helps; None if it is not.

    Args:
        oldest: major and minor version that is needed.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version >= oldest:
        return None
    return f"it needs torch >= {'.'.join(map(str, oldest))}, this is torch {torch.__version__}; upgrade torch"
