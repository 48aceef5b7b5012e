"""Anomaly scores of class logits and of mask predictions.

Higher means more anomalous everywhere. The class axis is ``dim=-3`` by default, so that [K, H, W] and [B, K, H, W] both
work. Half-precision inputs are computed and returned in float32; other dtypes are kept. Infinite logits count as the
limit of ever larger ones and give no NaN; NaN stays NaN, at its own pixel.

Equation numbers are those of the supplement of Random Walk on Pixel Manifolds (Zeng & Tomite, ECCV 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor

from .checks import check_integers, check_numbers

__all__ = [
    "SCORES",
    "blurred_energy",
    "confident_stuff_maps",
    "energy",
    "entropy",
    "gaussian_blur",
    "get",
    "mask2anomaly",
    "mask_class_logits",
    "max_logit",
    "max_softmax",
    "rba",
]


def energy(logits: Tensor, *, dim: int = -3) -> Tensor:
    """Compute the free energy ``-log sum_k exp(l_k)`` (equation S.1; PEBAL, Balanced Energy).

    It does not commute with interpolation: up-sample the logits to image resolution first. Leave out the abstention
    channel of a 20-channel head.

    Args:
        logits: [..., K, H, W].
        dim: class axis.

    Returns:
        Energy: [..., H, W], in nats, at most ``-max_k l_k``; +inf where every logit is -inf.

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: there are no classes along ``dim``.
    """
    return -_classes(logits, "logits", dim).logsumexp(dim)


def max_logit(logits: Tensor, *, dim: int = -3) -> Tensor:
    """Compute the negative of the largest logit, ``-max_k l_k``.

    Source: Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022.

    Args:
        logits: [..., K, H, W].
        dim: class axis.

    Returns:
        Score: [..., H, W].

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: there are no classes along ``dim``.
    """
    return -_classes(logits, "logits", dim).amax(dim)


def max_softmax(logits: Tensor, *, dim: int = -3) -> Tensor:
    """Compute the probability of all classes but the likeliest, ``1 - max_k softmax(l)_k`` (Hendrycks & Gimpel, ICLR
    2017).

    It is summed over the other classes instead of subtracted from 1, so that confident pixels keep their order down to
    the smallest float.

    Args:
        logits: [..., K, H, W].
        dim: class axis.

    Returns:
        Score: [..., H, W] in [0, 1 - 1/K].

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: there are no classes along ``dim``.
    """
    _, _, others = _relative(_classes(logits, "logits", dim), dim)
    return others / (1 + others)


def entropy(logits: Tensor, *, normalized: bool = False, dim: int = -3) -> Tensor:
    """Compute the entropy of the softmax, ``-sum_k p_k log p_k``.

    Args:
        logits: [..., K, H, W].
        normalized: divide by ``log K``, the entropy of the uniform distribution.
        dim: class axis.

    Returns:
        Entropy: [..., H, W] in nats, in [0, log K], or in [0, 1] when normalized; 0 for a single class.

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: there are no classes along ``dim``.
    """
    logits = _classes(logits, "logits", dim)
    relative, weight, others = _relative(logits, dim)
    # Both terms are >= 0, so that nothing cancels where the pixel is confident.
    nats = others.log1p() - (weight * relative).sum(dim) / (1 + others)
    return nats / math.log(max(logits.shape[dim], 2)) if normalized else nats


def mask_class_logits(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Compute the class maps ``L_k = sum_q softmax(c_q)_k sigmoid(M_q)`` of a mask-based network (equation S.2).

    The void class comes last; its probability is dropped and the rest is not renormalized. In the released code mask
    logits are up-sampled (bilinear, ``align_corners=False``) before this step, and maps are cropped and resized after.

    Args:
        class_logits: [..., Q, K + 1].
        mask_logits: [..., Q, H, W].

    Returns:
        Class maps: [..., K, H, W] in [0, Q].

    Raises:
        TypeError: an argument is not a tensor.
        ValueError: shapes do not belong together.
    """
    probabilities, masks = _queries(class_logits, mask_logits)
    dtype = torch.promote_types(probabilities.dtype, masks.dtype)
    return torch.einsum("...qk,...qhw->...khw", probabilities[..., :-1].to(dtype), masks.to(dtype).sigmoid())


def rba(class_maps: Tensor, *, squash: str = "tanh", dim: int = -3) -> Tensor:
    """Compute the score of Rejected by All, ``-sum_k squash(L_k)`` (equation S.3; Nayal et al., ICCV 2023).

    Args:
        class_maps: [..., K, H, W], see :func:`mask_class_logits`.
        squash: "tanh" as released, or "sigmoid" as printed.
        dim: class axis.

    Returns:
        Score: [..., H, W]; for class maps >= 0 in [-K, 0] with "tanh" and in [-K, -K/2] with "sigmoid".

    Raises:
        TypeError: ``class_maps`` is not a tensor.
        ValueError: unknown ``squash``, or there are no classes along ``dim``.
    """
    if squash not in ("tanh", "sigmoid"):
        raise ValueError(f"squash: expected 'tanh' or 'sigmoid', got {squash!r}")
    class_maps = _classes(class_maps, "class_maps", dim)
    return -(class_maps.tanh() if squash == "tanh" else class_maps.sigmoid()).sum(dim)


def confident_stuff_maps(
    class_logits: Tensor, mask_logits: Tensor, *, threshold: float = 0.95, stuff: Iterable[int] = range(2, 11)
) -> Tensor:
    """Compute the maps ``p_q sigmoid(M_q)`` of the queries that are confident of a stuff class (released Mask2Anomaly).

    A query is chosen if its likeliest class, void included, is a stuff class of probability ``p_q > threshold``. Crop
    and resize the maps like the class maps, then pass both to :func:`mask2anomaly`.

    Args:
        class_logits: [..., Q, K + 1], void last.
        mask_logits: [..., Q, H, W].
        threshold: probability to exceed.
        stuff: class indices; the Cityscapes train ids building to sky by default.

    Returns:
        Stuff maps: [..., J, H, W] in [0, 1], in query order, with J the largest number of chosen queries in the batch.
        An image with fewer is filled up with maps of constant -1, which cropping and resizing do not change.

    Raises:
        TypeError: an argument is not a tensor.
        ValueError: shapes do not belong together, or ``stuff`` names a class outside 0 .. K - 1.
    """
    check_numbers(threshold=threshold)
    probabilities, masks = _queries(class_logits, mask_logits)
    stuff, classes = sorted(set(stuff)), probabilities.shape[-1] - 1
    if not all(0 <= k < classes for k in stuff):
        raise ValueError(f"stuff: expected class indices from 0 to {classes - 1}, got {stuff}")
    probability, label = probabilities.max(-1)  # [..., Q]
    chosen = (probability > threshold) & torch.isin(label, label.new_tensor(stuff))
    max_chosen = int(chosen.sum(-1).max()) if chosen.numel() else 0
    chosen, query = chosen.to(torch.uint8).sort(dim=-1, descending=True, stable=True)
    chosen, query = chosen[..., :max_chosen, None, None].bool(), query[..., :max_chosen]
    masks = masks.gather(-3, query[..., None, None].expand(*query.shape, *masks.shape[-2:]))
    return torch.where(chosen, probability.gather(-1, query)[..., None, None] * masks.sigmoid(), -1.0)


def mask2anomaly(
    class_maps: Tensor,
    stuff_maps: Tensor | None = None,
    *,
    refine: bool = True,
    squash: str | None = None,
    dim: int = -3,
) -> Tensor:
    """Compute the score of Mask2Anomaly, ``1 - max_k squash(L_k)`` (equation S.4; Rai et al., ICCV 2023).

    The maximum includes the stuff maps. With ``refine`` they also set the score to 0 wherever one of them reaches 0.5,
    in images that have at least two. The released code averages the scores of an image and of its mirror image (flipped
    back).

    Args:
        class_maps: [..., K, H, W] >= 0, see :func:`mask_class_logits`.
        stuff_maps: [..., J, H, W], see :func:`confident_stuff_maps`; J may be 0. Negative maps are fillers.
        refine: set the score to 0 on confident stuff.
        squash: None as released, or "sigmoid" as printed.
        dim: class axis, also of the stuff maps.

    Returns:
        Score: [..., H, W]; at most 1 and possibly negative when released, in [0, 0.5] with "sigmoid".

    Raises:
        TypeError: an argument is not a tensor.
        ValueError: unknown ``squash``, no classes along ``dim``, or shapes that differ outside ``dim``.
    """
    if squash not in (None, "sigmoid"):
        raise ValueError(f"squash: expected None or 'sigmoid', got {squash!r}")
    class_maps = _classes(class_maps, "class_maps", dim)
    best = class_maps.amax(dim)
    best_stuff = None
    if stuff_maps is not None:
        stuff_maps = _tensor(stuff_maps, "stuff_maps")
        wanted: list[int | str] = list(class_maps.shape)
        axis = dim % class_maps.dim()
        wanted[axis] = stuff_maps.shape[axis] if stuff_maps.dim() == class_maps.dim() else "J"
        if list(stuff_maps.shape) != wanted:
            raise ValueError(f"stuff_maps: expected shape {wanted} to match class_maps, got {list(stuff_maps.shape)}")
        if stuff_maps.shape[dim]:
            best_stuff = stuff_maps.amax(dim)
            best = torch.maximum(best, best_stuff.to(best.dtype))
    score = 1 - best if squash is None else (-best).sigmoid()  # 1 - sigmoid(x) = sigmoid(-x), without cancellation
    if stuff_maps is None or best_stuff is None or not refine:
        return score
    # A filler is negative at every pixel, so that the maps of an image can be counted at each pixel by itself.
    several = (stuff_maps >= 0).sum(dim) > 1
    return score.masked_fill(several & (best_stuff >= 0.5), 0.0)


def gaussian_blur(score_map: Tensor, *, kernel_size: int = 7, sigma: float = 1.0) -> Tensor:
    """Blur with a Gaussian, reflected at the border without repeating the edge (last step of released PEBAL scoring).

    Args:
        score_map: [..., H, W], both sides larger than ``kernel_size // 2``.
        kernel_size: number of taps, odd.
        sigma: standard deviation in pixels, > 0.

    Returns:
        Blurred map: [..., H, W], float32 for half input.

    Raises:
        TypeError: ``score_map`` is not a tensor, or a setting no number.
        ValueError: even or non-positive ``kernel_size``, ``sigma`` not positive, or a map too small to reflect.
    """
    check_integers(kernel_size=kernel_size)
    check_numbers(sigma=sigma)
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected a positive odd number, got {kernel_size}")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma: expected a positive finite number, got {sigma}")
    score_map = _tensor(score_map, "score_map")
    radius = kernel_size // 2
    if score_map.dim() < 2 or any(side <= radius for side in score_map.shape[-2:]):
        raise ValueError(
            f"score_map: expected shape [..., H, W] with H and W at least {radius + 1} for kernel_size {kernel_size}, "
            f"got {list(score_map.shape)}; use a smaller kernel_size"
        )
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device=score_map.device)
    taps = (offsets / sigma).square().mul(-0.5).softmax(0).to(score_map.dtype)
    blurred = score_map
    # Shifted sums rather than a convolution: those may run in TensorFloat-32, too coarse for scores.
    for axis in (-2, -1):
        size = blurred.shape[axis]
        place = torch.arange(-radius, size + radius, device=blurred.device)
        reflected = size - 1 - (size - 1 - place.abs()).abs()
        padded = blurred.index_select(axis, reflected)
        shifted = (taps[start] * padded.narrow(axis, start, size) for start in range(kernel_size))
        blurred = cast(Tensor, sum(shifted))
    return blurred


def blurred_energy(logits: Tensor, *, dim: int = -3) -> Tensor:
    """Compute the energy and blur it with 7x7 taps: the released score of PEBAL and Balanced Energy.

    Args:
        logits: [..., K, H, W], at image resolution, both sides at least 4.
        dim: class axis.

    Returns:
        Score: [..., H, W], in nats.

    Raises:
        TypeError: ``logits`` is not a tensor.
        ValueError: there are no classes along ``dim``, or the image is too small for the blur.
    """
    return gaussian_blur(energy(logits, dim=dim))


SCORES: dict[str, Callable[..., Tensor]] = {
    "energy": energy,
    "blurred_energy": blurred_energy,
    "max_logit": max_logit,
    "max_softmax": max_softmax,
    "entropy": entropy,
    "rba": rba,
    "mask2anomaly": mask2anomaly,
}
"""Scores that need class logits (or class maps) alone, by name."""


def get(name: str) -> Callable[..., Tensor]:
    """Return the score of a name.

    Args:
        name: a key of :data:`SCORES`.

    Raises:
        ValueError: no such score.
    """
    check_name(name, SCORES)
    return SCORES[name]


def check_name(name: str, names: Iterable[str]) -> None:
    """Raise ValueError unless the name of a score is one of ``names``."""
    names = list(names)
    if name not in names:
        raise ValueError(f"name: expected one of {', '.join(names)}, got {name!r}")


def _tensor(values: Tensor, name: str) -> Tensor:
    """Check that values are a tensor, and cast them to at least float32."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(values).__name__}")
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _classes(values: Tensor, name: str, dim: int) -> Tensor:
    """Check that values have classes along ``dim``, and cast them to at least float32."""
    values = _tensor(values, name)
    if not -values.dim() <= dim < values.dim() or values.shape[dim] == 0:
        raise ValueError(f"{name}: expected at least one class along dim {dim}, got shape {list(values.shape)}")
    return values


def _queries(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Check that logits fit together: class probabilities [..., Q, K + 1] and mask logits [..., Q, H, W]."""
    class_logits, mask_logits = _tensor(class_logits, "class_logits"), _tensor(mask_logits, "mask_logits")
    if class_logits.dim() < 2 or class_logits.shape[-1] < 2:
        raise ValueError(f"class_logits: expected shape [..., Q, K + 1] with K >= 1, got {list(class_logits.shape)}")
    queries = class_logits.shape[:-1]
    if mask_logits.dim() != len(queries) + 2 or mask_logits.shape[:-2] != queries:
        wanted = ", ".join(map(str, queries))
        raise ValueError(
            f"mask_logits: expected shape [{wanted}, H, W] to match class_logits {list(class_logits.shape)}, "
            f"got {list(mask_logits.shape)}"
        )
    _, weight, others = _relative(class_logits, -1)
    return weight / (1 + others).unsqueeze(-1), mask_logits


def _relative(logits: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits minus their maximum (finite), their exponentials, and the sum of these without the 1 of the maximum."""
    limit = torch.finfo(logits.dtype).max / 2  # so that no difference overflows, which would make NaN of 0 * inf
    logits = logits.clamp(-limit, limit)
    top, index = logits.max(dim, keepdim=True)
    relative = logits - top
    weight = relative.exp()
    return relative, weight, weight.scatter(dim, index, 0.0).sum(dim)
