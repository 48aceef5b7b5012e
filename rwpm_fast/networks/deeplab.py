"""DeepLabV3+ on WideResNet38 (Zhu et al., CVPR 2019, arXiv 1812.01593): the network of PEBAL and Balanced Energy.

Module names follow the published weights, so that ``state_dict`` and weight files share their keys.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from os import PathLike
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Network
from .checkpoint import load_state, read_state_dict
from .cityscapes import CITYSCAPES_CLASSES
from .precision import at_least_float32

PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB, 0..1

# Stage of the trunk: number of blocks, outputs of a block's convolutions in widths, stride of the first one, dilation.
STAGES = {
    "mod2": (3, (2, 2), 1, 1),
    "mod3": (3, (4, 4), 1, 1),
    "mod4": (6, (8, 8), 2, 1),
    "mod5": (3, (8, 16), 1, 2),
    "mod6": (1, (8, 16, 32), 1, 4),
    "mod7": (1, (16, 32, 64), 1, 4),
}
ASPP_RATES = (12, 24, 36)

# Biases of heads that exist in training only.
UNREAD = re.compile(r"(?<![^.])(?:aux|dsn)")


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution without bias that keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


def _norm(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class Block(nn.Module):
    """Residual block whose norms come before the convolutions; kernels are 3x3, or 1x1, 3x3, 1x1 where there are three.

    The shortcut is the input, or a projection of the normed input where channels or size change.
    """

    def __init__(self, inputs: int, outputs: Sequence[int], stride: int, dilation: int) -> None:
        super().__init__()
        self.bn1 = nn.Sequential(*_norm(inputs))
        kernels = (1, 3, 1) if len(outputs) == 3 else (3, 3)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = inputs
        for number, (kernel, out) in enumerate(zip(kernels, outputs, strict=True), 1):
            if number > 1:
                layers[f"bn{number}"] = nn.Sequential(*_norm(channels))
            layers[f"conv{number}"] = _conv(
                channels,
                out,
                kernel,
                stride=stride if number == 1 else 1,
                dilation=dilation if kernel == 3 else 1,
            )
            channels = out
        self.convs = nn.Sequential(layers)
        projected = stride > 1 or inputs != channels
        self.proj_conv = _conv(inputs, channels, 1, stride=stride) if projected else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(x)
        shortcut = x if self.proj_conv is None else self.proj_conv(y)
        return self.convs(y).add_(shortcut)


class ASPP(nn.Module):
    """The photo's mean, a 1x1 and three dilated 3x3 convolutions, concatenated."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        convs = [_conv(inputs, outputs, 1), *(_conv(inputs, outputs, 3, dilation=rate) for rate in ASPP_RATES)]
        self.features = nn.ModuleList(nn.Sequential(conv, *_norm(outputs)) for conv in convs)
        self.img_conv = nn.Sequential(_conv(inputs, outputs, 1), *_norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.img_conv(x.mean((-2, -1), keepdim=True))  # [B, C, 1, 1]
        return torch.cat([mean.expand(-1, -1, *x.shape[-2:]), *(feature(x) for feature in self.features)], dim=1)


class DeepLabWRN38(Network):
    """DeepLabV3+ on WideResNet38 for the 19 Cityscapes classes, for inference: photos of any size, an embedding map of
    256 channels >= 0 at stride 2, a linear head without bias.

    Logits are those of the 19 classes, from which PEBAL and Balanced Energy compute their scores; the 20th output,
    which their training adds for abstention, is among ``all_logits``.

    Embedding map and logits are float32 also where the network itself runs in half precision, by ``network.half()``,
    ``network.bfloat16()`` or autocast, so that a walk loses no digits.

    Args:
        outputs: rows of the classifier, 20, or 19 for the Cityscapes network that training started from.
        width: channels of the first convolution; all others are multiples of it. Published weights have 64.
    """

    name = "deeplab_wrn38"
    classes = CITYSCAPES_CLASSES
    stride = 2
    linear_head = True
    align_corners = True
    default_score = "blurred_energy"

    mod2: nn.Module
    mod3: nn.Module
    mod4: nn.Module
    mod5: nn.Module
    mod6: nn.Module
    mod7: nn.Module

    def __init__(self, outputs: int = 20, width: int = 64) -> None:
        super().__init__()
        self.mod1 = nn.Sequential(OrderedDict(conv1=_conv(3, width, 3)))
        channels = width
        for stage, (blocks, widths, stride, dilation) in STAGES.items():
            module = nn.Sequential()
            for number in range(1, blocks + 1):
                convs = [width * multiple for multiple in widths]
                module.add_module(f"block{number}", Block(channels, convs, stride if number == 1 else 1, dilation))
                channels = convs[-1]
            self.add_module(stage, module)
        embedded, fine = 4 * width, 3 * width // 4
        self.aspp = ASPP(channels, embedded)
        self.bot_fine = _conv(2 * width, fine, 1)
        self.bot_aspp = _conv((2 + len(ASPP_RATES)) * embedded, embedded, 1)
        self.final = nn.Sequential(
            _conv(fine + embedded, embedded, 3),
            *_norm(embedded),
            _conv(embedded, embedded, 3),
            *_norm(embedded),
            _conv(embedded, outputs, 1),
        )

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None, width: int = 64) -> DeepLabWRN38:
        """Load a checkpoint of PEBAL, of Balanced Energy or of the Cityscapes network that their training starts from.

        Prefixes that wrappers put before names, and entries that only training needs, are dropped. The classifier has
        as many rows as the file, 19 or 20.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.
            width: channels of the first convolution, 64 in published weights.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not those of the network; the message names them.
        """
        # On "meta" no random weights are drawn, which the file would replace.
        with torch.device("meta"):
            network = cls(width=width)
        state = read_state_dict(weights, network.state_dict(), weights_key=weights_key, unread=UNREAD)
        classifier = state.get("final.6.weight")
        if classifier is not None and classifier.shape[:1] == (19,):
            with torch.device("meta"):
                network = cls(19, width)
        network.to_empty(device="cpu")
        load_state(network, state, name=cls.name, path=weights)
        return network.eval()

    def preprocess(self, photos: Tensor) -> Tensor:
        weight = next(self.parameters())  # for its dtype and device
        mean, std = (weight.new_tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
        return (photos.to(weight.dtype) / 255).sub_(mean).div_(std)

    def embed(self, images: Tensor) -> Tensor:
        x = self.mod2(F.max_pool2d(self.mod1(images), 3, stride=2, padding=1))  # [B, 128, H / 2, W / 2]
        size = x.shape[-2:]
        fine = self.bot_fine(x)  # [B, 48, H / 2, W / 2]; computed early, so that the wider map is not kept
        x = self.mod3(F.max_pool2d(x, 3, stride=2, padding=1))  # [B, 256, H / 4, W / 4]
        x = self.mod7(self.mod6(self.mod5(self.mod4(x))))  # [B, 4096, H / 8, W / 8]
        x = self.bot_aspp(self.aspp(x))  # [B, 256, H / 8, W / 8]
        x = torch.cat([fine, F.interpolate(x, size, mode="bilinear", align_corners=True)], dim=1)
        for layer in islice(self.final, 6):  # one by one, so that no map outlives the layer that reads it
            x = layer(x)  # [B, 256, H / 2, W / 2]
        return at_least_float32(x)

    def head(self, embedding_map: Tensor) -> Tensor:
        return self._classify(embedding_map, len(self.classes))

    def all_logits(self, embedding_map: Tensor) -> Tensor:
        """Compute all outputs of the classifier, [B, 19 or 20, h, w], from the embedding map [B, 256, h, w].

        The 20th output is abstention.
        """

        return self._classify(embedding_map)

    def _classify(self, embedding_map: Tensor, outputs: int | None = None) -> Tensor:
        """Apply the first ``outputs`` rows of the classifier, or all."""
        weight = cast(nn.Conv2d, self.final[6]).weight[:outputs]
        with torch.autocast(embedding_map.device.type, enabled=False):
            return F.conv2d(embedding_map, weight.to(embedding_map.dtype))
