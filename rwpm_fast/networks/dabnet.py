"""DABNet (Li et al., BMVC 2019, arXiv 1907.11357): a Cityscapes network of 0.76 M parameters that runs on a CPU.

Module names follow the published weights, so that ``state_dict`` and weight files share their keys.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Network
from .cityscapes import CITYSCAPES_CLASSES

PIXEL_MEAN = (72.39239876, 82.90891754, 73.15835921)  # of Cityscapes, RGB, 0..255


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics; unlike ``nn.BatchNorm2d`` it counts no batches, which weight files lack too."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-3)


class BNPReLU(nn.Module):
    """Batch norm, then PReLU with a slope for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = FrozenBatchNorm(channels)
        self.acti = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.acti(self.bn(x))


class Conv(nn.Module):
    """Convolution without bias that keeps the size at stride 1; then, if ``activate``, batch norm and PReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.bn_prelu = BNPReLU(outputs) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn_prelu(self.conv(x))


class Downsample(nn.Module):
    """Halve the size. Where the channels grow, the max-pooled input is concatenated to the convolution's output."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pooled = outputs > inputs
        self.conv3x3 = Conv(inputs, outputs - inputs if self.pooled else outputs, (3, 3), stride=2, activate=False)
        self.bn_prelu = BNPReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3x3(x)
        if self.pooled:
            # A last odd row or column is kept, as by the padded convolution. What ceil_mode=True would do, but packages
            # of AOTInductor that were made from an even size drop it there (torch 2.13).
            odd = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf)
            y = torch.cat([y, F.max_pool2d(odd, 2)], dim=1)
        return self.bn_prelu(y)


class DABModule(nn.Module):
    """Depthwise asymmetric bottleneck: a local and a dilated depthwise branch at half the width, plus the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        half = channels // 2
        self.bn_relu_1 = BNPReLU(channels)
        self.conv3x3 = Conv(channels, half, (3, 3))
        self.dconv3x1 = Conv(half, half, (3, 1), groups=half)
        self.dconv1x3 = Conv(half, half, (1, 3), groups=half)
        self.ddconv3x1 = Conv(half, half, (3, 1), groups=half, dilation=dilation)
        self.ddconv1x3 = Conv(half, half, (1, 3), groups=half, dilation=dilation)
        self.bn_relu_2 = BNPReLU(half)
        self.conv1x1 = Conv(half, channels, (1, 1), activate=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3x3(self.bn_relu_1(x))
        y = self.dconv1x3(self.dconv3x1(y)) + self.ddconv1x3(self.ddconv3x1(y))
        return self.conv1x1(self.bn_relu_2(y)) + x


def _dab_block(number: int, channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    modules = ((f"DAB_Module_{number}_{i}", DABModule(channels, d)) for i, d in enumerate(dilations))
    return nn.Sequential(OrderedDict(modules))


class DABNet(Network):
    """DABNet for the 19 Cityscapes classes, for inference.

    It takes photos of any size, and has an embedding map of 259 channels at stride 8 and a linear head without bias.
    """

    name = "dabnet"
    classes = CITYSCAPES_CLASSES
    stride = 8
    linear_head = True

    pixel_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.init_conv = nn.Sequential(
            Conv(3, 32, (3, 3), stride=2),
            Conv(32, 32, (3, 3)),
            Conv(32, 32, (3, 3)),
        )
        self.bn_prelu_1 = BNPReLU(32 + 3)
        self.downsample_1 = Downsample(32 + 3, 64)
        self.DAB_Block_1 = _dab_block(1, 64, (2, 2, 2))
        self.bn_prelu_2 = BNPReLU(64 + 64 + 3)
        self.downsample_2 = Downsample(64 + 64 + 3, 128)
        self.DAB_Block_2 = _dab_block(2, 128, (4, 4, 8, 8, 16, 16))
        self.bn_prelu_3 = BNPReLU(128 + 128 + 3)
        self.classifier = nn.Sequential(Conv(128 + 128 + 3, len(self.classes), (1, 1), activate=False))
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)

    def preprocess(self, photos: Tensor) -> Tensor:
        return photos.to(self.pixel_mean.dtype) - self.pixel_mean

    def embed(self, images: Tensor) -> Tensor:
        half = F.avg_pool2d(images, 3, stride=2, padding=1)  # [B, 3, H / 2, W / 2]
        quarter = F.avg_pool2d(half, 3, stride=2, padding=1)  # [B, 3, H / 4, W / 4]
        eighth = F.avg_pool2d(quarter, 3, stride=2, padding=1)  # [B, 3, H / 8, W / 8]

        x = self.bn_prelu_1(torch.cat([self.init_conv(images), half], dim=1))  # [B, 35, H / 2, W / 2]
        x = self.downsample_1(x)  # [B, 64, H / 4, W / 4]
        x = self.bn_prelu_2(torch.cat([self.DAB_Block_1(x), x, quarter], dim=1))  # [B, 131, H / 4, W / 4]
        x = self.downsample_2(x)  # [B, 128, H / 8, W / 8]
        return self.bn_prelu_3(torch.cat([self.DAB_Block_2(x), x, eighth], dim=1))  # [B, 259, H / 8, W / 8]

    def head(self, embedding_map: Tensor) -> Tensor:
        return self.classifier(embedding_map)
