"""Ensembles of a photo's four maps: weighted average, grid search for its weights, and weights that are learned.

The maps are, in this order everywhere (``MAPS``): the dissimilarity network's probability of an anomaly, softmax
entropy, perceptual difference and softmax distance, each in [0, 1]. They are stacked along ``dim=-3`` by default, so
that [4, H, W] and [B, 4, H, W] both work. Half-precision maps are combined in float32; other dtypes are kept.

Source: Pixel-wise Anomaly Detection in Complex Driving Scenes (Di Biase et al., CVPR 2021), section on the ensemble
and table 6 of the appendix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_numbers
from ..data.frames import ANOMALY, INLIER, VOID
from ..io.arrays import as_array
from ..metrics import PixelMetrics, PixelResult
from ..metrics.pixel import check_fpr_rule, check_labels
from ..networks.precision import at_least_float32

MAPS = ("anomaly", "entropy", "perceptual", "distance")
Weights = tuple[float, float, float, float]

PUBLISHED_WEIGHTS: Weights = (0.75, 0.25, 0.0, 0.0)
OBJECTIVES = ("fpr95", "ap", "auroc")
SMALLEST_START = 0.01  # of a learned weight, where the grid search gave less
CLAMP = 1e-6  # keeps the logarithms of the loss finite


def stack_maps(logits: Tensor, entropy: Tensor, perceptual: Tensor, distance: Tensor) -> Tensor:
    """Stack the output of the dissimilarity network and the uncertainty maps for an ensemble.

    Args:
        logits: [B, 2, H, W] floating point; the probability of an anomaly is channel 1 of their softmax.
        entropy: [B, 1, H, W] floating point in [0, 1].
        perceptual: the same, perceptual difference.
        distance: the same, softmax distance.

    Returns:
        Maps: [B, 4, H, W], in float32, or in float64 if one of them is.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes do not fit.

    Example:
        >>> third = torch.full((1, 1, 2, 2), 1 / 3)
        >>> list(stack_maps(torch.zeros(1, 2, 2, 2), third, third, third).shape)
        [1, 4, 2, 2]
    """
    _check_floating("logits", logits)
    if logits.dim() != 4 or logits.shape[1] != 2:
        raise ValueError(f"logits: expected shape [B, 2, H, W], got {list(logits.shape)}")
    expected = [len(logits), 1, *logits.shape[2:]]
    others = dict(zip(MAPS[1:], (entropy, perceptual, distance), strict=True))
    for name, values in others.items():
        _check_floating(name, values)
        if list(values.shape) != expected:
            raise ValueError(f"{name}: expected shape {expected} to match logits, got {list(values.shape)}")
    probability = at_least_float32(logits).softmax(1)[:, 1:]
    return torch.cat([probability, *map(at_least_float32, others.values())], 1)


def weighted_average(maps: Tensor, weights: Sequence[float] = PUBLISHED_WEIGHTS, *, dim: int = -3) -> Tensor:
    """Average the four maps of a photo with fixed weights.

    Args:
        maps: [..., 4, H, W] floating point, in the order of ``MAPS``. A map of weight 0 plays no part, whatever it
            holds.
        weights: four numbers of 0 or more, not all 0; they are divided by their sum. The default are those of the
            paper, found by grid search.
        dim: axis of the maps.

    Returns:
        Score: [..., H, W], higher where more anomalous; in [0, 1] if the maps are.

    Raises:
        TypeError: ``maps`` is not a floating-point tensor, or a weight is not a number.
        ValueError: there are not four maps or weights, or a weight is out of range.

    Example:
        >>> maps = torch.tensor([1.0, 0.5, 0.2, 0.3]).reshape(4, 1, 1)
        >>> weighted_average(maps).item()
        0.875
    """
    shares = _normalized(weights)
    used = [(share, values) for share, values in zip(shares, _unstacked(maps, dim), strict=True) if share]
    return _combined(used)


def raw_grid() -> list[tuple[int, int, int, int]]:
    """Return the weights that the grid search is made of: 252 vectors of 0, 1, 2 and 3, those of four equal values
    left out, in rising order.

    Example:
        >>> len(raw_grid())
        252
    """
    return [(a, b, c, d) for a, b, c, d in itertools.product(range(4), repeat=4) if not a == b == c == d]


def grid() -> list[Weights]:
    """Return the 224 distinct weights of the grid search: :func:`raw_grid` with sums of 1, every vector where it comes
    first. The uniform one is not among them.

    Example:
        >>> len(grid()), PUBLISHED_WEIGHTS in grid()
        (224, True)
    """
    # A quotient is rounded from its exact value, so equal ratios give equal floats: 1 / 3 and 2 / 6.
    return list(dict.fromkeys(map(_normalized, raw_grid())))


class Candidate(NamedTuple):
    """Weights that a grid search tried.

    Attributes:
        weights: of the maps, in the order of ``MAPS``; their sum is 1.
        result: metrics of the pooled pixels of all photos.
    """

    weights: Weights
    result: PixelResult


def grid_search(
    photos: Iterable[tuple[Any, Any]], *, objective: str = "fpr95", fpr_rule: str = "fishyscapes"
) -> list[Candidate]:
    """Try all weights of :func:`grid` on labeled photos. Use photos that no result is reported on.

    The metrics are exact, of all pixels of all photos together. Of equal candidates by the objective the one with the
    better of the other metrics comes first, in the order of ``OBJECTIVES``; of candidates equal in all of them, the one
    that comes first in the grid.

    Cost: one pass over the photos, and 21 bytes per pixel that is not void, 275 MB for 100 photos of 256 x 512: 17 for
    maps and label, which are kept, and 4 for the scores of one candidate; float64 maps take twice that. To them come
    the thresholds of :class:`rwpm_fast.metrics.PixelMetrics`. Every candidate averages and sorts all pixels.

    Args:
        photos: (maps, labels) of every photo, arrays or tensors: maps [4, H, W] floating point in [0, 1], in the order
            of ``MAPS``; labels [H, W] integer, 0 inlier, 1 anomaly, every other value from 0 on void. What maps hold on
            void pixels does not matter.
        objective: "fpr95" (lowest, as published), "ap" or "auroc" (highest).
        fpr_rule: how FPR95 is read off the curve, see :class:`rwpm_fast.metrics.PixelMetrics`.

    Returns:
        The 224 candidates, best first.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: unknown objective or rule, shapes do not fit, a map leaves [0, 1] or is NaN on a valid pixel, or the
            photos have no anomaly or no inlier.

    Example:
        >>> maps, labels = torch.rand(4, 8, 8), torch.arange(64).reshape(8, 8) % 2
        >>> weights, result = grid_search([(maps, labels)])[0]
        >>> len(weights), result.positives
        (4, 32)
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {objective!r}")
    check_fpr_rule(fpr_rule)
    kept = [_valid_pixels(index, *photo) for index, photo in enumerate(photos)]
    for name, value in (("anomalies", ANOMALY), ("inliers", INLIER)):
        if not any((labels == value).any() for _, labels in kept):
            raise ValueError(f"photos: expected {name}, labeled {value}, got none in {len(kept)} photos")
    candidates = [Candidate(weights, _metrics(kept, weights, fpr_rule)) for weights in grid()]
    return sorted(candidates, key=lambda candidate: _rank(candidate.result, objective))


class LearnedEnsemble(nn.Module):
    """Weighted average whose weights are learned, together with the dissimilarity network or after it.

    The weights are softplus(``raw``), so always positive, and divided by their sum: the score is a probability, which
    :func:`ensemble_loss` takes.

    Source: the appendix of the paper ("end to end", table 6) has one scalar per map and tells neither constraint, start
    nor loss; those are a choice of this package. There average precision is about that of a grid search, FPR95 worse.

    Attributes:
        raw: [4] parameter, the weights before softplus.

    Example:
        >>> ensemble = LearnedEnsemble()
        >>> maps = torch.rand(2, 4, 8, 8)  # of stack_maps
        >>> list(ensemble(maps).shape)
        [2, 8, 8]
    """

    def __init__(self, weights: Sequence[float] = PUBLISHED_WEIGHTS) -> None:
        """Create an ensemble that starts from given weights.

        Args:
            weights: four numbers of 0 or more, not all 0, which are divided by their sum: the result of a grid search.
                Shares below 0.01 start at 0.01, because softplus reaches 0 only where its gradient is 0 too: the
                published weights start as (0.735, 0.245, 0.010, 0.010).

        Raises:
            TypeError: a weight is not a number.
            ValueError: there are not four weights, or one is out of range.
        """
        super().__init__()
        start = torch.tensor(_normalized(weights), dtype=torch.float64).clamp(min=SMALLEST_START)
        self.raw = nn.Parameter(start.expm1().log().to(torch.get_default_dtype()))

    @property
    def weights(self) -> Tensor:
        """The weights of the maps, [4], positive, with sum 1; they carry a gradient."""
        positive = F.softplus(at_least_float32(self.raw))
        return positive / positive.sum()

    def forward(self, maps: Tensor) -> Tensor:
        """Average maps [..., 4, H, W], as :func:`weighted_average` does.

        Returns:
            Score: [..., H, W], in [0, 1] if the maps are.

        Raises:
            TypeError: ``maps`` is not a floating-point tensor.
            ValueError: there are not four maps.
        """
        return _combined(list(zip(self.weights.unbind(), _unstacked(maps, -3), strict=True)))


def ensemble_loss(score: Tensor, labels: Tensor, class_weights: Sequence[float] | Tensor = (1.0, 1.0)) -> Tensor:
    """Compute the negative log-likelihood of labels by a score that is a probability, weighted by class.

    The mean over the pixels that are not void, each with the weight of its class, as in torch's ``cross_entropy``; of
    void pixels alone it is 0. Scores are clamped to [1e-6, 1 - 1e-6], in float32 at least.

    Args:
        score: [..., H, W] floating point in [0, 1].
        labels: [..., H, W] integer, 0 inlier, 1 anomaly, 255 void; void pixels get a gradient of 0, whatever their
            score.
        class_weights: of labels 0 and 1, positive; see :func:`rwpm_fast.synboost.labels.class_weights`.

    Returns:
        Loss: [], at least 0.

    Raises:
        TypeError: ``score`` is not a floating-point tensor, or ``labels`` are no integers.
        ValueError: shapes differ, another label, or ``class_weights`` are not two positive, finite numbers.

    Example:
        >>> round(ensemble_loss(torch.tensor([[0.5, 0.9]]), torch.tensor([[1, 255]])).item(), 4)
        0.6931
    """
    _check_floating("score", score)
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels: expected a torch.Tensor of integers, got {got}")
    if labels.shape != score.shape:
        raise ValueError(f"labels: expected shape {list(score.shape)} to match score, got {list(labels.shape)}")
    anomaly, void = labels == ANOMALY, labels == VOID
    if not ((labels == INLIER) | anomaly | void).all():
        raise ValueError(f"labels: expected 0, 1 and 255, got {labels.unique().tolist()}")
    score = at_least_float32(score)
    by_class = torch.as_tensor(class_weights, dtype=score.dtype, device=score.device)
    if by_class.shape != (2,) or not ((by_class > 0) & by_class.isfinite()).all():
        raise ValueError(f"class_weights: expected two positive, finite numbers, got {by_class.tolist()}")

    # Filled before the logarithms: a NaN there would reach the gradient, even times 0.
    score = score.masked_fill(void, 0.5).clamp(CLAMP, 1 - CLAMP)
    likelihood = torch.where(anomaly, score, 1 - score)
    weight = torch.where(anomaly, by_class[ANOMALY], by_class[INLIER]).masked_fill(void, 0)
    return -(weight * likelihood.log()).sum() / weight.sum().clamp(min=torch.finfo(score.dtype).tiny)


def _combined(parts: Sequence[tuple[float | Tensor, Tensor]]) -> Tensor:
    """Add maps by their weights, one after another: no product of matrices, whose precision varies."""
    (weight, values), *others = parts
    total = weight * values
    for weight, values in others:
        total = total + weight * values
    return total


def _unstacked(maps: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Take the four maps apart, in float32 at least."""
    _check_floating("maps", maps)
    if not -maps.dim() <= dim < maps.dim() or maps.shape[dim] != len(MAPS):
        raise ValueError(
            f"maps: expected {len(MAPS)} maps ({', '.join(MAPS)}) along dim {dim}, got shape {list(maps.shape)}"
        )
    return at_least_float32(maps).unbind(dim)


def _normalized(weights: Sequence[float]) -> Weights:
    """Divide weights by their sum, or raise TypeError or ValueError if they make no average."""
    if len(weights) != len(MAPS):
        raise ValueError(f"weights: expected {len(MAPS)} of them ({', '.join(MAPS)}), got {len(weights)}")
    check_numbers(**{f"weights[{index}]": weight for index, weight in enumerate(weights)})
    a, b, c, d = map(float, weights)
    total = a + b + c + d
    if not (min(a, b, c, d) >= 0 and 0 < total < math.inf):
        raise ValueError(f"weights: expected finite numbers of 0 or more, not all 0, got {[a, b, c, d]}")
    return a / total, b / total, c / total, d / total


def _check_floating(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name}: expected a floating-point torch.Tensor, got {got}")


def _valid_pixels(index: int, maps: Any, labels: Any) -> tuple[Tensor, np.ndarray]:
    """Take the pixels of a photo that are not void.

    Args:
        index: of the photo, for errors.
        maps: [4, H, W] array or tensor.
        labels: [H, W] array or tensor.

    Returns:
        maps: [4, N], float32 or float64.
        labels: [N] uint8, 0 or 1.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: shapes do not fit, a label is negative, or a map leaves [0, 1].
    """
    maps, labels = as_array("maps", maps), as_array("labels", labels)
    if maps.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"maps: expected float16, float32 or float64, got {maps.dtype}")
    if labels.dtype.kind not in "iub":
        raise TypeError(f"labels: expected integers or bool, got {labels.dtype}")
    if labels.ndim != 2 or tuple(maps.shape) != (len(MAPS), *labels.shape):
        raise ValueError(
            f"photos: expected maps [{len(MAPS)}, H, W] and labels [H, W], got {list(maps.shape)} and "
            f"{list(labels.shape)} of photo {index}"
        )
    check_labels(labels, (ANOMALY,), (INLIER,))
    valid = (labels == ANOMALY) | (labels == INLIER)
    pixels = maps[:, valid]
    in_range = ((pixels >= 0) & (pixels <= 1)).all(1)  # NaN is not
    if not in_range.all():
        wrong = [name for name, right in zip(MAPS, in_range.tolist(), strict=True) if not right]
        raise ValueError(
            f"photos: expected maps in [0, 1], got others in {', '.join(wrong)} of photo {index} (normalize them first)"
        )
    return at_least_float32(torch.from_numpy(pixels)), labels[valid].astype(np.uint8)


def _metrics(photos: Sequence[tuple[Tensor, np.ndarray]], weights: Weights, fpr_rule: str) -> PixelResult:
    """Compute the metrics of photos with given weights: their maps [4, N] and labels [N]."""
    metrics = PixelMetrics(fpr_rule)
    for maps, labels in photos:
        metrics.update(weighted_average(maps, weights, dim=0), labels)
    return metrics.compute()


def _rank(result: PixelResult, objective: str) -> list[float]:
    """Return the metrics of a candidate, smaller where better, the objective first."""
    losses = {"fpr95": result.fpr95, "ap": -result.ap, "auroc": -result.auroc}
    return [losses.pop(objective), *losses.values()]
