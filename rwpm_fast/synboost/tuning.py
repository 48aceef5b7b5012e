"""Weights of an ensemble tuned on one split and compared on another: grid search against learned weights.

Source: SynBoost, table 6 of the appendix. There the learned weights are trained together with the dissimilarity
network; here the network is done, and they are trained after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..io.arrays import as_array
from ..metrics import PixelMetrics, PixelResult
from ..networks.precision import at_least_float32
from .ensemble import (
    MAPS,
    PUBLISHED_WEIGHTS,
    LearnedEnsemble,
    Weights,
    ensemble_loss,
    grid_search,
    weighted_average,
)
from .labels import class_weights
from .pipeline import SynBoostResult

MAX_EVALUATIONS = 100  # of the loss; four weights need some twenty


class EnsembleRow(NamedTuple):
    """Metrics of an ensemble on photos.

    Attributes:
        name: where its weights are from.
        weights: of the maps, in the order of ``MAPS``; their sum is 1.
        result: metrics of the pooled pixels.
    """

    name: str
    weights: Weights
    result: PixelResult


def ensemble_maps(result: SynBoostResult) -> Tensor:
    """Return the maps that an ensemble averages, [4, h, w] in [0, 1], in the order of ``MAPS``.

    Raises:
        ValueError: the pipeline did not compute a map, since neither network nor ensemble reads it.
    """
    maps = {"anomaly": result.probability, **{name: getattr(result.comparison, name) for name in MAPS[1:]}}
    if missing := [name for name, values in maps.items() if values is None]:
        raise ValueError(
            f"result: expected all maps, got one without {', '.join(missing)}; score the photo by a pipeline whose "
            "dissimilarity network reads dispersion maps"
        )
    return torch.stack([values for values in maps.values() if values is not None])


def tuned_weights(photos: Iterable[tuple[Any, Any]], *, fpr_rule: str = "fishyscapes") -> dict[str, Weights]:
    """Find the weights of an ensemble on labeled photos, in both ways of table 6.

    Args:
        photos: (maps, labels) of every photo: maps [4, H, W] in the order of ``MAPS``; labels [H, W], 0 inlier, 1
            anomaly, 255 void. See :func:`rwpm_fast.synboost.ensemble.grid_search`, also for the cost.
        fpr_rule: how FPR95 is read off the curve.

    Returns:
        "grid search": of the 224 candidates the one of the lowest FPR95; "end to end": :func:`learned_weights`, which
        start from it.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: see :func:`rwpm_fast.synboost.ensemble.grid_search`, or a label other than 0, 1 and 255.
    """
    photos = list(photos)
    found = grid_search(photos, objective="fpr95", fpr_rule=fpr_rule)[0].weights
    return {"grid search": found, "end to end": learned_weights(photos, found)}


def learned_weights(photos: Sequence[tuple[Any, Any]], start: Sequence[float] = PUBLISHED_WEIGHTS) -> Weights:
    """Train a :class:`rwpm_fast.synboost.ensemble.LearnedEnsemble` on the maps of photos.

    The loss is the mean over all pixels that are not void, weighted by class as in the training of the network. With
    four parameters it is minimized by L-BFGS on all photos together, so that the result depends on no order, learning
    rate or chance.

    Args:
        photos: see :func:`tuned_weights`.
        start: the weights to start from, such as those of a grid search.

    Returns:
        Weights, positive, with sum 1.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: shapes do not fit, no labeled pixel, or a label other than 0, 1 and 255.
    """
    by_class = class_weights([labels for _, labels in photos])
    tensors = [(_to_tensor("maps", maps), _to_tensor("labels", labels)) for maps, labels in photos]
    masses = [sum(float((labels == value).sum()) * by_class[value] for value in (0, 1)) for _, labels in tensors]
    ensemble = LearnedEnsemble(start)
    optimizer = torch.optim.LBFGS(
        ensemble.parameters(), max_iter=MAX_EVALUATIONS, max_eval=MAX_EVALUATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        total = 0.0
        for (maps, labels), mass in zip(tensors, masses, strict=True):  # one by one, so that no graph spans all photos
            part = ensemble_loss(ensemble(maps), labels, by_class) * (mass / sum(masses))
            part.backward()
            total += float(part.detach())
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    a, b, c, d = ensemble.weights.tolist()
    return a, b, c, d


def compare_ensembles(
    weights: Mapping[str, Sequence[float]], photos: Iterable[tuple[Any, Any]], *, fpr_rule: str = "fishyscapes"
) -> list[EnsembleRow]:
    """Compute the metrics of ensembles on photos that none of them was tuned on, beside those of every map alone.

    Args:
        weights: name to weights, such as :func:`tuned_weights` finds.
        photos: see :func:`tuned_weights`.
        fpr_rule: how FPR95 is read off the curve.

    Returns:
        Rows of each map alone, of the published weights, and of ``weights``, in this order.

    Raises:
        TypeError: wrong kind of numbers.
        ValueError: shapes do not fit, or weights that make no average.

    Example:
        >>> rows = compare_ensembles(tuned_weights(photos[:50]), photos[50:])
        >>> [(row.name, row.result.ap) for row in rows]
    """
    alone = {name: [float(name == other) for other in MAPS] for name in MAPS}
    candidates: dict[str, Sequence[float]] = {**alone, "published": PUBLISHED_WEIGHTS, **weights}
    metrics = {name: PixelMetrics(fpr_rule) for name in candidates}
    for maps, labels in photos:
        values, truth = _to_tensor("maps", maps), as_array("labels", labels)
        for name, shares in candidates.items():
            metrics[name].update(weighted_average(values, shares), truth)
    return [EnsembleRow(name, _shares(shares), metrics[name].compute()) for name, shares in candidates.items()]


def _shares(weights: Sequence[float]) -> Weights:
    a, b, c, d = (float(weight) / sum(weights) for weight in weights)
    return a, b, c, d


def _to_tensor(name: str, values: Any) -> Tensor:
    """Copy an array or a tensor, also torch's inference tensors, which take part in no gradient."""
    tensor = torch.from_numpy(np.array(as_array(name, values)))
    return at_least_float32(tensor) if tensor.is_floating_point() else tensor
