"""A light generator in the manner of SPADE (Park et al., CVPR 2019, arXiv 1903.07291), small enough to be trained on a
CPU (:mod:`rwpm_fast.synboost.generator_training`): SynBoost then runs without published weights.

It is a decoder from maps of stride 32 up to the image. At every level SPADE reads the segmentation, averaged over the
cells of the level, and the photo's style: a few numbers for the whole photo, too few to paint one of its objects.
"""

from __future__ import annotations

from itertools import pairwise
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_integers
from ..networks.checkpoint import load_state, read_state_dict
from ..networks.precision import at_least_float32
from .dissimilarity import CLASSES, semantic_one_hot
from .spade import SPADE
from .synthesis import check_classes, check_photos, label_edges, resize_labels, resize_photos

PLANES = CLASSES + 1  # the edges between classes are the last plane
STYLE = 8  # numbers that describe the look of a photo
LEVELS = (6, 6, 5, 4, 2, 1)  # channels from the coarsest map to the image's size, each of half the stride, in widths
STRIDE = 2 ** (len(LEVELS) - 1)  # pixels of the image per side of a pixel of the coarsest map


def condition_planes(class_map: Tensor) -> Tensor:
    """Make the input of :class:`LightGenerator`: a plane for each class, and the edges between classes.

    Args:
        class_map: train ids 0 to 18, 255 for pixels without a class, [B, H, W], integers.

    Returns:
        Planes of 0 and 1, [B, 20, H, W], float32. A pixel without a class is 0 in all planes but that of the edges.

    Raises:
        TypeError: no integers.
        ValueError: another shape, or other ids.

    Example:
        >>> condition_planes(torch.tensor([[[0, 0, 255]]])).sum((2, 3)).nonzero()[:, 1]  # planes of road and of edges
        tensor([ 0, 19])
    """
    check_classes(class_map)
    planes = semantic_one_hot(class_map)
    return torch.cat([planes, label_edges(class_map)[:, None].to(planes)], dim=1)


class StyleEncoder(nn.Module):
    """The style of a photo: three convolutions of stride 2, the mean over all pixels, and a linear layer.

    Args:
        width: channels after the first convolution; the others have twice and four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1) for inputs, outputs in pairwise(widths)
        )
        self.last = nn.Linear(widths[-1], STYLE)

    def forward(self, photos: Tensor) -> Tensor:
        x = photos
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        return self.last(x.mean((2, 3)))


class Level(nn.Module):
    """One level of the decoder: SPADE, leaky ReLU, a convolution, a shortcut around all three, and twice the size.

    The convolutions have no bias: the instance norm of the next SPADE would remove it.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.norm = SPADE(inputs, PLANES + STYLE, hidden)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.shortcut(x) + self.conv(F.leaky_relu(self.norm(x, condition), 0.2))
        return F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)


class LightGenerator(nn.Module):
    """Generator with SPADE at six levels: a segmentation and the style of a photo to an image.

    An image follows from its own inputs alone, in training as in evaluation: there is no batch norm and no noise.

    Args:
        width: channels at the image's size; all others are multiples of it. The default of 16 has 0.57 M parameters.

    Raises:
        TypeError: ``width`` is not an integer.
        ValueError: ``width`` is below 1.

    Source: SPADE, section 3. Its latent vector is the start of the decoder; here the style is read by every SPADE,
    because an instance norm would remove what is the same at all pixels.

    Example:
        >>> generator = LightGenerator()
        >>> generator(condition_planes(class_map), photos).shape  # [2, 256, 512], and [2, 3, 256, 512] in -1..1
        torch.Size([2, 3, 256, 512])
    """

    name = "light_generator"

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        check_integers(width=width)
        if width < 1:
            raise ValueError(f"width: expected 1 or more channels, got {width}")
        channels = [multiple * width for multiple in LEVELS]
        hidden = 2 * width
        self.style = StyleEncoder(width)
        self.first = nn.Conv2d(PLANES + STYLE, channels[0], 3, padding=1, bias=False)
        self.levels = nn.ModuleList(Level(inputs, outputs, hidden) for inputs, outputs in pairwise(channels))
        self.last_norm = SPADE(channels[-1], PLANES + STYLE, hidden)
        self.last = nn.Conv2d(channels[-1], 3, 3, padding=1)

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None, width: int = 16) -> LightGenerator:
        """Load weights from a file.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.
            width: channels at the image's size, as in training.

        Returns:
            The generator, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not those of the generator, or of another width;
                the message names them.
        """
        with torch.device("meta"):  # no random weights are drawn, which the file would replace
            network = cls(width)
        state = read_state_dict(weights, network.state_dict(), weights_key=weights_key)
        network.to_empty(device="cpu")
        load_state(network, state, name=cls.name, path=weights)
        return network.eval()

    def forward(self, planes: Tensor, photos: Tensor) -> Tensor:
        """Render images.

        Args:
            planes: [B, 20, H, W], sides multiples of 32; see :func:`condition_planes`. They are not resized here,
                because the edges are those of the class map at this very size.
            photos: RGB photos in -1..1 that give the style, [B, 3, H', W']; about as large as in training.

        Returns:
            RGB in -1..1, [B, 3, H, W], in the dtype of the weights.

        Raises:
            ValueError: an input is of another shape.
        """
        if planes.ndim != 4 or planes.shape[1] != PLANES or not _is_size(planes.shape[2:]):
            raise ValueError(
                f"planes: expected shape [B, {PLANES}, H, W], H and W positive multiples of {STRIDE}, got "
                f"{list(planes.shape)}; resize the class map before its planes are made"
            )
        if photos.ndim != 4 or photos.shape[:2] != (len(planes), 3) or 0 in photos.shape[2:]:
            raise ValueError(f"photos: expected shape [{len(planes)}, 3, H, W], got {list(photos.shape)}")
        dtype = self.last.weight.dtype
        planes, style = planes.to(dtype), self.style(photos.to(dtype))
        style_planes = style.to(dtype)[..., None, None].expand(-1, -1, *planes.shape[2:])
        *coarser, finest = _pyramid(torch.cat([planes, style_planes], dim=1))
        x = self.first(coarser[0])
        for level, condition in zip(self.levels, coarser, strict=True):
            x = level(x, condition)
        return torch.tanh(self.last(F.leaky_relu(self.last_norm(x, finest), 0.2)))


def _pyramid(condition: Tensor) -> list[Tensor]:
    """The condition of each level, coarsest first.

    Averages over the cells keep thin things and edges, which the nearest pixel of a coarse cell mostly misses.
    """
    conditions = [condition]
    for _ in LEVELS[1:]:
        conditions.append(F.avg_pool2d(conditions[-1], 2))
    return conditions[::-1]


def _is_size(size: tuple[int, ...]) -> bool:
    """Whether a height and width are ones that the generator renders."""
    return len(size) == 2 and all(side >= STRIDE and side % STRIDE == 0 for side in size)


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError unless a height and width are ones that the generator renders."""
    if not _is_size(size):
        raise ValueError(f"size: expected height and width, positive multiples of {STRIDE}, got {size}")


def generator_inputs(class_map: Tensor, photos: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize class maps and photos to one size, and bring them to the form that :class:`LightGenerator` reads.

    Args:
        class_map: train ids 0 to 18, 255 for pixels without a class, [B, H, W], integers; resized by the nearest pixel,
            the one at the center as Pillow takes it.
        photos: RGB photos, [B, 3, H', W'], uint8 or floating point in 0..255; resized by cubic interpolation.
        size: height and width.

    Returns:
        planes: [B, 20, *size], see :func:`condition_planes`.
        photos: [B, 3, *size] in -1..1, float32 or float64.

    Raises:
        TypeError: class_map has no integers, or photos are neither uint8 nor floating point.
        ValueError: another shape, other ids, or photos beyond 0..255.
    """
    check_classes(class_map)
    check_photos(photos, len(class_map))
    return condition_planes(resize_labels(class_map, size)), resize_photos(photos, size)


class LightSynthesis(nn.Module):
    """Synthesis by the light generator: it renders the class map in the style of the photo.

    Class map and photo are resized to ``size``, so that photos of any size are rendered as in training. No gradients
    are computed.

    Args:
        generator: the generator.
        size: height and width of the images, multiples of 32.

    Raises:
        ValueError: a side of ``size`` is no positive multiple of 32.

    Example:
        >>> synthesis = LightSynthesis.load("light.npz")
        >>> synthesis(class_map, photos).shape  # [2, 1024, 2048] and [2, 3, 1024, 2048]
        torch.Size([2, 3, 256, 512])
    """

    def __init__(self, generator: LightGenerator, *, size: tuple[int, int] = (256, 512)) -> None:
        super().__init__()
        check_size(size)
        self.generator, self.size = generator, size

    @classmethod
    def load(
        cls, weights: str | PathLike[str], *, size: tuple[int, int] = (256, 512), width: int = 16
    ) -> LightSynthesis:
        """Load the weights of a generator.

        Args:
            weights: weight file; see :meth:`LightGenerator.load`.
            size: height and width of the images, about those of the training.
            width: channels at the image's size, as in training.

        Returns:
            The synthesis, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a side of ``size`` is no positive multiple of 32; the file is no weight file, or its tensors are
                not those of the generator; the message names them.
        """
        check_size(size)
        return cls(LightGenerator.load(weights, width=width), size=size).eval()

    @torch.no_grad()
    def forward(self, class_map: Tensor, photos: Tensor) -> Tensor:
        """Render images.

        Args:
            class_map: train ids 0 to 18, 255 for pixels without a class, [B, H, W], integers.
            photos: RGB photos of the same scenes, [B, 3, H', W'], uint8 or floating point in 0..255.

        Returns:
            RGB in -1..1, [B, 3, h, w] of the height and width ``size``, float32 or float64.

        Raises:
            TypeError: class_map has no integers, or photos are neither uint8 nor floating point.
            ValueError: another shape, other ids, or photos beyond 0..255.
        """
        return at_least_float32(self.generator(*generator_inputs(class_map, photos, self.size)))
