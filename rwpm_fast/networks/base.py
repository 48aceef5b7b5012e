"""The adapter contract: what a segmentation network must offer so that a walk can be put between its embedding map
and its head."""

from __future__ import annotations

from os import PathLike
from typing import TypeVar

from torch import Tensor, nn

from .checkpoint import load_state, read_state_dict

NetworkType = TypeVar("NetworkType", bound="Network")


class Network(nn.Module):
    """A segmentation network cut in two at its pixel embedding map.

    Adapters set the attributes and write ``preprocess``, ``embed`` and ``head``. The embedding map covers the whole
    photo: an adapter that pads its input crops the map again.

    Attributes:
        name: the network's name, as ``rwpm_fast.networks.load`` knows it.
        classes: names of the K classes, in the order of the logit channels.
        stride: photo pixels per side of a pixel of the embedding map.
        linear_head: the head is a linear map of each pixel's embedding, with or without bias. A walk then commutes with
            the head, and may be applied to the K logits instead of the D embedding channels.
        align_corners: how logits are up-sampled to the photo's size.
    """

    name: str
    classes: tuple[str, ...]
    stride: int
    linear_head: bool
    align_corners: bool = False

    def preprocess(self, photos: Tensor) -> Tensor:
        """RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the network's floating-point input."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """The network's input, as ``preprocess`` gives it, to the embedding map [B, D, h, w]."""
        raise NotImplementedError

    def head(self, embedding_map: Tensor) -> Tensor:
        """Embedding map [B, D, h, w] to class logits [B, K, h, w]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """The network's input to class logits [B, K, h, w], without a walk."""
        return self.head(self.embed(images))

    @classmethod
    def load(cls: type[NetworkType], weights: str | PathLike[str]) -> NetworkType:
        """The network with weights from a file, in evaluation mode on the CPU.

        Args:
            weights: file of ``torch.save``, npz or safetensors whose tensors are named as the entries of
                ``state_dict``; see ``rwpm_fast.networks.checkpoint``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not the network's: one is missing, unknown, of
                another shape, not of floating point or not finite. The message names them.
        """
        network = cls()
        load_state(network, read_state_dict(weights), name=network.name, path=weights)
        return network.eval()
