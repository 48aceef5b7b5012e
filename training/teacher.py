"""What a teacher network says of photos, looked at in several sizes and lights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rwpm_fast.images import find_photos, read_photo
from rwpm_fast.networks import Network


@dataclass(frozen=True, eq=False)
class Lesson:
    """A picture and what to say of it.

    Attributes:
        picture: [3, H, W] uint8, sides multiples of 32.
        logits: [K, H / 8, W / 8] float16, a teacher's; or None.
        classes: [H / 8, W / 8] uint8, 255 for no class; or None.
    """

    picture: Tensor
    logits: Tensor | None = None
    classes: Tensor | None = None


def look(
    teacher: Network,
    folders: list[Path],
    *,
    sizes: tuple[float, ...] = (0.75, 0.5),
    largest: int = 1024,
    lights: int = 2,
    seed: int = 0,
    note: Callable[[str], None] = print,
) -> list[Lesson]:
    """Photos of folders as lessons: each in several sizes, as it is and in ``lights - 1`` other lights.

    Args:
        teacher: a network of stride 8.
        sizes: parts of a photo's size.
        largest: height or width of the largest side at size 1, pixels; larger photos are made smaller first.
    """
    rng = np.random.default_rng(seed)
    lessons = []
    photos = [photo for folder in folders for photo in find_photos([folder])]
    for number, path in enumerate(photos):
        photo = torch.from_numpy(read_photo(path)).permute(2, 0, 1)  # [3, H, W]
        whole = min(1.0, largest / max(photo.shape[1:]))
        for size in sizes:
            height, width = (max(32, round(side * whole * size / 32) * 32) for side in photo.shape[1:])
            small = F.interpolate(photo[None].float(), (height, width), mode="bilinear", antialias=True)[0]
            for light in range(lights):
                picture = (small if light == 0 else in_another_light(small, rng)).round().clamp(0, 255).byte()
                with torch.inference_mode():
                    logits = teacher(teacher.preprocess(picture[None]))[0]
                lessons.append(Lesson(picture, logits.half()))
        if number % 10 == 9:
            note(f"{number + 1} of {len(photos)} photos")
    return lessons


def in_another_light(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Other exposure, contrast, colour of light, blur and noise: [3, H, W] in 0..255."""
    gain = torch.tensor(rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3), dtype=torch.float32)[:, None, None]
    gamma = float(rng.uniform(0.7, 1.4))
    light = (picture / 255).clamp(0, 1) ** gamma * gain
    grey = light.mean(0, keepdim=True)
    light = grey + (light - grey) * float(rng.uniform(0.4, 1.4))
    if rng.random() < 0.3:
        light = F.avg_pool2d(light[None], 3, 1, 1, count_include_pad=False)[0]
    noise = torch.from_numpy(rng.standard_normal(light.shape).astype(np.float32)) * float(rng.uniform(0, 0.03))
    return (light + noise) * 255


def batches(
    lessons: list[Lesson], count: int, height: int, width: int, seed: int
) -> Iterator[tuple[Tensor, list[Lesson]]]:
    """Endless batches of ``count`` crops [3, height, width], mirrored half of the time, with what belongs to them."""
    rng = np.random.default_rng(seed)
    fit = [lesson for lesson in lessons if lesson.picture.shape[1] >= height and lesson.picture.shape[2] >= width]
    while True:
        crops = [_crop(fit[rng.integers(len(fit))], height, width, rng) for _ in range(count)]
        yield torch.stack([crop.picture for crop in crops]), crops


def _crop(lesson: Lesson, height: int, width: int, rng: np.random.Generator) -> Lesson:
    top, left = (
        8 * int(rng.integers((side - size) // 8 + 1))
        for side, size in zip(lesson.picture.shape[1:], (height, width), strict=True)
    )
    picture = lesson.picture[:, top : top + height, left : left + width]
    cells = (slice(top // 8, (top + height) // 8), slice(left // 8, (left + width) // 8))
    rest = [None if t is None else t[(..., *cells)] for t in (lesson.logits, lesson.classes)]
    if rng.random() < 0.5:
        picture, rest = picture.flip(-1), [None if t is None else t.flip(-1) for t in rest]
    return Lesson(picture, *rest)
