"""Rendered scenes as lessons: what they show is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from rwpm_fast.scenes.render import paint_scene

from .samples import Lesson


def render(
    count: int,
    rng: np.random.Generator,
    size: tuple[int, int] = (384, 768),
    *,
    note: Callable[[str], None] = print,
) -> list[Lesson]:
    """Scenes with the class of every pixel; sides are multiples of 8."""
    lessons = []
    for number in range(count):
        photo, class_map = paint_scene(rng, size)
        picture = torch.from_numpy(photo).permute(2, 0, 1).contiguous()
        lessons.append(Lesson(picture, classes=torch.from_numpy(class_map)))
        if number % 20 == 19:
            note(f"{number + 1} of {count} scenes")
    return lessons
