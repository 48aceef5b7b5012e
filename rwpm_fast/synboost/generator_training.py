"""Train the light generator on photos and their class maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checks import check_integers, check_numbers
from ..data.frames import VOID
from ..networks import Network
from ..networks.base import device_of
from ..networks.precision import at_least_float32
from ..scenes import EGO, UNKNOWN, render_scene
from .dissimilarity import CLASSES
from .light_generator import LightGenerator, check_size, generator_inputs
from .synthesis import check_classes

MIRRORED_SHARE = 0.5  # of the pairs


@dataclass(frozen=True, eq=False)
class Pair:
    """A photo and the classes of its pixels.

    Attributes:
        photo: RGB, [3, H, W] uint8.
        class_map: [H, W], integers: train ids 0 to 18, 255 for pixels without a class, which are not learned.

    Raises:
        TypeError: the photo is not uint8, or the class map has no integers.
        ValueError: another shape, or other ids.
    """

    photo: Tensor
    class_map: Tensor

    def __post_init__(self) -> None:
        if self.photo.dtype != torch.uint8:
            raise TypeError(f"photo: expected uint8, got {self.photo.dtype}")
        if self.photo.ndim != 3 or len(self.photo) != 3 or not self.photo.numel():
            raise ValueError(f"photo: expected shape [3, H, W], got {list(self.photo.shape)}")
        if self.class_map.shape != self.photo.shape[1:]:
            raise ValueError(
                f"class_map: expected the size of the photo, {list(self.photo.shape[1:])}, got "
                f"{list(self.class_map.shape)}"
            )
        check_classes(self.class_map[None])


def scene_pairs(count: int, rng: np.random.Generator, size: tuple[int, int] = (256, 512)) -> list[Pair]:
    """Render street scenes; unknown objects and the hood of the ego vehicle are pixels without a class.

    Args:
        count: number of scenes.
        rng: source of the scenes.
        size: (height, width) in pixels, each 16 or more.

    Raises:
        ValueError: a side below 16.

    Example:
        >>> pairs = scene_pairs(100, np.random.default_rng(0))
    """
    pairs = []
    for _ in range(count):
        photo, class_map = render_scene(rng, size)
        class_map = np.where(np.isin(class_map, (UNKNOWN, EGO)), VOID, class_map).astype(np.uint8)
        pairs.append(Pair(torch.from_numpy(photo).permute(2, 0, 1).contiguous(), torch.from_numpy(class_map)))
    return pairs


class Losses(NamedTuple):
    """Losses of a step, each a mean over all pixels of the batch.

    Attributes:
        pixels: mean absolute difference of the images, in 0..2.
        gradients: that of the differences of neighboring pixels, across and down, in 0..8: sharp edges where the photo
            has them, which the first loss hardly asks for.
        features: that of a network's embedding maps, as a share of the mean absolute embedding of the photos; 0 without
            a network.
    """

    pixels: float
    gradients: float
    features: float


LOSS_WEIGHTS = Losses(pixels=1.0, gradients=1.0, features=1.0)  # of the losses in their sum


@dataclass
class Progress:
    """What a training needs, besides the weights, to go on where it was: plain data, made for ``torch.save``.

    Attributes:
        step: steps done.
        optimizer: state of Adam, None before the first step.
        rng: state of the random generator that draws the batches, None before the first step.
    """

    step: int = 0
    optimizer: dict[str, Any] | None = None
    rng: dict[str, Any] | None = None


def train_generator(
    generator: LightGenerator,
    samples: Sequence[Pair],
    *,
    steps: int,
    rng: np.random.Generator,
    batch: int = 4,
    size: tuple[int, int] = (256, 512),
    learning_rate: float = 2e-3,
    loss_weights: Losses = LOSS_WEIGHTS,
    feature_network: Network | None = None,
    half_precision: bool = False,
    progress: Progress | None = None,
) -> Iterator[Losses]:
    """Train the generator to render photos from their class maps and their style, a step for each item taken.

    The sum of the losses is minimized by Adam; the learning rate falls to zero as a cosine over all steps. Pixels
    without a class have no loss: there the photo stands in for the synthesis. Equal arguments give equal weights.

    To go on after an interruption, save weights and ``progress`` after a step, load both, and call with the same
    arguments otherwise: the result is that of a training without interruption.

    Args:
        generator: as constructed, or as loaded to go on; changed in place, on its device.
        samples: photos with their class maps, of any size.
        steps: of the whole training, 1 or more.
        rng: draws pairs, and mirrors half of them; set to the state in ``progress``, where there is one.
        batch: pairs per step, 1 or more; drawn with replacement.
        size: height and width to which pairs are resized, multiples of 32: those of the later synthesis.
        learning_rate: the highest, > 0.
        loss_weights: of the losses in their sum, >= 0.
        feature_network: what the images should look like to it, such as :func:`rwpm_fast.networks.load` gives it; a
            copy is used. None for no loss of features.
        half_precision: convolve in bfloat16, under autocast; losses and weights stay float32. It takes half the time
            on CPUs with instructions for bfloat16, and longer on others.
        progress: kept up to date after every step; as constructed, or as saved.

    Returns:
        Iterator over the losses of the remaining steps. The training advances as it is consumed.

    Raises:
        TypeError: a number is none.
        ValueError: no samples, or a number or size out of its range.

    Example:
        >>> progress = Progress()
        >>> for losses in train_generator(generator, pairs, steps=2000, rng=rng, progress=progress):
        ...     if progress.step % 500 == 0:
        ...         torch.save({"weights": generator.state_dict(), "progress": asdict(progress)}, "training.pth")
    """
    check_integers(steps=steps, batch=batch)
    check_numbers(learning_rate=learning_rate, **loss_weights._asdict())
    check_size(size)
    for name, number in (("steps", steps), ("batch", batch)):
        if number < 1:
            raise ValueError(f"{name}: expected 1 or more, got {number}")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"learning_rate: expected a finite number > 0, got {learning_rate}")
    if not all(0 <= weight < math.inf for weight in loss_weights):
        raise ValueError(f"loss_weights: expected finite numbers >= 0, got {loss_weights}")
    if not len(samples):
        raise ValueError("samples: expected one or more pairs, got none")
    if feature_network is not None:
        feature_network = copy.deepcopy(feature_network).eval().requires_grad_(False).to(device_of(generator))
    return _steps(
        generator,
        lambda: _draw(samples, batch, size, rng),
        steps=steps,
        rng=rng,
        learning_rate=learning_rate,
        loss_weights=loss_weights,
        feature_network=feature_network,
        half_precision=half_precision,
        progress=Progress() if progress is None else progress,
    )


def _steps(
    generator: LightGenerator,
    draw: Callable[[], tuple[Tensor, Tensor]],
    *,
    steps: int,
    rng: np.random.Generator,
    learning_rate: float,
    loss_weights: Losses,
    feature_network: Network | None,
    half_precision: bool,
    progress: Progress,
) -> Iterator[Losses]:
    optimizer = torch.optim.Adam(generator.parameters())
    if progress.optimizer is not None:
        optimizer.load_state_dict(progress.optimizer)
    if progress.rng is not None:
        rng.bit_generator.state = progress.rng
    while progress.step < steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (0.5 + 0.5 * math.cos(math.pi * progress.step / steps))
        planes, photos = (part.to(device_of(generator)) for part in draw())
        known = planes[:, :CLASSES].any(1, keepdim=True)
        with torch.autocast(photos.device.type, torch.bfloat16, enabled=half_precision):
            synthesis = torch.where(known, at_least_float32(generator(planes, photos)), photos)
            losses = _losses(synthesis, photos, feature_network)
        optimizer.zero_grad()
        torch.stack([weight * loss for weight, loss in zip(loss_weights, losses, strict=True)]).sum().backward()
        optimizer.step()
        progress.step += 1
        progress.optimizer, progress.rng = optimizer.state_dict(), dict(rng.bit_generator.state)
        yield Losses(*(loss.item() for loss in losses))


def _draw(
    samples: Sequence[Pair], batch: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a batch: planes [B, 20, *size] and photos [B, 3, *size] in -1..1."""
    inputs = []
    for _ in range(batch):
        sample = samples[int(rng.integers(len(samples)))]
        pair = generator_inputs(sample.class_map[None], sample.photo[None], size)
        inputs.append([part.flip(-1) for part in pair] if rng.random() < MIRRORED_SHARE else pair)
    planes, photos = (torch.cat(parts) for parts in zip(*inputs, strict=True))
    return planes, photos


def _losses(synthesis: Tensor, photos: Tensor, feature_network: Network | None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the losses named in ``Losses`` of syntheses [B, 3, H, W] in -1..1."""
    difference = synthesis - photos
    pixels = difference.abs().mean()
    gradients = difference.diff(dim=-2).abs().mean() + difference.diff(dim=-1).abs().mean()
    if feature_network is None:
        return pixels, gradients, torch.zeros_like(pixels)
    with torch.no_grad():
        wanted = _embedding(feature_network, photos)
    features = (_embedding(feature_network, synthesis) - wanted).abs().mean() / wanted.abs().mean()
    return pixels, gradients, features


def _embedding(network: Network, images: Tensor) -> Tensor:
    """The embedding map of images in -1..1."""
    return at_least_float32(network.encode(network.preprocess((images + 1) * 127.5)).embedding_map)
