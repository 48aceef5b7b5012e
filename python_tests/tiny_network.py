"""A network of a hundred weights for tests of what stands around a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rwpm_fast.networks import Network


class TinyNetwork(Network):
    """Two pixels a side to one embedding of 6 channels, 5 classes.

    Attributes:
        passes: photos that it has embedded.
        stop_after: after so many passes the next is interrupted, as by the keyboard; None for never.
    """

    name = "tiny"
    classes = ("road", "sky", "car", "tree", "wall")
    stride = 2
    linear_head = True

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 6, 2, stride=2)
        self.classifier = nn.Conv2d(6, 5, 1, bias=bias)
        self.passes = 0
        self.stop_after = None

    def preprocess(self, photos: Tensor) -> Tensor:
        return photos.to(self.body.weight.dtype) / 32

    def embed(self, images: Tensor) -> Tensor:
        if self.passes == self.stop_after:
            raise KeyboardInterrupt
        self.passes += 1
        return self.body(images)

    def head(self, embedding_map: Tensor) -> Tensor:
        return self.classifier(embedding_map)
