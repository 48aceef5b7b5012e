"""SynBoost's uncertainty maps (Di Biase et al., CVPR 2021): entropy, softmax distance, perceptual difference.

Each map is scaled by its extremes, image by image: ``minmax="range"`` fills [0, 1]; ``minmax="legacy"`` divides entropy
and distance by a maximum instead of by the range, as the released code does and as its checkpoints were trained;
``minmax=None`` leaves the map as it is. For "range", a map counts as constant where its range is below a millionth of
its size (in float32): such a range is one of rounding errors. Scale maps at full resolution and resize them afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.precision import at_least_float32
from .features import FeatureNetwork, check_features

CHUNK = 2**19  # logits that are read at a time
ROUNDING = 8  # a map whose range is within so many units of rounding is constant


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
    (nats,) = _maps_of(logits, minmax, _nats)
    return _scaled_entropy(nats, minmax, logits.shape[1])


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
    (distance,) = _maps_of(logits, minmax, _distance)
    return _scaled_distance(distance, minmax)


def entropy_and_distance(logits: Tensor, *, minmax: str | None = "range") -> tuple[Tensor, Tensor]:
    """Compute :func:`entropy` and :func:`softmax_distance` in one pass over the logits, in the time of one of them.

    Args:
        logits: see :func:`entropy`.
        minmax: the scale of both maps, see there.

    Returns:
        entropy: [B, 1, H, W], the same as by :func:`entropy`.
        distance: [B, 1, H, W], the same as by :func:`softmax_distance`.

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: unknown ``minmax``, another shape, or NaN in an image.

    Example:
        >>> [values.item() for values in entropy_and_distance(torch.zeros(1, 19, 1, 1), minmax=None)]
        [2.944438934326172, 1.0]
    """
    nats, distance = _maps_of(logits, minmax, _nats, _distance)
    return _scaled_entropy(nats, minmax, logits.shape[1]), _scaled_distance(distance, minmax)


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
    return difference if minmax is None else _ratio(difference - least, _range(least, most, scale=most))


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


class _Others(NamedTuple):
    """All classes but the likeliest one of each pixel, relative to it.

    Attributes:
        logits: [B, K - 1, h, W], differences to the largest logit, all 0 or less and finite.
        weights: their exponentials.
        total: [B, h, W], sum of the weights. The likeliest class has weight 1, which is not added, so that nothing is
            lost where the others are small.
    """

    logits: Tensor
    weights: Tensor
    total: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> _Others:
        """Set the likeliest class of logits [B, K, h, W] apart.

        Of two logits the smaller goes to the others, the larger is compared with the next: this takes a third of the
        time of finding the index of the largest one.
        """
        limit = torch.finfo(logits.dtype).max / 2  # so that no difference overflows, which would make NaN of 0 * inf
        first, *rest = logits.clamp(-limit, limit).unbind(1)
        others = []
        for values in rest:
            others.append(torch.minimum(first, values))
            first = torch.maximum(first, values)
        relative = torch.stack(others, dim=1) - first.unsqueeze(1)
        weights = relative.exp()
        return cls(relative, weights, weights.sum(1))


def _nats(others: _Others) -> Tensor:
    """Entropy of the softmax. Both terms are 0 or more, so that nothing cancels where the pixel is confident."""
    return others.total.log1p() - (others.weights * others.logits).sum(1) / (1 + others.total)


def _distance(others: _Others) -> Tensor:
    """``1 - (p1 - p2)``, without cancellation."""
    return (others.total + others.weights.amax(1)) / (1 + others.total)


def _maps_of(logits: Tensor, minmax: str | None, *formulas: Callable[[_Others], Tensor]) -> list[Tensor]:
    """Check the arguments, and compute maps [B, 1, H, W] of logits [B, K, H, W] in float32 at least, a few rows at a
    time, so that all in between stays in the processor's cache."""
    _check_minmax(minmax)
    _check_logits(logits)
    rows = max(1, CHUNK // (logits.shape[1] * logits.shape[3]))
    chunks = (_Others.of(at_least_float32(chunk)) for chunk in logits.split(rows, dim=2))
    maps = zip(*([formula(others) for formula in formulas] for others in chunks), strict=True)
    return [torch.cat(rows_of_map, dim=1).unsqueeze(1) for rows_of_map in maps]


def _scaled_entropy(nats: Tensor, minmax: str | None, classes: int) -> Tensor:
    least, most = _extremes(nats, "logits")
    if minmax is None:
        return nats
    return _ratio(nats - least, _range(least, most, scale=math.log(classes)) if minmax == "range" else most)


def _scaled_distance(distance: Tensor, minmax: str | None) -> Tensor:
    least, most = _extremes(distance, "logits")
    if minmax is None:
        return distance
    return 1 - _ratio(most - distance, _range(least, most, scale=1.0) if minmax == "range" else 1 - least)


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


def _range(least: Tensor, most: Tensor, scale: Tensor | float) -> Tensor:
    """The range of maps whose values are of the order of ``scale``: 0 where it is no more than rounding errors, which
    would otherwise fill [0, 1] with noise for a photo of a single color."""
    span = most - least
    return torch.where(span > ROUNDING * torch.finfo(span.dtype).eps * scale, span, 0.0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole, 0.0)


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
