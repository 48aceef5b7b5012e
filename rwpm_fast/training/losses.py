"""Losses of the compact network's training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .augment import Crop
from .samples import PhotoSample, Sample

LOSSES = {"classes": 1.0, "known energy": 0.1, "outlier energy": 0.1}  # and their weights
OUTLIER_GAP = 5.0  # of log-sum-exp, from the margin of known cells down to that of outliers
DEFAULT_MARGIN = 6.0  # of log-sum-exp, without a teacher


def teacher_energy_quantile(samples: Sequence[Sample]) -> float:
    """Return the log-sum-exp that a teacher's logits exceed at 70 % of the cells; ``DEFAULT_MARGIN`` without a teacher.

    The log-sum-exp is the negative energy, so this is the 70 % quantile of the teacher's energy, negated.
    """
    lse = [sample.logits.float().logsumexp(0).flatten() for sample in samples if isinstance(sample, PhotoSample)]
    return float(np.quantile(torch.cat(lse).numpy(), 0.3)) if lse else DEFAULT_MARGIN


def compute_losses(logits: Tensor, crop: Crop, energy_margin: float) -> Tensor:
    """Compute the losses named in ``LOSSES``.

    Three things are learned at once. Classes: a teacher's or the true ones. Confidence: the log-sum-exp of the logits,
    which class probabilities leave open and whose negative is the energy score, is kept above a margin. Outliers: it is
    kept below another margin, five less (energy-bounded learning, Liu et al., "Energy-based Out-of-distribution
    Detection", NeurIPS 2020).

    Args:
        logits: [B, K, h, w] float32, of the network or walked.
        crop: batch of B crops.
        energy_margin: log-sum-exp that cells should exceed where confidence is learned.

    Returns:
        [3], unweighted.
    """
    lse = logits.logsumexp(1)  # [B, h, w]
    divergence = (crop.target.exp() * (crop.target - logits + lse[:, None])).sum(1)
    excess = F.softplus(lse - (energy_margin - OUTLIER_GAP)) * crop.unknown
    losses = (
        (divergence * crop.known).mean(),
        (F.relu(energy_margin - lse) * crop.confident).mean(),
        excess.sum() / crop.unknown.sum().clamp_min(60),  # one small outlier must not weigh as much as a full batch
    )
    return torch.stack(losses)
