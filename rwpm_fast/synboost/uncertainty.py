"""SynBoost's uncertainty maps (Di Biase et al., CVPR 2021): entropy, softmax distance, perceptual difference.

Each map is scaled by its extremes, image by image: ``minmax="range"`` fills [0, 1]; ``minmax="legacy"`` divides entropy
and distance by a maximum instead of by the range, as the released code does and as its checkpoints were trained;
``minmax=None`` leaves the map as it is. Scale maps at full resolution and resize them afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import scores
from ..networks.precision import at_least_float32
from .features import FeatureNetwork, check_features


def entropy(logits: Tensor, *, minmax: str | None = "range") -> Tensor:
    """Compute the entropy of the softmax, ``e = -sum_k p_k log p_k``, scaled.

    Args:
        logits: [B, K, H, W], K >= 2; infinite ones count as the limit of ever larger ones.
        minmax: "range" for ``(e - min e) / (max e - min e)``, "legacy" for ``(e - min e) / max e``, None for ``e`` in
            nats.

    Returns:
        Map: [B, 1, H, W], at least float32; in [0, 1], or in [0, log K] for None. A constant map is scaled to 0.

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: unknown ``minmax``, another shape, or NaN in an image.

    Example:
        >>> entropy(torch.zeros(1, 19, 256, 512), minmax=None).max()
        tensor(2.9444)
    """
    _check_minmax(minmax)
    _check_logits(logits)
    nats = scores.entropy(logits, dim=1).unsqueeze(1)
    least, most = _extremes(nats, "logits")
    if minmax is None:
        return nats
    return _ratio(nats - least, most - least if minmax == "range" else most)


def softmax_distance(logits: Tensor, *, minmax: str | None = "range") -> Tensor:
    """Compute the distance of the two largest probabilities ``p1 >= p2`` of the softmax from certainty, ``d = 1 - r``
    with ``r = p1 - p2``, scaled.

    Args:
        logits: [B, K, H, W], K >= 2; infinite ones count as the limit of ever larger ones.
        minmax: "range" for ``1 - (r - min r) / (max r - min r)``, "legacy" for ``1 - (r - min r) / max r``, None for
            ``d``.

    Returns:
        Map: [B, 1, H, W] in [0, 1], at least float32. A constant map is scaled to 1.

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: unknown ``minmax``, another shape, or NaN in an image.

    Example:
        >>> softmax_distance(torch.zeros(1, 19, 256, 512), minmax=None).min()
        tensor(1.)
    """
    _check_minmax(minmax)
    _check_logits(logits)
    logits = at_least_float32(logits)
    first, index = logits.max(1, keepdim=True)
    second = logits.scatter(1, index, -torch.inf).amax(1, keepdim=True)
    gap = torch.where(first == second, 0.0, second - first)  # equal infinities have no difference
    others = scores.max_softmax(logits, dim=1).unsqueeze(1)  # 1 - p1, without cancellation
    distance = others + (1 - others) * gap.exp()
    least, most = _extremes(distance, "logits")
    if minmax is None:
        return distance
    return 1 - _ratio(most - distance, most - least if minmax == "range" else 1 - least)


def perceptual_difference(
    images: Tensor, syntheses: Tensor, network: FeatureNetwork, *, minmax: str | None = "range"
) -> Tensor:
    """Compute how the features of a network differ between a photo and the synthesis of its segmentation, scaled.

    ``V = sum_i w_i Up_i(mean over channels of |F_i(x) - F_i(r)|)`` over the taps of the network, with its
    ``tap_weights``; ``Up_i`` is bicubic interpolation to the size of the photo. The published map is that of a VGG19,
    whose five taps have the weights 1/32, 1/16, 1/8, 1/4 and 1 in the released code.

    The network runs in the dtype of its weights, also under autocast, and features are compared in at least float32.

    Args:
        images: photos [B, 3, H, W], RGB, normalized by ImageNet's mean (0.485, 0.456, 0.406) and standard deviation
            (0.229, 0.224, 0.225); any size.
        syntheses: their syntheses, of the same shape, normalized in the same way.
        network: a :class:`rwpm_fast.synboost.vgg.VGG19`, or other
            :class:`rwpm_fast.synboost.features.FeatureNetwork`, on the device of the images.
        minmax: "range" or "legacy" for ``(V - min V) / (max V - min V)``, which the released code has too, None for
            ``V``.

    Returns:
        Map: [B, 1, H, W], at least float32; in [0, 1] when scaled. It is 0 for images that equal their syntheses.

    Raises:
        TypeError: an argument is not a tensor or has no floating-point dtype, or ``network`` is of another kind.
        ValueError: unknown ``minmax``, another shape, or features that are not finite.

    Example:
        >>> network = VGG19.load("vgg19-dcbb9e9d.pth")
        >>> difference = perceptual_difference(photo[None], synthesis[None], network)
    """
    _check_minmax(minmax)
    _check_pair(images, syntheses)
    check_features("network", network)
    dtype = _dtype_of(network, images.dtype)
    with torch.autocast(images.device.type, enabled=False):
        pairs = zip(network(images.to(dtype)), network(syntheses.to(dtype)), strict=True)
        terms = [
            weight * _enlarged(_mean_difference(*pair), stride, images.shape[-2:])
            for pair, weight, stride in zip(pairs, network.tap_weights, network.tap_strides, strict=True)
        ]
    difference = torch.cat(terms, dim=1).sum(1, keepdim=True)
    least, most = _extremes(difference, "images and syntheses")
    return difference if minmax is None else _ratio(difference - least, most - least)


def quantize(maps: Tensor) -> Tensor:
    """Round maps down to multiples of 1/255, as the released code does when it stores them in 8 bits.

    Args:
        maps: [...], in [0, 1].

    Returns:
        Maps of the same shape, at least float32.

    Raises:
        TypeError: ``maps`` is not a tensor.
        ValueError: a value is outside [0, 1] or NaN.

    Example:
        >>> quantize(torch.tensor([0.5, 1.0])) * 255
        tensor([127., 255.])
    """
    _check_tensor(maps, "maps")
    maps = at_least_float32(maps)
    if not torch.compiler.is_compiling() and not ((maps >= 0) & (maps <= 1)).all():
        raise ValueError("maps: expected values in [0, 1], got others or NaN; scale the maps with minmax first")
    return (maps * 255).floor() / 255


def _mean_difference(features: Tensor, others: Tensor) -> Tensor:
    """Mean over channels of the absolute difference: [B, 1, h, w]."""
    return (at_least_float32(features) - at_least_float32(others)).abs().mean(1, keepdim=True)


def _dtype_of(network: FeatureNetwork, default: torch.dtype) -> torch.dtype:
    """The dtype of a network's weights, and the default for one without."""
    parameters = network.parameters() if isinstance(network, nn.Module) else iter(())
    return next((parameter.dtype for parameter in parameters), default)


def _enlarged(maps: Tensor, stride: int | tuple[int, int], size: torch.Size) -> Tensor:
    """Enlarge maps [B, 1, h, w] to an image's size; where a side is no multiple of the stride, the rest is cut off."""
    if stride not in (1, (1, 1)):
        maps = F.interpolate(maps, scale_factor=stride, mode="bicubic", align_corners=False)
    return maps[..., : size[0], : size[1]]


def _extremes(maps: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each map, both [B, 1, 1, 1]; an error for maps that have none.

    ``name`` is the argument that the maps were computed from.
    """
    least, most = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    if not torch.compiler.is_compiling() and not (finite := (least.isfinite() & most.isfinite()).flatten()).all():
        broken = ", ".join(str(number) for number, good in enumerate(finite.tolist()) if not good)
        raise ValueError(f"{name}: expected a finite map, got NaN or infinite values for image {broken} of the batch")
    return least, most


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 where both are 0: a sum with the smallest normal number leaves all others as they are."""
    return part / (whole + torch.finfo(whole.dtype).tiny)


def _check_minmax(minmax: str | None) -> None:
    if minmax not in ("range", "legacy", None):
        raise ValueError(f"minmax: expected 'range', 'legacy' or None, got {minmax!r}")


def _check_tensor(values: Tensor, name: str) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(values).__name__}")


def _check_logits(logits: Tensor) -> None:
    _check_tensor(logits, "logits")
    if logits.dim() != 4 or logits.shape[1] < 2 or 0 in logits.shape[2:]:
        raise ValueError(
            f"logits: expected shape [B, K, H, W] with K >= 2 and at least one pixel, got {list(logits.shape)}"
        )


def _check_pair(images: Tensor, syntheses: Tensor) -> None:
    for name, values in (("images", images), ("syntheses", syntheses)):
        _check_tensor(values, name)
        if not values.is_floating_point():
            raise TypeError(
                f"{name}: expected floating point, normalized by ImageNet's mean and std, got {values.dtype}"
            )
        if values.dim() != 4 or values.shape[1] != 3 or 0 in values.shape[2:]:
            raise ValueError(f"{name}: expected shape [B, 3, H, W] with at least one pixel, got {list(values.shape)}")
    if images.shape != syntheses.shape:
        raise ValueError(
            f"syntheses: expected the shape of images, {list(images.shape)}, got {list(syntheses.shape)}; resize them"
        )
