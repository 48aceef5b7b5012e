"""CC-FPSE (Liu et al., NeurIPS 2019, arXiv 1910.06809), the generator that SynBoost renders its synthesis with, and the
image encoder that gives it the look of a photo.

The label map conditions every block: a feature pyramid over it predicts the depthwise kernels of each pixel. Module
names follow the published weights, so that ``state_dict`` and weight files share their keys. For inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.checkpoint import load_state, read_state_dict
from ..networks.precision import at_least_float32

LABELS = 36  # channels of the generator's input: 35 Cityscapes label ids and the edges between them
LATENT = 256  # channels of z
ENCODED_SIZE = (256, 256)  # to which the encoder resizes its images

# The generator's blocks from coarse to fine, each at twice the size of the one before: inputs and outputs, in widths.
BLOCKS = {
    "head_0": (16, 16),
    "G_middle_0": (16, 16),
    "G_middle_1": (16, 16),
    "up_0": (16, 8),
    "up_1": (8, 4),
    "up_2": (4, 2),
    "up_3": (2, 1),
}
LEVELS = len(BLOCKS)
CELL = 2 ** (LEVELS - 1)  # pixels of the output per side of a pixel of the coarsest map

ENCODER_WIDTHS = (1, 2, 4, 8, 8, 8)  # outputs of the image encoder's layers, each of stride 2, in widths
TAPS = 9  # weights of a 3x3 kernel


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _enlarge(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class SpectralConv2d(nn.Module):
    """Convolution without bias whose weight is divided by its spectral norm, as estimated when it was trained.

    The estimate is u' W v of the stored singular vectors u and v, the weight reshaped to a matrix W; it is computed in
    float32 at least.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel // 2
        self.weight_orig = nn.Conv2d(inputs, outputs, kernel, bias=False).weight
        matrix = self.weight_orig.detach().flatten(1)
        right = F.normalize(matrix.sum(0), dim=0)  # a start, which weight files replace
        self.register_buffer("weight_u", F.normalize(matrix @ right, dim=0))
        self.register_buffer("weight_v", right)

    def forward(self, x: Tensor) -> Tensor:
        weight, left, right = map(at_least_float32, (self.weight_orig, self.weight_u, self.weight_v))
        # Sums of products, because autocast would run a matrix product in half precision.
        norm = (left * (weight.flatten(1) * right).sum(1)).sum()
        return F.conv2d(x, (weight / norm).to(self.weight_orig.dtype), stride=self.stride, padding=self.padding)


class Predictor(nn.Sequential):
    """Two 3x3 convolutions with a ReLU between them, that predict something of every pixel from its condition."""

    def __init__(self, condition: int, hidden: int, outputs: int, *tail: nn.Module) -> None:
        convs = nn.Conv2d(condition, hidden, 3, padding=1), nn.Conv2d(hidden, outputs, 3, padding=1)
        super().__init__(convs[0], nn.ReLU(), convs[1], *tail)

    def taps(self, condition: Tensor) -> Iterator[Tensor]:
        """Yield the outputs [B, C, H, W] of each tap of a depthwise kernel, row by row; all of them together would take
        nine times the memory."""
        hidden = self[1](self[0](condition))
        last = cast(nn.Conv2d, self[2])
        assert last.bias is not None
        for tap in range(TAPS):
            yield F.conv2d(hidden, last.weight[tap::TAPS], last.bias[tap::TAPS], padding=1)


def _conditional_depthwise(x: Tensor, taps: Iterator[Tensor]) -> Tensor:
    """Convolve every channel with a 3x3 kernel of each pixel's own."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    result = torch.zeros_like(x)
    for tap, weight in enumerate(taps):
        row, column = divmod(tap, 3)
        result = torch.addcmul(result, weight, padded[..., row : row + height, column : column + width])
    return result


class BatchSPADE(nn.Module):
    """Batch norm whose scale and shift are predicted for every pixel from its condition (Park et al., CVPR 2019)."""

    def __init__(self, channels: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(condition, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.mlp_shared(condition)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


def _unread_norm(channels: int) -> nn.ModuleDict:
    """A norm that the published weights hold and nothing reads."""
    return nn.ModuleDict({"norm_layer": nn.BatchNorm2d(channels)})


class ConditionalBlock(nn.Module):
    """Residual block of two depthwise separable convolutions (section 3.2 of the paper): the condition predicts the
    depthwise kernels, and an attention in 0..1 that multiplies the outputs of the 1x1 convolutions.

    The shortcut is the input, or its projection after a SPADE norm where the number of channels changes.
    """

    def __init__(self, inputs: int, outputs: int, condition: int, hidden: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.gen_weights1 = Predictor(condition, hidden, TAPS * inputs)
        self.gen_weights2 = Predictor(condition, hidden, TAPS * outputs)
        self.gen_se_weights1 = Predictor(condition, hidden, middle, nn.Sigmoid())
        self.gen_se_weights2 = Predictor(condition, hidden, outputs, nn.Sigmoid())
        self.conv_0 = _unread_norm(inputs)
        self.norm_0 = nn.BatchNorm2d(middle)  # nothing reads it either
        self.conv_1 = nn.Conv2d(inputs, middle, 1)
        self.norm_1 = nn.BatchNorm2d(inputs)
        self.conv_2 = _unread_norm(middle)
        self.norm_2 = nn.BatchNorm2d(middle)
        self.conv_3 = nn.Conv2d(middle, outputs, 1)
        self.projected = inputs != outputs
        if self.projected:
            self.conv_s = SpectralConv2d(inputs, outputs, 1)
            self.norm_s = BatchSPADE(inputs, condition, hidden)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv_1(_conditional_depthwise(self.norm_1(x), self.gen_weights1.taps(condition)))
        y = _leaky(y * self.gen_se_weights1(condition))
        y = self.conv_3(_conditional_depthwise(self.norm_2(y), self.gen_weights2.taps(condition)))
        y = _leaky(y * self.gen_se_weights2(condition))
        return y + (self.conv_s(self.norm_s(x, condition)) if self.projected else x)


def _label_layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = SpectralConv2d(inputs, outputs, kernel, stride)
    return nn.Sequential(nn.Sequential(conv, nn.BatchNorm2d(outputs)), nn.LeakyReLU(0.2))


class CCFPSEGenerator(nn.Module):
    """Generator of CC-FPSE: labels and a latent vector to an image.

    Args:
        size: height and width of the images, multiples of 64. The published weights are for 256 x 512.
        width: channels of the finest map; all others are multiples of it. Published weights have 64.

    Raises:
        ValueError: a side is no positive multiple of 64.

    Example:
        >>> generator = CCFPSEGenerator.load("latest_net_G.pth")
        >>> generator(labels, torch.zeros(1, 256)).shape  # labels [1, 36, 256, 512]
        torch.Size([1, 3, 256, 512])
    """

    name = "ccfpse_generator"

    def __init__(self, size: tuple[int, int] = (256, 512), width: int = 64) -> None:
        super().__init__()
        if len(size) != 2 or any(side < CELL or side % CELL for side in size):
            raise ValueError(f"size: expected height and width, positive multiples of {CELL}, got {size}")
        self.size = size
        self.fc = nn.Linear(LATENT, 16 * width * (size[0] // CELL) * (size[1] // CELL))
        self.labelenc1 = _label_layer(LABELS, width, 3)
        for level in range(2, LEVELS + 1):
            self.add_module(f"labelenc{level}", _label_layer(width, width, 3, stride=2))
        for level in range(1, LEVELS):
            self.add_module(f"labellat{level}", _label_layer(width, width, 1))
        for level in range(1, LEVELS):
            self.add_module(f"labeldec{level}", _label_layer(width, width, 3))
        for name, (inputs, outputs) in BLOCKS.items():
            block = ConditionalBlock(inputs * width, outputs * width, LABELS + width, 2 * width)
            self.add_module(name, block)
        self.conv_img = nn.Conv2d(width, 3, 3, padding=1)

    @classmethod
    def load(
        cls,
        weights: str | PathLike[str],
        *,
        weights_key: str | None = None,
        size: tuple[int, int] = (256, 512),
        width: int = 64,
    ) -> CCFPSEGenerator:
        """Load a checkpoint of CC-FPSE's generator.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.
            size: height and width that the weights were trained for, 256 x 512 in published weights.
            width: channels of the finest map, 64 in published weights.

        Returns:
            The generator, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a side of ``size`` is no positive multiple of 64; the file is no weight file, or its tensors are
                not those of the generator, or of another size; the message names them.
        """
        with torch.device("meta"):  # no random weights are drawn, which the file would replace
            network = cls(size, width)
        state = read_state_dict(weights, network.state_dict(), weights_key=weights_key)
        _check_start(state, network, 16 * width, weights)
        network.to_empty(device="cpu")
        load_state(network, state, name=cls.name, path=weights)
        return network.eval()

    def forward(self, labels: Tensor, z: Tensor) -> Tensor:
        """Render an image.

        Args:
            labels: [B, 36, H, W] of the generator's size: one plane of 0 and 1 for each Cityscapes label id, and the
                edges between labels; see :func:`rwpm_fast.synboost.synthesis.label_planes`.
            z: [B, 256], the look of the image, about normally distributed.

        Returns:
            RGB in -1..1, [B, 3, H, W].

        Raises:
            ValueError: labels or z are of another shape.
        """
        height, width = self.size
        if labels.ndim != 4 or labels.shape[1:] != (LABELS, height, width):
            raise ValueError(
                f"labels: expected shape [B, {LABELS}, {height}, {width}], got {list(labels.shape)}; resize the label "
                "map before its planes are made, or build the generator for another size"
            )
        if z.shape != (len(labels), LATENT):
            raise ValueError(f"z: expected shape {[len(labels), LATENT]}, got {list(z.shape)}")
        labels, z = labels.to(self.fc.weight.dtype), z.to(self.fc.weight.dtype)
        x = self.fc(z).unflatten(1, (-1, height // CELL, width // CELL))
        for name, condition in zip(BLOCKS, self._conditions(labels), strict=True):
            if name != "head_0":
                x = _enlarge(x)
            x = self.get_submodule(name)(x, condition)
        return torch.tanh(self.conv_img(_leaky(x)))

    def _conditions(self, labels: Tensor) -> Iterator[Tensor]:
        """Yield what conditions each block: the labels at its size, and a feature pyramid over them."""
        features = [self.labelenc1(labels)]
        for level in range(2, LEVELS + 1):
            features.append(self.get_submodule(f"labelenc{level}")(features[-1]))
        merged = features.pop()
        yield _with_labels(merged, labels)
        for level in range(1, LEVELS):
            lateral = self.get_submodule(f"labellat{level}")(features.pop())
            merged = self.get_submodule(f"labeldec{level}")(_enlarge(merged) + lateral)
            yield _with_labels(merged, labels)


def _with_labels(features: Tensor, labels: Tensor) -> Tensor:
    """Put the labels, at the size of the features, in front of them."""
    return torch.cat([F.interpolate(labels, features.shape[-2:], mode="nearest"), features], dim=1)


def _check_start(state: dict[str, Tensor], network: CCFPSEGenerator, channels: int, path: str | PathLike[str]) -> None:
    """Check that a checkpoint's coarsest map has as many pixels as the generator's."""
    weight = state.get("fc.weight")
    if weight is None or not weight.ndim or len(weight) == len(network.fc.weight):
        return
    cells, wanted = len(weight) // channels, len(network.fc.weight) // channels
    raise ValueError(
        f"size: expected the size that the weights were trained for: fc.weight of {path}, {list(weight.shape)}, gives "
        f"{cells} cells of {CELL} x {CELL} pixels, got {network.size[0]} x {network.size[1]}, which has {wanted}"
    )


class CCFPSEEncoder(nn.Module):
    """Image encoder of CC-FPSE: a photo to the distribution of the latent vector that renders its look.

    Args:
        width: outputs of the first layer; all others are multiples of it. Published weights have 64.

    Example:
        >>> encoder = CCFPSEEncoder.load("latest_net_E.pth")
        >>> mean, log_variance = encoder(torch.zeros(1, 3, 256, 512))  # [1, 256] each
    """

    name = "ccfpse_encoder"

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        inputs = 3
        for number, multiple in enumerate(ENCODER_WIDTHS, 1):
            outputs = multiple * width
            conv = SpectralConv2d(inputs, outputs, 3, stride=2)
            self.add_module(f"layer{number}", nn.Sequential(conv, nn.InstanceNorm2d(outputs)))
            inputs = outputs
        pixels = ENCODED_SIZE[0] * ENCODED_SIZE[1] // 4 ** len(ENCODER_WIDTHS)
        self.fc_mu = nn.Linear(inputs * pixels, LATENT)
        self.fc_var = nn.Linear(inputs * pixels, LATENT)

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None, width: int = 64) -> CCFPSEEncoder:
        """Load a checkpoint of CC-FPSE's image encoder.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.
            width: outputs of the first layer, 64 in published weights.

        Returns:
            The encoder, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not those of the encoder; the message names them.
        """
        with torch.device("meta"):
            network = cls(width)
        state = read_state_dict(weights, network.state_dict(), weights_key=weights_key)
        network.to_empty(device="cpu")
        load_state(network, state, name=cls.name, path=weights)
        return network.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            images: RGB in -1..1, [B, 3, H, W] of any size; resized to 256 x 256, bilinear.

        Returns:
            Mean and logarithm of the variance of the latent vector, [B, 256] each.

        Raises:
            ValueError: images are of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"images: expected shape [B, 3, H, W], got {list(images.shape)}")
        x = F.interpolate(images, ENCODED_SIZE, mode="bilinear", align_corners=False).to(self.fc_mu.weight.dtype)
        for number in range(1, len(ENCODER_WIDTHS) + 1):
            x = _leaky(self.get_submodule(f"layer{number}")(x))
        x = x.flatten(1)
        return self.fc_mu(x), self.fc_var(x)
