"""What there is to learn from: pictures, and what to say of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Lesson:
    """A picture and what to say of it, by a teacher or by the truth.

    Attributes:
        picture: [3, H, W] uint8, sides multiples of 8.
        logits: [K, H / 8, W / 8] float16, a teacher's; or None.
        classes: [H, W] uint8, ``EGO`` for our own car and ``UNKNOWN`` for what no class is for; or None.
    """

    picture: Tensor
    logits: Tensor | None = None
    classes: Tensor | None = None
