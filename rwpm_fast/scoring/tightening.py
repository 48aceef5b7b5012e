"""How the walk draws the embeddings of a photo's classes together, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics.tightness import Tightness, class_tightness
from ..networks.precision import at_least_float32
from ..ops.graph import transition
from ..ops.settings import WalkSettings
from .scorer import Analysis


@dataclass(frozen=True, eq=False)
class PhotoPixels:
    """The N pixels of an embedding map whose centers lie in the photo, without those whose embeddings are not finite.

    Attributes:
        embeddings: [N, D], before any walk, at least float32.
        classes: [N] int64, class that the network, without the walk, gives the photo at the pixel's center.
        centers: [N, 2] float64, row and column of the pixel's center in the photo; an edge of the photo is 0.
        cell: height and width of a pixel of the map, in pixels of the photo.
    """

    embeddings: Tensor
    classes: Tensor
    centers: Tensor
    cell: tuple[float, float]

    def at(self, row: int, column: int) -> int:
        """Return the pixel, 0 to N - 1, whose center is nearest to a pixel of the photo."""
        place = torch.tensor([row, column], dtype=torch.float64) + 0.5
        return int((self.centers - place).square().sum(1).argmin())

    def typical(self, label: int) -> int:
        """Return the pixel of a class, one that occurs, whose cosine with the class's mean direction is the median."""
        members = (self.classes == label).nonzero().squeeze(1)
        unit = F.normalize(self.embeddings[members].double(), dim=1)
        return int(members[(unit @ unit.mean(0)).median(0).indices.cpu()])


def photo_pixels(analysis: Analysis) -> PhotoPixels:
    """Return the embeddings of a photo's pixels, with their classes and places.

    Args:
        analysis: of a photo, by any :class:`rwpm_fast.Scorer`; of a network that also reads the mirror image, the
            photo itself counts.
    """
    geometry = analysis.embedded.geometry
    embeddings = at_least_float32(analysis.embedding_map).flatten(1).mT  # [h * w, D]
    sides = zip(geometry.image_size, geometry.input_size, geometry.padded_size, geometry.map_size, strict=True)
    height, width = (image * padded / (resized * pixels) for image, resized, padded, pixels in sides)
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in geometry.map_size)
    centers = torch.cartesian_prod(rows * height, columns * width)  # [h * w, 2]
    shown = (centers < torch.tensor(geometry.image_size)).all(1) & embeddings.isfinite().all(1).cpu()
    centers = centers[shown]
    row, column = centers.long().unbind(1)
    classes = analysis.plain.segmentation.cpu()[row, column]
    return PhotoPixels(embeddings[shown.to(embeddings.device)], classes, centers, (height, width))


def tighten(
    embeddings: Tensor,
    classes: Tensor,
    settings: WalkSettings,
    *,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[Tensor, list[Tightness]]:
    """Walk embeddings on their own graph and measure their classes before the walk and after each step.

    Args:
        embeddings: [N, D], float32 or float64, finite.
        classes: [N] int64, below 0 for pixels that walk and do not count; they stay the same through all steps.
        settings: of the published walk, uncut: ``parts`` and the anchor are left aside.
        progress: wraps the numbers of the steps.

    Returns:
        Walked embeddings [N, D], and the numbers of the steps 0 to ``settings.steps``.

    Raises:
        ValueError: shapes that do not match, or no pixel that counts.
    """
    classes = classes.to(embeddings.device)
    numbers = [class_tightness(embeddings, classes)]
    graph = transition(embeddings, temperature=settings.temperature, tolerance=settings.tolerance)
    walked, restart = embeddings, (1 - settings.alpha) * embeddings
    for _ in progress(range(settings.steps)):
        # One transition a step: walks of 1, 2, ... steps from the start would make T (T + 1) / 2.
        walked = settings.alpha * graph.walk(walked, alpha=1.0, steps=1) + restart
        numbers.append(class_tightness(walked, classes))
    return walked, numbers


@dataclass(frozen=True)
class Neighbors:
    """The pixels most similar to one pixel, the most similar first.

    Attributes:
        pixels: their numbers.
        before: their cosines with it before the walk.
        after: their cosines with it after the walk.
    """

    pixels: list[int]
    before: list[float]
    after: list[float]


def nearest(pixel: int, before: Tensor, after: Tensor, count: int) -> tuple[Neighbors, Neighbors]:
    """Find the pixels most similar to one pixel, before the walk and after it.

    Args:
        pixel: its number, 0 to N - 1.
        before: [N, D], embeddings before the walk.
        after: [N, D], embeddings after the walk.
        count: how many, 1 to N - 1.
    """
    cosines = []
    for embeddings in (before, after):
        unit = F.normalize(embeddings.double(), dim=1)
        cosines.append((unit @ unit[pixel]).cpu())
    found = []
    for cosine in cosines:
        others = cosine.clone()
        others[pixel] = -torch.inf
        places = others.topk(count).indices
        found.append(Neighbors(places.tolist(), *(values[places].tolist() for values in cosines)))
    return found[0], found[1]
