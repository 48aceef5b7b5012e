"""Rendered scenes as lessons: what they show is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from rwpm_fast.demo.labels import EGO, UNKNOWN
from rwpm_fast.demo.world import paint_scene

from .teacher import Lesson


def render(
    count: int,
    rng: np.random.Generator,
    size: tuple[int, int] = (384, 768),
    *,
    note: Callable[[str], None] = print,
) -> list[Lesson]:
    """Scenes with the class in the middle of every 8 x 8 pixels."""
    lessons = []
    for number in range(count):
        photo, class_map = paint_scene(rng, size)
        picture = torch.from_numpy(photo).permute(2, 0, 1).contiguous()
        classes = class_map[4::8, 4::8]
        classes = np.where(classes == EGO, UNKNOWN, classes)  # neither is a class to learn
        lessons.append(Lesson(picture, classes=torch.from_numpy(classes)))
        if number % 20 == 19:
            note(f"{number + 1} of {count} scenes")
    return lessons
