"""Lessons as a network sees them in training: pieces in other sizes and lights, with strangers pasted in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rwpm_fast.scenes.labels import EGO, UNKNOWN

from .outliers import Cutout, cutouts, paste
from .photometric import in_another_light
from .samples import Lesson

PHOTOS = 0.7  # share of the views
STRANGERS = 0.6  # of those of photos
SMOOTHING = 0.05  # of the truth of rendered scenes
# The longer side of the picture that a view is a piece of: what the network is shown later is at most 832 pixels.
SIZES = {"photo": (520, 1150), "scene": (600, 1000)}


@dataclass(frozen=True, eq=False)
class View:
    """A view, or a batch of them, [B, ...] each.

    Attributes:
        picture: [3, H, W] uint8.
        target: [K, H / 8, W / 8] log-probabilities.
        evidence: [H / 8, W / 8] log-sum-exp of a teacher's logits, NaN where none spoke.
        known: [H / 8, W / 8] bool, cells to learn a class of.
        unknown: [H / 8, W / 8] bool, cells of what no class is for; those between are neither.
    """

    picture: Tensor
    target: Tensor
    evidence: Tensor
    known: Tensor
    unknown: Tensor

    @classmethod
    def batch(cls, views: Sequence[View]) -> View:
        """Several as one."""
        return cls(*(torch.stack(parts) for parts in zip(*(vars(view).values() for view in views), strict=True)))


def batches(lessons: Sequence[Lesson], count: int, height: int, width: int, classes: int, seed: int) -> Iterator[View]:
    """Endless batches of ``count`` views of height x width, multiples of 8, for so many classes."""
    rng = np.random.default_rng(seed)
    photos = [lesson for lesson in lessons if lesson.logits is not None]
    scenes = [lesson for lesson in lessons if lesson.classes is not None]
    things = cutouts(scenes)
    while True:
        views = []
        for _ in range(count):
            if photos and (not scenes or rng.random() < PHOTOS):
                view = _of_photo(photos[rng.integers(len(photos))], height, width, rng, things, photos)
            else:
                view = _of_scene(scenes[rng.integers(len(scenes))], height, width, rng, classes)
            views.append(_mirrored(view) if rng.random() < 0.5 else view)
        yield View.batch(views)


def _of_photo(
    lesson: Lesson,
    height: int,
    width: int,
    rng: np.random.Generator,
    things: Sequence[Cutout],
    photos: Sequence[Lesson],
) -> View:
    picture, box = _piece(lesson.picture, height, width, SIZES["photo"], rng)
    cells = (slice(None), *(slice(side.start // 8, side.stop // 8) for side in box))
    logits = F.interpolate(lesson.logits[cells][None].float(), (height // 8, width // 8), mode="bilinear")[0]
    shapes = torch.zeros(height, width)
    if rng.random() < STRANGERS:
        picture, shapes = paste(picture, rng, things, photos)
    known, unknown = _apart(shapes)
    return View(_seen(picture, rng), logits.log_softmax(0), logits.logsumexp(0), known, unknown)


def _of_scene(lesson: Lesson, height: int, width: int, rng: np.random.Generator, classes: int) -> View:
    picture, box = _piece(lesson.picture, height, width, SIZES["scene"], rng)
    truth = F.interpolate(lesson.classes[box][None, None].float(), (height, width), mode="nearest")[0, 0]
    known, unknown = _apart((truth == UNKNOWN).float())
    named = truth[4::8, 4::8].long()
    target = torch.full((classes, *named.shape), SMOOTHING / (classes - 1))
    target.scatter_(0, named.clamp(max=classes - 1)[None], 1 - SMOOTHING)
    evidence = torch.full(named.shape, math.nan)
    return View(_seen(picture, rng), target.log(), evidence, known & (named != EGO), unknown & (named != EGO))


def _piece(
    picture: Tensor, height: int, width: int, sizes: tuple[int, int], rng: np.random.Generator
) -> tuple[Tensor, tuple[slice, slice]]:
    """A piece of a picture, [3, height, width] float32, and where it is from, in multiples of 8."""
    whole = picture.shape[1:]
    longer = math.exp(rng.uniform(*map(math.log, sizes)))
    scale = max(longer / max(whole), height / whole[0], width / whole[1])
    sides = [max(8, min(have, round(want / scale)) // 8 * 8) for have, want in zip(whole, (height, width), strict=True)]
    starts = [8 * int(rng.integers((have - side) // 8 + 1)) for have, side in zip(whole, sides, strict=True)]
    box = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    piece = picture[(slice(None), *box)][None].float()
    return F.interpolate(piece, (height, width), mode="bilinear", antialias=True)[0], box


def _apart(shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Cells that are known and cells that are not, by where strangers are, [H, W]; their borders are neither."""
    cover = F.avg_pool2d(shapes[None], 8)
    near = F.max_pool2d(cover, 3, 1, 1)[0]
    return near <= 0.02, cover[0] > 0.6


def _seen(picture: Tensor, rng: np.random.Generator) -> Tensor:
    if rng.random() < 0.7:
        picture = in_another_light(picture, rng)
    return picture.round().clamp(0, 255).byte()


def _mirrored(view: View) -> View:
    return View(*(part.flip(-1) for part in vars(view).values()))
