"""Training batches: random crops of samples in other sizes and light, with outliers pasted into photos."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..scenes import EGO, UNKNOWN
from .outliers import Cutout, cutouts, paste_outliers
from .photometric import photometric_jitter, relight_regions
from .samples import PhotoSample, Sample, SceneSample
from .textures import log_uniform

PHOTO_SHARE = 0.7  # of the crops; the others are of rendered scenes
OUTLIER_SHARE = 0.6  # of the crops of photos, into which outliers are pasted
JITTER_SHARE = 0.7  # of all crops, in another light
RELIT_SHARE = 0.6  # of all crops, with regions in another light
SURE_SHARE = 0.75  # of the cells of photos, those that the teacher is surest of: confidence is learned there alone
LABEL_SMOOTHING = 0.05  # of the true classes of rendered scenes
# Range of the longer side of the image that a crop is taken from; at inference the network sees at most 832 pixels.
PHOTO_SIZES, SCENE_SIZES = (520, 1150), (600, 1000)


@dataclass(frozen=True, eq=False)
class Crop:
    """A crop with its targets on the cells of 8 x 8 pixels, or a batch of them, [B, ...] each.

    Attributes:
        image: [3, H, W] uint8.
        target: [K, H / 8, W / 8] log-probabilities of the classes.
        known: [H / 8, W / 8] bool, cells whose class is learned.
        confident: [H / 8, W / 8] bool, those of them where confidence is learned, too.
        unknown: [H / 8, W / 8] bool, cells of outliers or unknown objects; cells at their borders are neither.
    """

    image: Tensor
    target: Tensor
    known: Tensor
    confident: Tensor
    unknown: Tensor

    @classmethod
    def batch(cls, crops: Sequence[Crop]) -> Crop:
        """Stack crops into a batch."""
        return cls(*(torch.stack(parts) for parts in zip(*(vars(crop).values() for crop in crops), strict=True)))

    def mirrored(self) -> Crop:
        """Return the mirror image, left to right."""
        return Crop(*(part.flip(-1) for part in vars(self).values()))


def batches(
    samples: Sequence[Sample],
    batch_size: int,
    height: int,
    width: int,
    num_classes: int,
    seed: int,
    *,
    first_step: int = 0,
    shard: slice = slice(None),
) -> Iterator[Crop]:
    """Yield the batches of a training, from one of its steps on and without end.

    A crop follows from seed, step and its number in the batch alone, so that a training can go on at any step, and
    processes can share the batches.

    Args:
        samples: photos with a teacher's logits, rendered scenes with their classes, or both.
        batch_size: B.
        height: of a crop, a multiple of 8.
        width: of a crop, a multiple of 8.
        num_classes: K.
        seed: of everything random, 0 or more.
        first_step: number of the first batch, 0 or more.
        shard: which crops of every batch to make, one or more; all by default.
    """
    photos = [sample for sample in samples if isinstance(sample, PhotoSample)]
    scenes = [sample for sample in samples if isinstance(sample, SceneSample)]
    objects, max_entropy = cutouts(scenes), teacher_entropy_quantile(photos)
    for step in itertools.count(first_step):
        crops = []
        for number in range(batch_size)[shard]:
            rng = np.random.default_rng([seed, step, number])
            if photos and (not scenes or rng.random() < PHOTO_SHARE):
                sample = photos[int(rng.integers(len(photos)))]
                crop = _photo_crop(sample, height, width, rng, objects, photos, max_entropy)
            else:
                crop = _scene_crop(scenes[int(rng.integers(len(scenes)))], height, width, rng, num_classes)
            crops.append(crop.mirrored() if rng.random() < 0.5 else crop)
        yield Crop.batch(crops)


def teacher_entropy_quantile(photos: Sequence[PhotoSample]) -> float:
    """Return the entropy of a teacher's classes in nats that it stays below at ``SURE_SHARE`` of the photos' cells.

    Photos without labels may show objects that no class fits. A teacher gives them classes all the same, but is unsure
    of most of them; a network that is made confident there learns them by heart as known.

    Args:
        photos: without any the entropy is 0.
    """
    entropies = [_entropy(sample.logits.float().log_softmax(0)).flatten() for sample in photos]
    return float(np.quantile(torch.cat(entropies).numpy(), SURE_SHARE)) if entropies else 0.0


def _entropy(log_probabilities: Tensor) -> Tensor:
    return -(log_probabilities.exp() * log_probabilities).sum(0)


def _photo_crop(
    sample: PhotoSample,
    height: int,
    width: int,
    rng: np.random.Generator,
    objects: Sequence[Cutout],
    photos: Sequence[PhotoSample],
    max_entropy: float,
) -> Crop:
    image, box = _random_crop(sample.image, height, width, PHOTO_SIZES, rng)
    rows, columns = (slice(side.start // 8, side.stop // 8) for side in box)
    logits = F.interpolate(sample.logits[None, :, rows, columns].float(), (height // 8, width // 8), mode="bilinear")[0]
    opacity = torch.zeros(height, width)
    if rng.random() < OUTLIER_SHARE:
        image, opacity = paste_outliers(image, rng, objects, photos)
    known, unknown = label_cells(opacity)
    target = logits.log_softmax(0)
    return Crop(photometric(image, rng), target, known, known & (_entropy(target) <= max_entropy), unknown)


def _scene_crop(sample: SceneSample, height: int, width: int, rng: np.random.Generator, num_classes: int) -> Crop:
    image, box = _random_crop(sample.image, height, width, SCENE_SIZES, rng)
    class_map = F.interpolate(sample.class_map[box][None, None].float(), (height, width), mode="nearest")[0, 0]
    known, unknown = label_cells((class_map == UNKNOWN).float())
    classes = class_map[4::8, 4::8].long()
    target = torch.full((num_classes, *classes.shape), LABEL_SMOOTHING / (num_classes - 1))
    target.scatter_(0, classes.clamp(max=num_classes - 1)[None], 1 - LABEL_SMOOTHING)
    scored = classes != EGO
    known, unknown = known & scored, unknown & scored
    return Crop(photometric(image, rng), target.log(), known, known, unknown)


def _random_crop(
    image: Tensor, height: int, width: int, sizes: tuple[int, int], rng: np.random.Generator
) -> tuple[Tensor, tuple[slice, slice]]:
    """Crop an image at a random position and scale.

    Args:
        image: [3, H, W].
        height: of the crop.
        width: of the crop.
        sizes: range of the longer side of the scaled image in pixels; larger where the crop would not fit otherwise.
        rng: source of position and scale.

    Returns:
        The crop, [3, height, width] float32, and its rows and columns in the image, multiples of 8.
    """
    whole = image.shape[1:]
    longer = log_uniform(rng, *sizes)
    scale = max(longer / max(whole), height / whole[0], width / whole[1])
    sides = [max(8, min(have, round(want / scale)) // 8 * 8) for have, want in zip(whole, (height, width), strict=True)]
    starts = [8 * int(rng.integers((have - side) // 8 + 1)) for have, side in zip(whole, sides, strict=True)]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    crop = image[None, :, rows, columns].float()
    return F.interpolate(crop, (height, width), mode="bilinear", antialias=True)[0], (rows, columns)


def label_cells(opacity: Tensor) -> tuple[Tensor, Tensor]:
    """Label cells of 8 x 8 pixels as known or unknown by how much of them outliers cover; borders are neither.

    Args:
        opacity: [H, W] float32 in [0, 1], of outliers.

    Returns:
        known: [H / 8, W / 8] bool, at most 2 % of the cell and of each of its eight neighbors covered.
        unknown: [H / 8, W / 8] bool, more than 60 % of the cell covered.
    """
    cover = F.avg_pool2d(opacity[None], 8)
    nearby = F.max_pool2d(cover, 3, 1, 1)[0]
    return nearby <= 0.02, cover[0] > 0.6


def photometric(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Apply :func:`relight_regions` and :func:`photometric_jitter` to most images, and round [3, H, W] to uint8."""
    if rng.random() < RELIT_SHARE:
        image = relight_regions(image, rng)
    if rng.random() < JITTER_SHARE:
        image = photometric_jitter(image, rng)
    return image.round().clamp(0, 255).byte()
