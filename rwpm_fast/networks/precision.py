"""The precision of embedding maps and logits, whatever dtype a network runs in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Cast a tensor to float32, unless it is float32 or float64 already."""

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
