"""Training samples: photos with the logits of a teacher, and rendered scenes with their true classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..io.images import read_image
from ..networks import Network
from ..scenes import render_scene


@dataclass(frozen=True, eq=False)
class PhotoSample:
    """A photo without labels, and what a teacher says about it.

    Attributes:
        image: [3, H, W] uint8, sides multiples of 8.
        logits: [K, H / 8, W / 8] float16, those of the teacher.
    """

    image: Tensor
    logits: Tensor


@dataclass(frozen=True, eq=False)
class SceneSample:
    """A rendered scene and its true classes.

    Attributes:
        image: [3, H, W] uint8, sides multiples of 8.
        class_map: [H, W] uint8, Cityscapes train ids, ``UNKNOWN`` (255) on objects of no class and ``EGO`` (254) on the
            hood of the ego vehicle.
    """

    image: Tensor
    class_map: Tensor


Sample: TypeAlias = PhotoSample | SceneSample


def teacher_logits(teacher: Network, image: Tensor) -> Tensor:
    """Return a teacher's logits [K, H / 8, W / 8] float16 of an image.

    Args:
        teacher: network of stride 8, in evaluation mode.
        image: [3, H, W] uint8, sides multiples of 8.
    """
    with torch.inference_mode():
        return teacher(teacher.preprocess(image[None]))[0].half()


def photo_sample(teacher: Network, path: Path) -> PhotoSample:
    """Make a sample of a photo, in its own size, cropped to multiples of 8 pixels.

    Args:
        teacher: network of stride 8, in evaluation mode.
        path: of the photo.

    Raises:
        ImageError: the photo cannot be read.
    """
    photo = torch.from_numpy(read_image(path, upright=True)).permute(2, 0, 1)  # [3, H, W]
    height, width = (side // 8 * 8 for side in photo.shape[1:])
    image = photo[:, :height, :width].contiguous()
    return PhotoSample(image, teacher_logits(teacher, image))


def scene_sample(rng: np.random.Generator, size: tuple[int, int] = (384, 768)) -> SceneSample:
    """Render a scene with the class of every pixel.

    Args:
        rng: source of the scene.
        size: (height, width) in pixels, multiples of 8, each 16 or more.
    """
    photo, class_map = render_scene(rng, size)
    image = torch.from_numpy(photo).permute(2, 0, 1).contiguous()
    return SceneSample(image, torch.from_numpy(class_map))
