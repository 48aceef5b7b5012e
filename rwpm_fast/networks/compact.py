"""A small segmentation network whose weights are part of the package, so that any road photo can be scored at once.

Depthwise separable residual blocks at strides 4, 8, 16 and 32, the coarse ones for context. Its weights are made by
:mod:`rwpm_fast.training` from DABNet's outputs on real photos and from rendered scenes.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..presets import ANCHOR_SHARE
from .base import Network
from .cityscapes import CITYSCAPES_CLASSES

WEIGHTS = Path(__file__).with_suffix(".npz")

EMBEDDING = 160  # channels
MAX_SIDE = 832  # pixels of the longer side: larger photos are reduced to the size of those of the training


class Conv(nn.Conv2d):
    """Convolution that keeps the size at stride 1; in training followed by a batch norm, until :meth:`fold`."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1):
        padding = dilation * (size // 2)
        super().__init__(inputs, outputs, size, stride, padding, dilation, groups)
        self.norm: nn.BatchNorm2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            return super().forward(x)
        if self.groups == 1:
            return self.norm(super().forward(x))
        # Under autocast the gradient of dilated depthwise weights would be wrong, and another in every run
        # (findings/torch_depthwise_bfloat16_gradient.sh); float32 is faster, too.
        with torch.autocast(x.device.type, enabled=False):
            return self.norm(super().forward(x.to(self.weight.dtype)))

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the batch norm's statistics into weight and bias."""
        norm = self.norm
        if norm is None:
            return
        assert self.bias is not None and norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight *= factor[:, None, None, None]
        self.bias.copy_((self.bias - norm.running_mean) * factor + norm.bias)
        self.norm = None


class Down(nn.Module):
    """Halve the size and change the number of channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = Conv(inputs, inputs, 3, stride=2, groups=inputs)
        self.pointwise = Conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


class Block(nn.Module):
    """Residual block: a depthwise and a pointwise convolution, added to the input."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = Conv(channels, channels, 3, dilation=dilation, groups=channels)
        self.pointwise = Conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.pointwise(F.relu(self.depthwise(x))))


class CompactNet(Network):
    """Network for the 19 Cityscapes classes with 160 channels of embedding at stride 8 and a linear head.

    It takes photos of any size; those with a side of more than 832 pixels are reduced first.
    """

    name = "compact"
    classes = CITYSCAPES_CLASSES
    stride = 8
    linear_head = True
    default_anchor_share = ANCHOR_SHARE

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 24, 3, stride=2)
        self.quarter = nn.Sequential(Down(24, 48), Block(48))
        self.eighth = nn.Sequential(Down(48, 128), *(Block(128, d) for d in (1, 2, 1, 4, 1, 2)))
        self.sixteenth = nn.Sequential(Down(128, 192), *(Block(192, d) for d in (1, 2, 4, 1)))
        self.coarsest = nn.Sequential(Down(192, 256), *(Block(256, d) for d in (1, 2, 4)))
        self.scene = nn.Linear(256, EMBEDDING)
        self.from_coarsest = Conv(256, EMBEDDING, 1)
        self.from_sixteenth = Conv(192, EMBEDDING, 1)
        self.from_eighth = Conv(128, EMBEDDING, 1)
        self.fuse = nn.Sequential(Block(EMBEDDING), Block(EMBEDDING))
        self.classifier = nn.Conv2d(EMBEDDING, len(self.classes), 1)

    @classmethod
    def load(cls, weights: str | PathLike[str] | None = None, *, weights_key: str | None = None) -> CompactNet:
        """Load the weights of the package, or those of another file.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats. None for
                the weights of the package.
            weights_key: place of the tensors in the file, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not those of the network; the message names them.
        """
        return super().load(WEIGHTS if weights is None else weights, weights_key=weights_key)

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        # In whole numbers and without a branch, so that an exported network follows the size of the photo, which is a
        # symbol there: side * MAX_SIDE / longest rounded, halves to even.
        longest = torch.sym_max(torch.sym_max(*photo_size), MAX_SIDE)
        height, width = (
            torch.sym_max(8, (2 * side * MAX_SIDE + longest - 1 + side * MAX_SIDE // longest % 2) // (2 * longest))
            for side in photo_size
        )
        return height, width

    def preprocess(self, photos: Tensor) -> Tensor:
        images = photos.to(self.classifier.weight.dtype) / 127.5 - 1
        size = self.input_size((images.shape[2], images.shape[3]))
        # Where the size stays, every bit does. A branch on the size would be frozen by an export.
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def embed(self, images: Tensor) -> Tensor:
        eighth = self.eighth(self.quarter(F.relu(self.stem(images))))  # [B, 128, H / 8, W / 8]
        sixteenth = self.sixteenth(eighth)  # [B, 192, H / 16, W / 16]
        coarsest = self.coarsest(sixteenth)  # [B, 256, H / 32, W / 32]
        context = self.from_coarsest(coarsest) + self.scene(coarsest.mean((2, 3)))[..., None, None]
        context = _enlarge(context, sixteenth) + self.from_sixteenth(sixteenth)
        return self.fuse(F.relu(_enlarge(context, eighth) + self.from_eighth(eighth)))  # [B, 160, H / 8, W / 8]

    def head(self, embedding_map: Tensor) -> Tensor:
        return self.classifier(embedding_map)

    def normalize(self) -> CompactNet:
        """Add a batch norm after every convolution, for training."""
        for module in self.modules():
            if isinstance(module, Conv):
                module.norm = nn.BatchNorm2d(module.out_channels, momentum=0.05)
        return self

    def fold(self) -> CompactNet:
        """Fold the batch norms into the convolutions, which then compute the same in evaluation mode."""

        for module in self.modules():
            if isinstance(module, Conv):
                module.fold()
        return self


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
