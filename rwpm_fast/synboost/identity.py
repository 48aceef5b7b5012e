"""Describe parts of the chain, so that results and examples of different parts can be told apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..networks.digest import weights_digest


def part_identity(part: Any) -> dict[str, Any] | None:
    """Describe a part of the chain: its class, its simple settings, what it draws its noise from, and its weights.

    Args:
        part: a network, a synthesis or a walk, such as of :class:`rwpm_fast.synboost.SynBoost`; None for none.

    Returns:
        JSON-ready; equal for parts that compute the same. None for no part.

    Example:
        >>> part_identity(pipeline.synthesis)["class"]
        'LightSynthesis'
    """
    if part is None:
        return None
    # The size may be a property, of a network within.
    values = {**getattr(part, "__dict__", {}), "size": getattr(part, "size", None)}
    settings = {
        name: repr(value)
        for name, value in sorted(values.items())
        if name != "training" and isinstance(value, (str, bool, int, float, tuple))
    }
    settings |= {
        name: f"generator with seed {value.initial_seed()}"
        for name, value in sorted(values.items())
        if isinstance(value, torch.Generator)
    }
    weights = {"weights": weights_digest(part)} if isinstance(part, nn.Module) else {}
    return {"class": type(part).__qualname__, "settings": settings, **weights}
