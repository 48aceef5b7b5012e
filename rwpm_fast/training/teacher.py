"""What a teacher network says of photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from rwpm_fast.io.images import find_images, read_image
from rwpm_fast.networks import Network

from .samples import Lesson


def look(teacher: Network, folders: list[Path], *, note: Callable[[str], None] = print) -> list[Lesson]:
    """Photos of folders in their own size, with what a teacher of stride 8 says of them."""
    lessons = []
    photos = [photo for folder in folders for photo in find_images([folder])]
    for number, path in enumerate(photos):
        photo = torch.from_numpy(read_image(path)).permute(2, 0, 1)  # [3, H, W]
        height, width = (side // 8 * 8 for side in photo.shape[1:])
        picture = photo[:, :height, :width].contiguous()
        with torch.inference_mode():
            logits = teacher(teacher.preprocess(picture[None]))[0]
        lessons.append(Lesson(picture, logits=logits.half()))
        if number % 10 == 9:
            note(f"{number + 1} of {len(photos)} photos")
    return lessons
