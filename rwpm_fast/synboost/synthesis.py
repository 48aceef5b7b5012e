"""Synthesis: what a photo would look like if its segmentation were right."""

from __future__ import annotations

from os import PathLike
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.frames import VOID
from ..io.text import listed
from ..networks.precision import at_least_float32
from .ccfpse import CCFPSEEncoder, CCFPSEGenerator
from .labels import LABEL_IDS

LABEL_COUNT = 35  # label ids 0 to 34
UNLABELED = 0  # label id of pixels without a class


class Synthesis(Protocol):
    """What renders an image from a segmentation, in the look of a photo."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        ...

    def __call__(self, class_map: Tensor, photos: Tensor) -> Tensor:
        """Render images.

        Args:
            class_map: train ids 0 to 18, 255 for pixels without a class, [B, H, W], integers.
            photos: RGB photos of the same scenes, [B, 3, H', W'], uint8 or floating point in 0..255.

        Returns:
            RGB in -1..1, [B, 3, h, w] of the height and width ``size``, float32 or float64.
        """
        ...


def label_ids(class_map: Tensor) -> Tensor:
    """Convert Cityscapes train ids to label ids.

    Args:
        class_map: train ids 0 to 18, 255 for pixels without a class, [B, H, W], integers.

    Returns:
        Label ids, [B, H, W], int64; 0, "unlabeled", for pixels without a class.

    Raises:
        TypeError: no integers.
        ValueError: another shape, or other ids.

    Example:
        >>> label_ids(torch.tensor([[[0, 10, 18, 255]]]))
        tensor([[[ 7, 23, 33,  0]]])
    """
    check_classes(class_map)
    ids = class_map.long()
    known = ids != VOID
    table = torch.tensor(LABEL_IDS, device=class_map.device)
    return torch.where(known, table[torch.where(known, ids, 0)], UNLABELED)


def label_edges(label_map: Tensor) -> Tensor:
    """Find the pixels whose label differs from that of any of their four neighbors.

    Args:
        label_map: [B, H, W], integers.

    Returns:
        [B, H, W], bool.

    Example:
        >>> label_edges(torch.tensor([[[7, 7, 8]]]))
        tensor([[[False,  True,  True]]])
    """
    edges = torch.zeros_like(label_map, dtype=torch.bool)
    across = label_map[..., :, 1:] != label_map[..., :, :-1]
    down = label_map[..., 1:, :] != label_map[..., :-1, :]
    edges[..., :, 1:] |= across
    edges[..., :, :-1] |= across
    edges[..., 1:, :] |= down
    edges[..., :-1, :] |= down
    return edges


def label_planes(label_map: Tensor) -> Tensor:
    """Make the input of :class:`rwpm_fast.synboost.ccfpse.CCFPSEGenerator`: a plane for each label id, and the edges.

    Args:
        label_map: Cityscapes label ids 0 to 34, [B, H, W], integers.

    Returns:
        Planes of 0 and 1, [B, 36, H, W], float32.

    Raises:
        TypeError: no integers.
        ValueError: another shape, or an id beyond 34.

    Example:
        >>> label_planes(torch.full((1, 256, 512), 7)).shape
        torch.Size([1, 36, 256, 512])
    """
    _check_label_map(label_map)
    planes = F.one_hot(label_map.long(), LABEL_COUNT).permute(0, 3, 1, 2)  # [B, 35, H, W]
    return torch.cat([planes.float(), label_edges(label_map)[:, None].float()], dim=1)


class CCFPSESynthesis(nn.Module):
    """Synthesis of SynBoost: CC-FPSE renders the label map, with the look that its image encoder finds in the photo.

    The label map is resized to the generator's size by the nearest pixel, the one at the center as Pillow takes it, and
    the photo by cubic interpolation. No gradients are computed.

    Args:
        generator: CC-FPSE's generator.
        encoder: CC-FPSE's image encoder, on the same device.
        rng: draws the latent vector from the distribution that the encoder finds, as the authors do. None for its mean,
            which makes the image a function of its inputs.

    Source: SynBoost, section 3.1; its released code for the label planes and the resizing.

    Example:
        >>> synthesis = CCFPSESynthesis.load("latest_net_G.pth", "latest_net_E.pth")
        >>> synthesis(class_map, photos).shape  # [2, 1024, 2048] and [2, 3, 1024, 2048]
        torch.Size([2, 3, 256, 512])
    """

    def __init__(
        self, generator: CCFPSEGenerator, encoder: CCFPSEEncoder, *, rng: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.generator, self.encoder, self.rng = generator, encoder, rng

    @classmethod
    def load(
        cls,
        generator: str | PathLike[str],
        encoder: str | PathLike[str],
        *,
        size: tuple[int, int] = (256, 512),
        width: int = 64,
        rng: torch.Generator | None = None,
    ) -> CCFPSESynthesis:
        """Load the two checkpoints of CC-FPSE.

        Args:
            generator: weight file of the generator.
            encoder: weight file of the image encoder.
            size: height and width of the images, for which the generator was trained.
            width: channels of the networks, 64 in published weights.
            rng: draws the latent vector; None for its mean.

        Returns:
            The synthesis, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a side of ``size`` is no positive multiple of 64; a file is no weight file, or its tensors are
                not those of the network, or of another size; the message names them.
        """
        networks = CCFPSEGenerator.load(generator, size=size, width=width), CCFPSEEncoder.load(encoder, width=width)
        return cls(*networks, rng=rng).eval()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.generator.size

    def forward(self, class_map: Tensor, photos: Tensor) -> Tensor:
        """Render images from train ids.

        Args:
            class_map: train ids 0 to 18, 255 for pixels without a class, [B, H, W], integers.
            photos: RGB photos of the same scenes, [B, 3, H', W'], uint8 or floating point in 0..255.

        Returns:
            RGB in -1..1, [B, 3, h, w] of the height and width ``size``, float32 or float64.

        Raises:
            TypeError: class_map has no integers, or photos are neither uint8 nor floating point.
            ValueError: another shape, other ids, or photos beyond 0..255.
        """
        return self.render(label_ids(class_map), photos)

    @torch.no_grad()
    def render(self, label_map: Tensor, photos: Tensor) -> Tensor:
        """Render images from Cityscapes label ids 0 to 34, [B, H, W], which also have those that no train id stands
        for; all else as from train ids."""
        _check_label_map(label_map)
        check_photos(photos, len(label_map))
        planes = label_planes(resize_labels(label_map, self.size))
        mean, log_variance = self.encoder(resize_photos(photos, self.size))
        return at_least_float32(self.generator(planes, self._latent(mean, log_variance)))

    def _latent(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        if self.rng is None:
            return mean
        noise = torch.randn(mean.shape, generator=self.rng, device=self.rng.device)
        return mean + noise.to(mean) * (log_variance / 2).exp()


def resize_labels(label_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a label map by the nearest pixel."""
    return F.interpolate(label_map[:, None].float(), size, mode="nearest-exact")[:, 0].long()


def resize_photos(photos: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize photos, and scale them to -1..1."""
    resized = F.interpolate(at_least_float32(photos), size, mode="bicubic", antialias=True)
    return resized.clamp(0, 255) / 127.5 - 1  # cubic interpolation overshoots


def check_map(name: str, values: Tensor) -> None:
    if values.ndim != 3 or not values.numel():
        raise ValueError(f"{name}: expected shape [B, H, W] with at least one pixel, got {list(values.shape)}")


def _check_label_map(label_map: Tensor) -> None:
    check_map("label_map", label_map)
    check_ids("label_map", label_map, LABEL_COUNT, "label ids", "set pixels without a label to 0, unlabeled")


def check_ids(name: str, ids: Tensor, count: int, kind: str, way_out: str) -> None:
    _check_integers(name, ids, kind)
    unknown = (ids < 0) | (ids >= count)
    if unknown.any():
        got = listed(ids[unknown].unique().tolist())
        raise ValueError(f"{name}: expected {kind} 0 to {count - 1}, got {got}; {way_out}")


def _check_integers(name: str, ids: Tensor, kind: str) -> None:
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{name}: expected integers, {kind}, got {ids.dtype}")


def check_classes(class_map: Tensor) -> None:
    """Raise TypeError or ValueError unless class maps [B, H, W] have train ids 0 to 18, and 255, only."""
    check_map("class_map", class_map)
    _check_integers("class_map", class_map, "train ids")
    known = class_map[class_map.long() != VOID]  # in 8 bits with a sign, -1 would equal 255
    check_ids("class_map", known, len(LABEL_IDS), "train ids", f"a pixel without a class is {VOID}")


def check_photos(photos: Tensor, batch: int) -> None:
    if photos.ndim != 4 or photos.shape[:2] != (batch, 3) or not photos.numel():
        raise ValueError(
            f"photos: expected shape [{batch}, 3, H, W], one photo for each label map, got {list(photos.shape)}"
        )
    if photos.dtype == torch.uint8:
        return
    if not photos.is_floating_point():
        raise TypeError(f"photos: expected uint8, or floating point in 0..255, got {photos.dtype}")
    low, high = photos.min().item(), photos.max().item()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"photos: expected values in 0..255, got {low:g}..{high:g}")
    if 0 < high <= 1:
        raise ValueError(f"photos: expected values in 0..255, got {low:g}..{high:g}; multiply by 255 first")
