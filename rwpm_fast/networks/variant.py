"""A network as a protocol wants it: photos of a fixed size, some classes left out of the score."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from torch import Tensor

from .base import Encoded, MaskLogits, Network
from .classes import keep_classes, kept_classes
from .resize import resize_photos


class Variant(Network):
    """A network that sees every photo at one size, or whose score leaves classes out. It shares the network's weights,
    and the network stays as it is.

    Scores come at the size of the photo all the same.

    Args:
        network: which to change.
        size: height and width to which photos are resized, antialiased; None for the network's own rule.
        leave_out: names of classes, or their numbers from 0; see :func:`rwpm_fast.networks.classes.keep_classes`.

    Raises:
        ValueError: the network resizes photos by itself to another size, or there is no such class.

    Example:
        >>> network = Variant(networks.load("dabnet", "dabnet.npz"), size=(512, 1024))
    """

    def __init__(
        self, network: Network, *, size: tuple[int, int] | None = None, leave_out: Sequence[str | int] = ()
    ) -> None:
        super().__init__()
        if size is not None and (found := network.input_size(size)) != tuple(size):
            network = copy(network)  # it resizes photos itself, and may take another size for its own
            network.fixed_size = (size[0], size[1])
            if network.input_size(size) != network.fixed_size:
                raise ValueError(
                    f"size: expected none with {network.name}, which resizes photos itself, those of {size[0]} x "
                    f"{size[1]} to {found[0]} x {found[1]}"
                )
            size = None
        self.network = network
        self.fixed_size = size
        self._kept = kept_classes(network.classes, leave_out)
        self.classes = tuple(network.classes[place] for place in self._kept)
        for taken in (
            "name",
            "stride",
            "mask_head",
            "align_corners",
            "padded_to",
            "mirrored",
            "default_score",
            "default_anchor_share",
        ):
            setattr(self, taken, getattr(network, taken))

    @property
    def linear_head(self) -> bool:  # type: ignore[override] # it may change with the network's head
        """Whether the network's head is linear."""
        return self.network.linear_head

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        return self.network.input_size(photo_size if self.fixed_size is None else self.fixed_size)

    def preprocess(self, photos: Tensor) -> Tensor:
        return self.network.preprocess(photos if self.fixed_size is None else resize_photos(photos, self.fixed_size))

    def embed(self, images: Tensor) -> Tensor:
        return self.network.embed(images)

    def head(self, embedding_map: Tensor) -> Tensor:
        return self.network.head(embedding_map)[:, self._kept]

    def encode(self, images: Tensor) -> Encoded:
        return self.network.encode(images)

    def decode(self, embedding_map: Tensor, context: Any = None) -> Tensor | MaskLogits:
        return keep_classes(self.network.decode(embedding_map, context), self._kept)
