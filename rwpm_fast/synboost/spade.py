"""Spatially adaptive normalization (SPADE, Park et al., CVPR 2019, arXiv 1903.07291): a normalized map whose scale and
shift at every pixel follow from the segmentation there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks import CITYSCAPES_CLASSES


class SPADE(nn.Module):
    """Instance norm without weights of its own, scaled and shifted per pixel by convolutions of the semantic planes.

    With h = ReLU(conv(semantic)), the result is norm(x) · (1 + conv_gamma(h)) + conv_beta(h); all convolutions are 3x3.
    The instance norm has eps 1e-5 and no running statistics, so that training and evaluation compute the same, and a
    batch gives what its images give one by one.

    Args:
        channels: C, channels of the map.
        classes: K, planes of the segmentation.
        hidden: channels between the semantic planes and scale and shift.

    Source: SPADE, equation 1; the settings are those of SynBoost's decoder.

    Example:
        >>> SPADE(256)(torch.randn(1, 256, 32, 64), torch.zeros(1, 19, 256, 512)).shape
        torch.Size([1, 256, 32, 64])
    """

    def __init__(self, channels: int, classes: int = len(CITYSCAPES_CLASSES), hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(classes, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, semantic: Tensor) -> Tensor:
        """Normalize a map.

        Args:
            x: [B, C, h, w].
            semantic: [B, K, H, W], one-hot, all zeros where the class is ignored; resized to h × w by the nearest
                pixel, torch's ``nearest``.

        Returns:
            [B, C, h, w], in the wider one of the dtypes of ``x`` and of the convolutions.

        Raises:
            ValueError: an input is of another shape.
        """
        channels, classes = self.gamma.out_channels, self.hidden.in_channels
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"x: expected [B, {channels}, h, w], got {list(x.shape)}")
        if semantic.ndim != 4 or semantic.shape[:2] != (x.shape[0], classes):
            raise ValueError(f"semantic: expected [{x.shape[0]}, {classes}, H, W], got {list(semantic.shape)}")
        if semantic.shape[-2:] != x.shape[-2:]:
            semantic = F.interpolate(semantic, x.shape[-2:], mode="nearest")
        hidden = F.relu(self.hidden(semantic))
        # One convolution for both, so that their input is read, and its gradient computed, once.
        assert self.gamma.bias is not None and self.beta.bias is not None
        weight = torch.cat([self.gamma.weight, self.beta.weight])
        bias = torch.cat([self.gamma.bias, self.beta.bias])
        gamma, beta = F.conv2d(hidden, weight, bias, padding=1).chunk(2, dim=1)
        return _instance_norm(x) * (1 + gamma) + beta


def _instance_norm(x: Tensor) -> Tensor:
    """Bring every channel of every image to mean 0 and variance 1; that of a single pixel to 0.

    It is the batch norm of each image alone, which keeps channels-last maps as they are and whose gradient takes a
    small part of the time of that of group norm. The mean is subtracted before, as far as float32 knows it, so that
    digits remain where it is large; no gradient goes that way, since the result does not depend on what is subtracted.
    """
    x = x - x.detach().mean((2, 3), keepdim=True)
    return torch.cat([torch.batch_norm(image, None, None, None, None, True, 0.0, 1e-5, False) for image in x.split(1)])
