"""How tight the embeddings of each class are, and how far apart the classes: by cosines, as the walk sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tightness:
    """Numbers of K classes; NaN for a class without a pixel.

    Attributes:
        spread: [K] float64 in [0, 1], within-class spread: mean over the class's pixels of 1 minus the cosine with the
            class's direction, which is the mean of its unit embeddings. It equals 1 minus the length of that mean, the
            spherical variance of directional statistics. 0: all embeddings have one direction.
        margin: [K] float64 in [-2, 2], between-class margin: mean over the class's pixels of the cosine with their own
            class's direction minus the largest cosine with that of another class. Below 0: they resemble another class
            more than their own. NaN where there is no other class.
    """

    spread: Tensor
    margin: Tensor

    def mean(self) -> tuple[float, float]:
        """Return the means of spread and margin over the classes that have pixels, each class alike."""
        return float(self.spread.nanmean()), float(self.margin.nanmean())


def class_tightness(embeddings: Tensor, classes: Tensor) -> Tightness:
    """Measure the within-class spread and the between-class margin of embeddings.

    Source: spherical variance, Mardia and Jupp, Directional Statistics (2000), section 9.2. The margin is the numerator
    of the simplified silhouette (Hruschka, de Castro and Campello, 2004), with 1 minus the cosine for the distance.

    Args:
        embeddings: [N, D] floating point, finite; lengths do not count. An embedding of zeros has a cosine of 0 with
            all.
        classes: [N] int64, class of each pixel; below 0 for a pixel that does not count.

    Returns:
        Spread and margin of the classes 0 to K - 1, K - 1 being the largest that occurs, computed in float64.

    Raises:
        ValueError: shapes that do not match, or no pixel that counts.

    Example:
        >>> before, after = (class_tightness(e, classes) for e in (embeddings, rwpm_fast.walk(embeddings)))
        >>> before.spread - after.spread  # [K]
    """
    if embeddings.dim() != 2 or classes.shape != embeddings.shape[:1]:
        raise ValueError(
            f"classes: expected [N] for embeddings [N, D], got {list(classes.shape)} for {list(embeddings.shape)}"
        )
    counted = classes >= 0
    own = classes[counted]  # [n]
    if own.numel() == 0:
        raise ValueError(f"classes: expected a pixel of class 0 or above, got none among {len(classes)}")
    unit = F.normalize(embeddings[counted].double(), dim=1)  # [n, D]
    pixels = own.bincount()  # [K]
    mean = unit.new_zeros(len(pixels), unit.shape[1]).index_add_(0, own, unit) / pixels[:, None]  # NaN without pixels
    cosines = unit @ F.normalize(mean, dim=1).mT  # [n, K]
    own_cosine = cosines.gather(1, own[:, None]).squeeze(1)
    others = cosines.scatter(1, own[:, None], -math.inf).nan_to_num(nan=-math.inf, neginf=-math.inf)
    gap = own_cosine - others.amax(1)
    margin = torch.zeros_like(pixels, dtype=gap.dtype).index_add_(0, own, gap) / pixels
    spread = (1 - mean.norm(dim=1)).clamp_min(0)  # rounding may make a unit vector longer than 1
    return Tightness(spread, torch.where(margin.isfinite(), margin, math.nan))
