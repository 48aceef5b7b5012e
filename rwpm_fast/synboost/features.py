"""Networks whose features tell how a photo and the synthesis of its segmentation differ: VGG19, as published, or a
segmentation network that is there anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.base import Network
from ..networks.deeplab import PIXEL_MEAN, PIXEL_STD
from ..networks.precision import at_least_float32


class FeatureNetwork(Protocol):
    """What :func:`rwpm_fast.synboost.uncertainty.perceptual_difference` asks of a network: maps of an image, the taps,
    and how these count."""

    @property
    def tap_strides(self) -> Sequence[int | tuple[int, int]]:
        """Pixels of the image per side of a pixel of each map, or per row and per column."""

    @property
    def tap_weights(self) -> Sequence[float]:
        """Weight of each map in the difference."""

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Compute the maps of images.

        Args:
            images: [B, 3, H, W], RGB, normalized by ImageNet's mean and standard deviation; any size.

        Returns:
            A map [B, C, ceil(H / s), ceil(W / s)] for each of the strides s.
        """


class NetworkFeatures(nn.Module):
    """The embedding map of a segmentation network as features of images, where no VGG19 is at hand or none shall run.

    Embeddings hold what the network tells classes by, so that this difference is one of meaning rather than of texture.
    The network is used as it is, not copied: it may be the one that segments.

    Args:
        network: any network of :mod:`rwpm_fast.networks`, on the device of the images. Of a mirrored one, the mirror
            image plays no part.

    Attributes:
        network: the network.
        tap_strides: its stride, of the one tap.
        tap_weights: 1.

    Raises:
        TypeError: it is no segmentation network.

    Example:
        >>> features = NetworkFeatures(networks.load("compact"))
        >>> [list(maps.shape) for maps in features(torch.zeros(1, 3, 256, 512))]
        [[1, 160, 32, 64]]
    """

    tap_weights = (1.0,)

    def __init__(self, network: Network) -> None:
        super().__init__()
        _check_network(network)
        self.network = network

    @property
    def tap_strides(self) -> tuple[int | tuple[int, int]]:
        return (self.network.stride,)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the embedding map of images, without a walk.

        Args:
            images: [B, 3, H, W], RGB, normalized by ImageNet's mean and standard deviation.

        Returns:
            One map [B, D, ceil(H / stride), ceil(W / stride)]. That of a network which resizes or pads its input is
            brought to this size, without the padding.
        """
        images = at_least_float32(images)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        network = self.network
        embedding_map = network.encode(network.preprocess((images * std + mean) * 255)).embedding_map
        size = (images.shape[2], images.shape[3])
        stride = network.stride
        rows, columns = (stride, stride) if isinstance(stride, int) else stride
        # Map pixels over the padding begin where the resized image ends, within a pixel.
        shown = [
            -(-cells * side // padded)
            for cells, side, padded in zip(
                embedding_map.shape[2:], network.input_size(size), network.padded_size(size), strict=True
            )
        ]
        embedding_map = embedding_map[..., : shown[0], : shown[1]]
        wanted = [-(-size[0] // rows), -(-size[1] // columns)]
        if list(embedding_map.shape[2:]) != wanted:
            embedding_map = F.interpolate(embedding_map, wanted, mode="bilinear", align_corners=False)
        return [embedding_map]


def _check_network(network: Any) -> None:
    """Raise TypeError for what is no segmentation network. A compiled one is of another class, so attributes are asked
    for."""
    if not all(hasattr(network, name) for name in ("preprocess", "encode", "stride")):
        raise TypeError(f"network: expected a segmentation network of rwpm_fast.networks, got {type(network).__name__}")


def check_features(argument: str, features: Any) -> None:
    """Check that an argument is a feature network.

    Args:
        argument: its name, for the error.
        features: the argument.

    Raises:
        TypeError: it is none.
    """
    # Not by its class, which for a compiled network is another.
    described = hasattr(features, "tap_strides") and hasattr(features, "tap_weights")
    if isinstance(features, type) or not (callable(features) and described):
        raise TypeError(
            f"{argument}: expected a network with tap_strides and tap_weights, such as VGG19 or NetworkFeatures, got "
            f"{type(features).__name__}"
        )
