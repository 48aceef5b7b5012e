"""Leave classes out of what a head gives, such as a void class that no score should read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..io.text import listed
from .base import MaskLogits


def kept_classes(classes: Sequence[str], leave_out: Sequence[str | int]) -> list[int]:
    """Return the indices of the classes that stay.

    Args:
        classes: names of the K classes.
        leave_out: names, or indices from 0 or, counted from the end, from -1.

    Raises:
        ValueError: there is no such class, or none stays.
    """
    left_out = set()
    for wanted in leave_out:
        place = _place(classes, wanted)
        if place is None:
            raise ValueError(
                f"leave_out: expected names of classes or their numbers from 0 to {len(classes) - 1}, of "
                f"{listed(classes)}, got {wanted!r}"
            )
        left_out.add(place)
    kept = [place for place in range(len(classes)) if place not in left_out]
    if not kept:
        raise ValueError(f"leave_out: expected one class or more to stay, of {listed(classes)}, and none does")
    return kept


def _place(classes: Sequence[str], wanted: str | int) -> int | None:
    if wanted in classes:
        return list(classes).index(str(wanted))
    try:
        return range(len(classes))[int(wanted)]
    except (ValueError, IndexError):
        return None


def keep_classes(logits: Tensor | MaskLogits, kept: Sequence[int]) -> Tensor | MaskLogits:
    """Leave all classes but some out.

    Class logits lose the others' channels, so that probabilities are among those that stay. Queries of a mask head that
    are of another class count as void, so that the probabilities of those that stay do not change.

    Args:
        logits: class logits [B, K, h, w], or masks with class logits [B, Q, K + 1].
        kept: indices of the classes that stay, ascending.
    """
    if not isinstance(logits, MaskLogits):
        return logits[:, list(kept)]
    classes = logits.class_logits
    others = [place for place in range(classes.shape[-1]) if place not in kept]  # void, the last, is one of them
    void = classes[..., others].logsumexp(-1, keepdim=True)
    return logits._replace(class_logits=torch.cat([classes[..., list(kept)], void], dim=-1))
