"""VGG16 and VGG19 (Simonyan & Zisserman, ICLR 2015, table 1, configurations D and E) as far as their features are used.

Layers are numbered as in torchvision, so that ``state_dict`` and torchvision's weight files share their keys.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from os import PathLike
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..networks.checkpoint import load_state, read_state_dict

WIDTHS = (64, 128, 256, 512, 512)  # channels of the convolutions of each block

PUBLISHED_WIDTH = 64  # channels of the first convolution

# An entry of torchvision's files; the classifier has linear layers at 0, 3 and 6, which no feature needs.
ENTRY = re.compile(r"(?:features\.(?P<feature>\d+)|classifier\.[036])\.(?:weight|bias)")

VGGType = TypeVar("VGGType", bound="VGG")


def _named_layers(convolutions: tuple[int, ...], width: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield all layers before the classifier, each built when it is asked for: conv1_1, relu1_1, ..., pool5."""
    inputs = 3
    for block, (count, published) in enumerate(zip(convolutions, WIDTHS, strict=True), 1):
        outputs = published * width // PUBLISHED_WIDTH
        for number in range(1, count + 1):
            yield f"conv{block}_{number}", nn.Conv2d(inputs, outputs, 3, padding=1)
            yield f"relu{block}_{number}", nn.ReLU(inplace=True)
            inputs = outputs
        # torchvision drops a last odd row or column; even sizes give the same either way.
        yield f"pool{block}", nn.MaxPool2d(2, ceil_mode=True)


class VGG(nn.Module):
    """The convolutions of a VGG network up to the last layer whose output is used; a subclass says which these are.

    Args:
        width: channels of the first convolution; those of all others are in proportion. Published weights have 64.

    Attributes:
        name: name of the network, for messages.
        convolutions: number of convolutions of each of the five blocks.
        taps: layers whose outputs ``forward`` gives, in their order; the last one ends the network.
    """

    name: str
    convolutions: tuple[int, ...]
    taps: tuple[str, ...]

    def __init__(self, width: int = PUBLISHED_WIDTH) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.layers: list[str] = []
        for name, layer in _named_layers(self.convolutions, width):
            self.layers.append(name)
            self.features.append(layer)
            if name == self.taps[-1]:
                break

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the features of the taps.

        Args:
            images: [B, 3, H, W], RGB, normalized by ImageNet's mean and standard deviation; any size.

        Returns:
            A map [B, C, h, w] >= 0 for each of ``taps``; behind n poolings h = ceil(H / 2^n), w = ceil(W / 2^n).
        """
        x, tapped = images, []
        for name, layer in zip(self.layers, self.features, strict=True):
            x = layer(x)
            if name in self.taps:
                tapped.append(x)
        return tapped

    def slice_names(self) -> dict[str, str]:
        """Return the name of each entry of ``state_dict`` in the other usual layout, ``slice2.5.weight`` for
        ``features.5.weight``: the layers up to the first tap are slice 1, those up to the second one slice 2."""
        ends = [index for index, name in enumerate(self.layers) if name in self.taps]
        names = {}
        for entry in self.state_dict():
            _, index, kind = entry.split(".")
            names[entry] = f"slice{1 + bisect_left(ends, int(index))}.{index}.{kind}"
        return names

    @classmethod
    def load(
        cls: type[VGGType],
        weights: str | PathLike[str],
        *,
        weights_key: str | None = None,
        width: int = PUBLISHED_WIDTH,
    ) -> VGGType:
        """Load weights from a file, such as torchvision's ``vgg19-dcbb9e9d.pth`` or ``vgg16-397923af.pth``.

        Layers of the same network that are not used, the classifier among them, are left out.

        Args:
            weights: file of ``torch.save``, npz or safetensors whose tensors are named as in torchvision,
                ``features.0.weight``, or as by ``slice_names``; see
                :func:`rwpm_fast.networks.checkpoint.read_state_dict`.
            weights_key: place of the tensors in the file, where several sets of them fit.
            width: channels of the first convolution, 64 in published weights.

        Returns:
            The network, in evaluation mode on the CPU; its parameters are frozen.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, several sets of its tensors fit, or they are not those of the
                network: one is missing, unexpected, of another shape, not of floating point or not finite. The message
                names them.

        Example:
            >>> network = VGG19.load("vgg19-dcbb9e9d.pth")
            >>> [list(features.shape) for features in network(torch.zeros(1, 3, 256, 512))][-1]
            [1, 512, 16, 32]
        """
        # On "meta" no random weights are drawn, which the file would replace.
        with torch.device("meta"):
            network = cls(width)
        own = {name: entry for entry, name in network.slice_names().items()}
        found = read_state_dict(weights, [*own, *own.values()], weights_key=weights_key)
        state = {own.get(name, name): tensor for name, tensor in found.items() if not network._is_unused(name)}
        network.to_empty(device="cpu")
        load_state(network, state, name=cls.name, path=weights)
        return network.eval().requires_grad_(False)

    def _is_unused(self, name: str) -> bool:
        """Whether an entry of torchvision's files belongs to a layer behind the last tap."""
        entry = ENTRY.fullmatch(name)
        return entry is not None and (entry["feature"] is None or int(entry["feature"]) >= len(self.features))


class VGG16(VGG):
    """VGG16 up to relu4_3, with the last features before each pooling: the image encoder of Image Resynthesis and
    SynBoost. 7,635,264 parameters."""

    name = "vgg16"
    convolutions = (2, 2, 3, 3, 3)
    taps = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")


class VGG19(VGG):
    """VGG19 up to relu5_1, with the first features of each block: what perceptual losses of image synthesis compare.
    12,944,960 parameters.

    Attributes:
        tap_strides: how many times the map of each tap is smaller than the image.
        tap_weights: weights of the taps in a difference, those of pix2pixHD's perceptual loss (Wang et al., CVPR 2018).
    """

    name = "vgg19"
    convolutions = (2, 2, 4, 4, 4)
    taps = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    tap_strides = (1, 2, 4, 8, 16)
    tap_weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
