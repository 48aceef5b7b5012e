"""The adapter contract: what a segmentation network must offer so that a walk can be put between its embedding map
and its head."""

from __future__ import annotations

from os import PathLike
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from .checkpoint import load_state, read_state_dict

NetworkType = TypeVar("NetworkType", bound="Network")


class MaskLogits(NamedTuple):
    """What a mask head says: Q queries, each with a class and a mask.

    Attributes:
        class_logits: [B, Q, K + 1], void last.
        mask_logits: [B, Q, h, w], before the sigmoid.
    """

    class_logits: Tensor
    mask_logits: Tensor


class Encoded(NamedTuple):
    """A network's input, encoded.

    Attributes:
        embedding_map: [B, D, h, w]; what walks.
        context: whatever else the decoder reads, for the same B images; None for a head that reads the map alone.
    """

    embedding_map: Tensor
    context: Any = None


class Network(nn.Module):
    """A segmentation network cut in two at its pixel embedding map: ``preprocess``, ``encode``, walk, ``decode``.

    An adapter whose head makes class logits of the embedding map alone writes ``preprocess``, ``embed`` and ``head``;
    any other writes ``encode`` and ``decode`` in place of the last two. The map covers the whole photo, and also the
    padding of a network that says what it pads to.

    Attributes:
        name: the network's name, as ``rwpm_fast.networks.load`` knows it.
        classes: names of the K classes, in the order of the logit channels.
        stride: pixels of the network's input per side of a pixel of the embedding map.
        linear_head: the head is a linear map of each pixel's embedding, with or without bias. A walk then commutes with
            the head, and may be applied to the K logits instead of the D embedding channels.
        mask_head: ``decode`` gives ``MaskLogits``, and not class logits.
        align_corners: how class logits are up-sampled to the photo's size.
        padded_to: the network's input is filled up with zeros, at the bottom and on the right, to a multiple of this.
        mirrored: the photo and its mirror image are scored, and the scores averaged. Mask heads only.
        default_score: the score that its authors use, a name in ``rwpm_fast.scores``.
    """

    name: str
    classes: tuple[str, ...]
    stride: int
    linear_head: bool
    mask_head: bool = False
    align_corners: bool = False
    padded_to: int = 1
    mirrored: bool = False
    default_score: str = "energy"

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width to which ``preprocess`` resizes a photo of that height and width, before it pads."""
        return photo_size

    def padded_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the network's input for a photo of that height and width, padding included."""
        height, width = (-(-side // self.padded_to) * self.padded_to for side in self.input_size(photo_size))
        return height, width

    def preprocess(self, photos: Tensor) -> Tensor:
        """RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the network's floating-point input."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """The network's input, as ``preprocess`` gives it, to the embedding map [B, D, h, w]."""
        raise NotImplementedError

    def head(self, embedding_map: Tensor) -> Tensor:
        """Embedding map [B, D, h, w] to class logits [B, K, h, w]."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Encoded:
        """The network's input to the embedding map and what else ``decode`` reads."""
        return Encoded(self.embed(images))

    def decode(self, embedding_map: Tensor, context: Any = None) -> Tensor | MaskLogits:
        """Embedding map [B, D, h, w], walked or not, and context to class logits [B, K, h, w] or ``MaskLogits``."""
        return self.head(embedding_map)

    def forward(self, images: Tensor) -> Tensor | MaskLogits:
        """The network's input to class logits [B, K, h, w] or ``MaskLogits``, without a walk."""
        return self.decode(*self.encode(images))

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
