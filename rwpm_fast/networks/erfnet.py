"""ERFNet (Romera et al., T-ITS 2018): the Cityscapes network of the course "Real-Time Anomaly Segmentation", whose
weights are ``erfnet_pretrained.pth``.

Module names follow the published weights, so that ``state_dict`` and weight files share their keys.
"""

from __future__ import annotations

import re
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Network
from .checkpoint import load_state, read_state_dict
from .cityscapes import CITYSCAPES_CLASSES
from .precision import at_least_float32
from .resize import resize_photos

EPS = 1e-3  # of all batch norms

# The classifier on the encoder's map, which only the first stage of the training uses.
UNREAD = re.compile(r"^encoder\.output_conv\.")


class Downsampler(nn.Module):
    """Halve an even size: a strided convolution beside the max-pooled input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(torch.cat([self.conv(x), F.max_pool2d(x, 2)], dim=1)))


class Upsampler(nn.Module):
    """Double the size by a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Residual block of two factorized 3x3 convolutions, of which the second is dilated."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv3x1_1 = _column(channels)
        self.conv1x3_1 = _row(channels)
        self.bn1 = nn.BatchNorm2d(channels, eps=EPS)
        self.conv3x1_2 = _column(channels, dilation)
        self.conv1x3_2 = _row(channels, dilation)
        self.bn2 = nn.BatchNorm2d(channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1x3_1(F.relu(self.conv3x1_1(x)))))
        y = self.bn2(self.conv1x3_2(F.relu(self.conv3x1_2(y))))
        return F.relu(y + x)


def _column(channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))


def _row(channels: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))


class Encoder(nn.Module):
    """Images to 128 channels at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.initial_block = Downsampler(3, 16)
        self.layers = nn.Sequential(
            Downsampler(16, 64),
            *(Residual(64) for _ in range(5)),
            Downsampler(64, 128),
            *(Residual(128, dilation) for _ in range(2) for dilation in (2, 4, 8, 16)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.initial_block(images))


class Decoder(nn.Module):
    """The encoder's map to logits at the size of the image."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Upsampler(128, 64), Residual(64), Residual(64), Upsampler(64, 16), Residual(16), Residual(16)
        )
        self.output_conv = nn.ConvTranspose2d(16, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_conv(self.layers(x))


class ERFNet(Network):
    """ERFNet for the 19 Cityscapes classes, for inference.

    Photos are resized to 512 x 1024, at which the network was trained and the course scores; colors are in 0..1, not
    normalized. The published weights have 20 outputs: the last is void, of which the training's loss had a weight of
    0, so that no score reads it; it is among ``all_logits``. Scores over all 20 outputs, as the course's script
    computes them, differ.

    The encoder's map walks: 128 channels >= 0 at stride 8, 8192 pixels. The map before the last layer has 16 channels
    at stride 2, too few to tell manifolds apart and sixteen times as many pixels, and the layer itself, a transposed
    convolution, makes four pixels of each, so that its logits cannot walk in place of its map either. What follows the
    encoder is not linear: its embeddings walk, not the logits.

    Args:
        outputs: rows of the classifier, 20, or 19 for one without void.
        size: height and width to which photos are resized; None for their own size, filled up to multiples of 8.
    """

    name = "erfnet"
    classes = CITYSCAPES_CLASSES
    stride = 8
    linear_head = False
    padded_to = 8
    default_score = "max_logit"

    def __init__(self, outputs: int = 20, size: tuple[int, int] | None = (512, 1024)) -> None:
        super().__init__()
        self.fixed_size = size
        self.encoder = Encoder()
        self.decoder = Decoder(outputs)

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> ERFNet:
        """Load ``erfnet_pretrained.pth``, or a checkpoint of the network's own training.

        The prefix ``module.`` of a file that ``DataParallel`` saved, and the encoder's classifier, which only training
        needs, are dropped. The classifier has as many rows as the file, 19 or 20.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not those of the network; the message names them.
        """
        network = cls()
        state = read_state_dict(weights, network.state_dict(), weights_key=weights_key, unread=UNREAD)
        bias = state.get("decoder.output_conv.bias")
        if bias is not None and bias.shape == (19,):
            network = cls(outputs=19)
        load_state(network, state, name=cls.name, path=weights)
        return network.eval()

    def preprocess(self, photos: Tensor) -> Tensor:
        if self.fixed_size is not None:
            photos = resize_photos(photos, self.fixed_size)
        images = photos.to(next(self.parameters()).dtype) / 255
        return self.pad(images, (photos.shape[-2], photos.shape[-1]))

    def embed(self, images: Tensor) -> Tensor:
        return at_least_float32(self.encoder(images))  # [B, 128, H / 8, W / 8]

    def head(self, embedding_map: Tensor) -> Tensor:
        """Compute the logits of the 19 classes, [B, 19, 8 h, 8 w], from the embedding map [B, 128, h, w]."""
        return self.all_logits(embedding_map)[:, : len(self.classes)]

    def all_logits(self, embedding_map: Tensor) -> Tensor:
        """Compute all outputs of the classifier, [B, 19 or 20, 8 h, 8 w], from the embedding map; the 20th is void."""
        dtype = next(self.decoder.parameters()).dtype
        return at_least_float32(self.decoder(embedding_map.to(dtype)))
