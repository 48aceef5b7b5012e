"""Two dimensions of embeddings, the same ones before and after a walk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..io.extras import import_extra

PURPOSE = "the projection of embeddings"
MODULES = {"pca": "sklearn.decomposition", "tsne": "sklearn.manifold"}  # of the methods
PERPLEXITY = 30.0  # of t-SNE, as in its paper


@dataclass(frozen=True, eq=False)
class Projection:
    """Embeddings in two dimensions.

    Attributes:
        before: [n, 2], before the walk.
        after: [n, 2], after it, on the same axes.
        axes: what the axes are called.
    """

    before: NDArray
    after: NDArray
    axes: tuple[str, str]


def project(before: NDArray, after: NDArray, method: str, seed: int) -> Projection:
    """Project the directions of embeddings before and after a walk, fitted on both together.

    PCA is linear: distances in the picture are those of the directions, as far as two components hold them. t-SNE
    keeps neighborhoods and gives every one of them about as much room, so it shows which pixels belong together, but
    neither how tight they are nor how far apart.

    Args:
        before: [n, D], before the walk; lengths do not count.
        after: [n, D], after the walk.
        method: "pca" or "tsne".
        seed: of t-SNE.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    both = np.concatenate([before, after]).astype(np.float64)
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    library = import_extra(MODULES[method], PURPOSE)
    if method == "pca":
        model = library.PCA(n_components=2, svd_solver="full")
        points = model.fit_transform(both)
        shares = [f"{share:.0%}".replace("%", " %") for share in model.explained_variance_ratio_]
        axes = (f"component 1, {shares[0]} of the variance", f"component 2, {shares[1]} of the variance")
    else:
        perplexity = min(PERPLEXITY, (len(both) - 1) / 3)
        points = library.TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(both)
        axes = ("t-SNE 1", "t-SNE 2")
    return Projection(points[: len(before)], points[len(before) :], axes)
