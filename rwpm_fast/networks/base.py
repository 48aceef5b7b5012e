"""The adapter contract: what a segmentation network must offer so that a walk fits between its embedding map and its
head."""

from __future__ import annotations

from os import PathLike
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import load_state, read_state_dict

NetworkType = TypeVar("NetworkType", bound="Network")


class MaskLogits(NamedTuple):
    """Output of a mask head: Q queries, each with a class and a mask.

    Attributes:
        class_logits: [B, Q, K + 1], void last.
        mask_logits: [B, Q, h, w], before the sigmoid.
    """

    class_logits: Tensor
    mask_logits: Tensor


class Encoded(NamedTuple):
    """A network's input, encoded.

    Attributes:
        embedding_map: [B, D, h, w], the pixels that walk.
        context: anything else that the decoder reads, for the same B images; None for a head that reads the map alone.
    """

    embedding_map: Tensor
    context: Any = None


class Network(nn.Module):
    """A segmentation network cut in two at its pixel embedding map: ``preprocess``, ``encode``, walk, ``decode``.

    An adapter whose head computes class logits from the embedding map alone implements ``preprocess``, ``embed`` and
    ``head``; any other implements ``encode`` and ``decode`` in place of the last two. The map covers the whole photo,
    and also the padding if ``padded_to`` is set.

    Attributes:
        name: the network's name in :data:`rwpm_fast.networks.NETWORKS`.
        classes: names of the K classes, in the order of the logit channels.
        stride: pixels of the network's input per side of a pixel of the embedding map, or per row and per column. A
            side of n pixels has n // stride pixels of the map, or one more.
        linear_head: the head is a linear map of each pixel's embedding, with or without bias. A walk then commutes with
            the head, and may be applied to the K logits instead of the D embedding channels.
        mask_head: ``decode`` gives ``MaskLogits`` instead of class logits.
        align_corners: how class logits are up-sampled to the photo's size.
        fixed_size: height and width to which ``preprocess`` resizes every photo; None where another rule gives them.
        padded_to: the network's input is filled up with zeros, at the bottom and on the right, to a multiple of this.
        mirrored: the photo and its mirror image are scored, and the scores averaged. Mask heads only.
        default_score: the score that its authors use, a name in ``rwpm_fast.scores``.
        default_anchor_share: share of the map's pixels that commands anchor unless told otherwise, see
            :func:`rwpm_fast.walk`; 0 for the published walk.
    """

    name: str
    classes: tuple[str, ...]
    stride: int | tuple[int, int]
    linear_head: bool
    mask_head: bool = False
    align_corners: bool = False
    fixed_size: tuple[int, int] | None = None
    padded_to: int = 1
    mirrored: bool = False
    default_score: str = "energy"
    default_anchor_share: float = 0.0

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width to which ``preprocess`` resizes a photo of the given height and width, before padding."""
        return photo_size if self.fixed_size is None else self.fixed_size

    def padded_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the network's input for a photo of the given height and width, padding included."""
        # Of positive numbers, since ONNX rounds the quotient of a negative one to zero.
        multiple = self.padded_to
        height, width = ((side + multiple - 1) // multiple * multiple for side in self.input_size(photo_size))
        return height, width

    def pad(self, images: Tensor, photo_size: tuple[int, int]) -> Tensor:
        """Fill images [B, C, h, w] up with zeros to ``padded_size``, for ``preprocess``."""
        rows, columns = (a - b for a, b in zip(self.padded_size(photo_size), images.shape[-2:], strict=True))
        return F.pad(images, (0, columns, 0, rows))

    def preprocess(self, photos: Tensor) -> Tensor:
        """Convert RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the network's floating-point input."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Compute the embedding map [B, D, h, w] from the network's input, as ``preprocess`` gives it."""
        raise NotImplementedError

    def head(self, embedding_map: Tensor) -> Tensor:
        """Compute class logits [B, K, h, w] from the embedding map [B, D, h, w]."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Encoded:
        """Compute the embedding map, and anything else that ``decode`` reads, from the network's input."""
        return Encoded(self.embed(images))

    def decode(self, embedding_map: Tensor, context: Any = None) -> Tensor | MaskLogits:
        """Compute class logits [B, K, h, w] or ``MaskLogits`` from the embedding map [B, D, h, w], walked or not, and
        the context that ``encode`` gave."""
        return self.head(embedding_map)

    def forward(self, images: Tensor) -> Tensor | MaskLogits:
        """Compute class logits [B, K, h, w] or ``MaskLogits`` from the network's input, without a walk."""
        return self.decode(*self.encode(images))

    @classmethod
    def load(cls: type[NetworkType], weights: str | PathLike[str], *, weights_key: str | None = None) -> NetworkType:
        """Load weights from a file.

        Args:
            weights: file of ``torch.save``, npz or safetensors whose tensors have the names of the entries of
                ``state_dict``, apart from what wrappers put before them, anywhere in the file; see
                :func:`rwpm_fast.networks.checkpoint.read_state_dict`.
            weights_key: place of the tensors in the file, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, several sets of its tensors fit, or they are not those of the
                network: one is missing, unexpected, of another shape, not of floating point or not finite. The message
                names them.
        """

        network = cls()
        state = read_state_dict(weights, network.state_dict(), weights_key=weights_key)
        load_state(network, state, name=network.name, path=weights)
        return network.eval()


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters; the CPU for a module without parameters."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
