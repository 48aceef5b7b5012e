"""The dissimilarity network of SynBoost (Di Biase et al., CVPR 2021, arXiv 2103.05445): it finds where a photo differs
from the synthesis of its segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_integers
from ..io.text import listed
from ..networks import CITYSCAPES_CLASSES
from ..networks.checkpoint import load_state, read_state_dict
from ..networks.precision import at_least_float32
from .dissimilarity_layout import RenamedState, released_names
from .spade import SPADE
from .vgg import VGG16

CLASSES = len(CITYSCAPES_CLASSES)
IGNORED = (CLASSES, 255)  # labels of pixels without a class
MULTIPLE = 8  # of which height and width must be: the coarsest of the four levels has stride 8


def semantic_one_hot(labels: Tensor) -> Tensor:
    """Turn a segmentation into 19 planes, the form in which the network reads it.

    Args:
        labels: [..., H, W], integers: train ids 0..18, or 19 or 255 for ignored pixels.

    Returns:
        [..., 19, H, W] float32: 1 in the plane of the pixel's class, else 0. Ignored pixels are 0 in all planes.

    Raises:
        TypeError: the labels are not integers.
        ValueError: there are fewer than two dimensions, or other labels.

    Example:
        >>> semantic_one_hot(torch.tensor([[0, 18], [19, 255]])).sum((-2, -1)).nonzero().flatten()
        tensor([ 0, 18])
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels: expected integers, got {_dtype_name(labels)}")
    if labels.ndim < 2:
        raise ValueError(f"labels: expected [..., H, W], got {list(labels.shape)}")
    labels = labels.long()
    unknown = (labels < 0) | (labels > CLASSES) & (labels != 255)
    if unknown.any():
        raise ValueError(
            f"labels: expected train ids 0..{CLASSES - 1}, or {' or '.join(map(str, IGNORED))} for ignored pixels, got "
            f"{listed(labels[unknown].unique().tolist())}; map label ids to train ids first"
        )
    planes = torch.arange(CLASSES, device=labels.device).view(-1, 1, 1)
    return (labels.unsqueeze(-3) == planes).float()


class MapEncoder(nn.Module):
    """Encoder of the semantic planes or of the dispersion maps: a convolution and ReLU at each of the four levels, of
    which each has half the size and twice the channels of the one before.

    Args:
        inputs: channels of the input.
        width: channels of the finest level.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(inputs, width, 7, padding=3)]
        convs += [nn.Conv2d(m * width, 2 * m * width, 3, stride=2, padding=1) for m in (1, 2, 4)]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        self.levels = nn.ModuleList(convs)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for conv in self.levels:
            x = F.relu(conv(x))
            maps.append(x)
        return maps


class DecoderBlock(nn.Module):
    """The decoder at one level: convolution, SELU, convolution, SELU, and a transposed convolution to the size of the
    next level. With SPADE, SPADE and SELU follow the first SELU, and SPADE precedes the second.

    The first convolution reads the output of the coarser block, the correlation and the fused maps, in this order.

    Args:
        coarser: channels of the output of the block before, 0 for the coarsest.
        fused: channels of the fused maps.
        outputs: channels of all convolutions.
        hidden: hidden channels of SPADE, None for a block without it.
        image_correlation: a channel of correlation is read.
        upsample: there is a next level.
    """

    def __init__(
        self, coarser: int, fused: int, outputs: int, *, hidden: int | None, image_correlation: bool, upsample: bool
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(coarser + image_correlation + fused, outputs, 3, padding=1)
        self.first_norm = None if hidden is None else SPADE(outputs, CLASSES, hidden)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.second_norm = None if hidden is None else SPADE(outputs, CLASSES, hidden)
        self.upsample = nn.ConvTranspose2d(outputs, outputs, 2, stride=2) if upsample else None

    def forward(self, coarser: Tensor | None, correlation: Tensor | None, fused: Tensor, semantic: Tensor) -> Tensor:
        if self.first_norm is not None:
            semantic = F.interpolate(semantic, fused.shape[-2:], mode="nearest")  # once for both norms
        x = F.selu(self._read(coarser, correlation, fused))
        if self.first_norm is not None:
            x = F.selu(self.first_norm(x, semantic))
        x = self.second(x.to(self.second.weight.dtype))  # the correlation has made it float32
        if self.second_norm is not None:
            x = self.second_norm(x, semantic)
        x = F.selu(x)
        return x if self.upsample is None else self.upsample(x)

    def _read(self, coarser: Tensor | None, correlation: Tensor | None, fused: Tensor) -> Tensor:
        """Apply the first convolution.

        The correlation keeps apart from the other channels, in float32: its mean is large against its variation, of
        which half precision would leave little, and it may be beyond the range of float16.
        """
        others = fused if coarser is None else torch.cat([coarser, fused], dim=1)
        if correlation is None:
            return self.first(others)
        sizes = [others.shape[1] - fused.shape[1], 1, fused.shape[1]]
        coarser_weight, correlation_weight, fused_weight = self.first.weight.split(sizes, dim=1)
        x = F.conv2d(others, torch.cat([coarser_weight, fused_weight], dim=1), self.first.bias, padding=1)
        return x + _conv_in_float32(correlation, correlation_weight, padding=1)


class DissimilarityNet(nn.Module):
    """Network that compares a photo with the synthesis of its segmentation: two logits a pixel, for what the
    segmentation explains and for an anomaly.

    VGG16 encodes photo and synthesis, two more encoders the semantic planes and the dispersion maps, all at four
    levels. Per level a 1x1 convolution fuses the first three, the dispersion's maps multiply the result, and a decoder
    goes from the coarsest level to the finest. There is neither batch norm nor dropout: training and evaluation
    compute the same.

    The default is SynBoost as released, with 18,780,162 parameters. ``DissimilarityNet(dispersion=False, spade=False)``
    is that of Image Resynthesis++, with 13,798,530; ``image_correlation=False`` is the network of the paper's appendix.

    In half precision, by ``network.bfloat16()``, ``network.half()`` or autocast, the correlation and the logits are
    float32 nonetheless.

    Args:
        dispersion: read the three dispersion maps.
        spade: normalize the decoder's maps by :class:`~rwpm_fast.synboost.spade.SPADE`.
        image_correlation: give the decoder one more channel per level, the inner product of the photo's and the
            synthesis's features.
        freeze_vgg: leave the image encoder out of training, as Image Resynthesis did.
        width: channels of the image encoder's finest level; those of all others are in proportion. Released networks
            have 64.

    Raises:
        TypeError: the width is not an integer.
        ValueError: the width is not an even number above 0.

    Source: appendix A of the paper; where the released code differs from it, as in the widths of the dispersion
    encoder, the code.

    Example:
        >>> network = DissimilarityNet(width=8)
        >>> photos = torch.rand(1, 3, 64, 128)
        >>> semantic = semantic_one_hot(torch.randint(0, 19, (1, 64, 128)))
        >>> logits = network(photos, photos, semantic, dispersion=torch.rand(1, 3, 64, 128))
        >>> logits.softmax(1)[:, 1].shape  # the probability of an anomaly
        torch.Size([1, 64, 128])
    """

    def __init__(
        self,
        dispersion: bool = True,
        spade: bool = True,
        image_correlation: bool = True,
        freeze_vgg: bool = False,
        width: int = 64,
    ) -> None:
        check_integers(width=width)
        if width < 2 or width % 2:
            raise ValueError(f"width: expected an even number above 0, got {width}")
        super().__init__()
        self.image_correlation = image_correlation
        self.width = width
        self.image_encoder = VGG16(width).requires_grad_(not freeze_vgg)
        self.semantic_encoder = MapEncoder(CLASSES, width // 2)
        self.dispersion_encoder = MapEncoder(3, width) if dispersion else None
        fused = [width, 2 * width, 4 * width, 8 * width]
        self.fusions = nn.ModuleList(nn.Conv2d(2 * out + out // 2, out, 1) for out in fused)  # fine to coarse
        outputs = [4 * width, 4 * width, 2 * width, width]
        self.decoder = nn.ModuleList(  # coarse to fine
            DecoderBlock(
                *channels,
                hidden=2 * width if spade else None,
                image_correlation=image_correlation,
                upsample=level > 0,
            )
            for level, *channels in zip((3, 2, 1, 0), [0, *outputs[:-1]], fused[::-1], outputs, strict=True)
        )
        self.head = nn.Conv2d(width, 2, 1)

    @classmethod
    def load(
        cls,
        weights: str | PathLike[str],
        *,
        weights_key: str | None = None,
        dispersion: bool = True,
        spade: bool = True,
        image_correlation: bool = True,
        freeze_vgg: bool = False,
        width: int = 64,
    ) -> DissimilarityNet:
        """Load a released checkpoint, or the ``state_dict`` of a network of this class.

        The released class has a dispersion encoder also where it reads no dispersion maps. Such an encoder, which no
        training has touched, is left out.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.
            dispersion: whether the network of the file reads dispersion maps.
            spade: whether it has SPADE.
            image_correlation: whether its decoder reads the correlation.
            freeze_vgg: leave the image encoder out of further training.
            width: channels of its image encoder's finest level.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file; it is of a network with other settings, which the message names; or
                its tensors are not those of the network, and the message names these.

        Example:
            >>> network = DissimilarityNet.load("image_resynthesis.pth", dispersion=False, spade=False)
        """
        flags = {"dispersion": dispersion, "spade": spade, "image_correlation": image_correlation}
        with torch.device("meta"):  # no random weights are drawn, which the file would replace
            network = cls(**flags, freeze_vgg=freeze_vgg, width=width)
        released = released_names(network.state_dict())
        state = read_state_dict(weights, [*released, *released.values()], weights_key=weights_key)
        if not dispersion:
            state = _without_unused_encoder(state)
        network.to_empty(device="cpu")
        own = released.keys() & state.keys()
        try:
            view = network if own else RenamedState(network, released)
            load_state(view, state, name=cls.__name__, path=weights)
        except ValueError as error:
            theirs = _fitting_flags(state, width)
            if theirs is None or theirs == flags:
                raise
            raise ValueError(
                f"weights: expected the network {_described(flags)}, got {weights}, which is of the one "
                f"{_described(theirs)}; load it with {', '.join(f'{flag}={value}' for flag, value in theirs.items())}"
            ) from error
        return network.eval()

    def load_vgg16(self, weights: str | PathLike[str], *, weights_key: str | None = None) -> None:
        """Fill the image encoder from a file of VGG16 in torchvision's layout, where training starts.

        Args:
            weights: weight file, see :meth:`rwpm_fast.synboost.vgg.VGG.load`; layers beyond relu4_3 are left out.
            weights_key: place of the tensors in the file, where several sets of them fit.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no weight file, or its tensors are not those of VGG16; the message names them.

        Example:
            >>> network = DissimilarityNet()
            >>> network.load_vgg16("vgg16-397923af.pth")
        """
        vgg = VGG16.load(weights, weights_key=weights_key, width=self.width)
        self.image_encoder.load_state_dict(vgg.state_dict())

    def forward(self, image: Tensor, synthesis: Tensor, semantic: Tensor, dispersion: Tensor | None = None) -> Tensor:
        """Compute the logits.

        Args:
            image: [B, 3, H, W], the photo, RGB, normalized by ImageNet's mean and standard deviation. H and W are
                multiples of 8.
            synthesis: [B, 3, H, W], normalized likewise.
            semantic: [B, 19, H, W], see :func:`semantic_one_hot`.
            dispersion: [B, 3, H, W] in 0..1: softmax entropy, perceptual difference and softmax distance, in this
                order; None for a network that reads none.

        Returns:
            [B, 2, H, W] float32, or float64 from such weights: logits of "explained" and "anomaly".

        Raises:
            TypeError: an input is not of floating point.
            ValueError: an input is of another shape, or missing, or there is one too many.
        """
        self._check(image, synthesis, semantic, dispersion)
        dtype = self.head.weight.dtype
        semantic = semantic.to(dtype)
        pairs = list(zip(self.image_encoder(image.to(dtype)), self.image_encoder(synthesis.to(dtype)), strict=True))
        fused = [
            fusion(torch.cat([*pair, semantic_map], dim=1))
            for fusion, pair, semantic_map in zip(self.fusions, pairs, self.semantic_encoder(semantic), strict=True)
        ]
        if self.dispersion_encoder is not None and dispersion is not None:
            factors = self.dispersion_encoder(dispersion.to(dtype))
            fused = [level * factor for level, factor in zip(fused, factors, strict=True)]
        x = None
        for block, pair, level in zip(self.decoder, reversed(pairs), reversed(fused), strict=True):
            x = block(x, _correlation(*pair) if self.image_correlation else None, level, semantic)
        assert x is not None
        return _conv_in_float32(x, self.head.weight, self.head.bias)

    def _check(self, image: Tensor, synthesis: Tensor, semantic: Tensor, dispersion: Tensor | None) -> None:
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image: expected [B, 3, H, W], got {list(image.shape)}")
        batch, _, height, width = image.shape
        if height % MULTIPLE or width % MULTIPLE or not height or not width:
            raise ValueError(
                f"image: expected height and width that are multiples of {MULTIPLE}, got {height} × {width}; resize "
                "all inputs, as SynBoost does to 256 × 512"
            )
        inputs = {"image": (image, 3), "synthesis": (synthesis, 3), "semantic": (semantic, CLASSES)}
        if dispersion is not None:
            if self.dispersion_encoder is None:
                raise ValueError("dispersion: expected None, as the network is built with dispersion=False, got maps")
            inputs["dispersion"] = (dispersion, 3)
        elif self.dispersion_encoder is not None:
            raise ValueError(
                f"dispersion: expected {[batch, 3, height, width]}, got None; give entropy, perceptual difference and "
                "softmax distance, or build the network with dispersion=False"
            )
        for name, (tensor, channels) in inputs.items():
            if list(tensor.shape) != [batch, channels, height, width]:
                wanted = [batch, channels, height, width]
                raise ValueError(f"{name}: expected {wanted}, to go with the image, got {list(tensor.shape)}")
            if not tensor.is_floating_point():
                raise TypeError(
                    f"{name}: expected floating point, got {_dtype_name(tensor)}; photos are to be normalized, and a "
                    "segmentation made planes by semantic_one_hot"
                )


def _correlation(image: Tensor, synthesis: Tensor) -> Tensor:
    """Inner product of two maps [B, C, h, w] at every pixel, [B, 1, h, w], in float32 at least."""
    return (at_least_float32(image) * at_least_float32(synthesis)).sum(1, keepdim=True)


def _conv_in_float32(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """Convolve in float32 at least, also under autocast and with weights in half precision."""
    x = at_least_float32(x)
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype), padding=padding)


def _without_unused_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop a dispersion encoder that was never trained: its biases are the zeros that they began as."""
    encoder = {name for name in state if name.startswith(("prior_encoder.", "dispersion_encoder."))}
    if any(state[name].any() for name in encoder if name.endswith(".bias")):
        return dict(state)
    return {name: tensor for name, tensor in state.items() if name not in encoder}


def _fitting_flags(state: Mapping[str, Tensor], width: int) -> dict[str, bool] | None:
    """Find the settings of the network whose entries and shapes these are."""
    got = {name: tensor.shape for name, tensor in state.items()}
    for values in product([True, False], repeat=3):
        flags = dict(zip(("dispersion", "spade", "image_correlation"), values, strict=True))
        with torch.device("meta"):
            shapes = {
                name: tensor.shape for name, tensor in DissimilarityNet(**flags, width=width).state_dict().items()
            }
        released = released_names(shapes)
        if got in (shapes, {released[name]: shape for name, shape in shapes.items()}):
            return flags
    return None


def _described(flags: Mapping[str, bool]) -> str:
    """Text that says what a network has and what it lacks, such as "with dispersion, without SPADE"."""
    words = {"dispersion": "dispersion", "spade": "SPADE", "image_correlation": "image correlation"}
    return ", ".join(f"{'with' if value else 'without'} {words[flag]}" for flag, value in flags.items())


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
