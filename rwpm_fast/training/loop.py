"""Train the compact network for a fixed time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.checkpoint import save_float16
from ..networks.compact import CompactNet
from .augment import Crop, batches
from .samples import PhotoSample, Sample

LOSSES = {"classes": 1.0, "teacher energy": 0.1, "scene energy": 0.1, "outlier energy": 0.1}  # and their weights
OUTLIER_GAP = 5.0  # of log-sum-exp, from the margin of known cells down to that of outliers
DEFAULT_MARGIN = 6.0  # of log-sum-exp, without a teacher


def train(
    network: CompactNet,
    samples: Sequence[Sample],
    minutes: float,
    *,
    batch_size: int = 4,
    height: int = 256,
    width: int = 480,
    learning_rate: float = 2e-3,
    seed: int = 0,
    out: Path | None = None,
    log: Callable[[str], None] = print,
) -> CompactNet:
    """Train with batch norms, average the weights over the last steps, and fold the norms in at the end.

    Three things are learned at once. Classes: a teacher's or the true ones. Confidence: the log-sum-exp of a teacher's
    logits, which class probabilities leave open and whose negative is the energy score; in rendered scenes it is only
    kept above a margin. Outliers: a log-sum-exp below a margin, five less than the other (energy-bounded learning, Liu
    et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).

    Args:
        network: as constructed, or as an earlier training left it; changed in place.
        samples: photos with a teacher's logits, rendered scenes, or both.
        minutes: duration; the learning rate rises for the first twentieth and then falls to zero as a cosine.
        batch_size: crops per step.
        height: of a crop, a multiple of 8.
        width: of a crop, a multiple of 8.
        learning_rate: the highest, > 0.
        seed: of crops and augmentation.
        out: npz file for the weights so far, written every five minutes and at the end, whole; None for no file.
        log: called with a line of progress every 50 steps.

    Returns:
        The network with averaged weights and folded norms.
    """
    torch.manual_seed(seed)
    network.normalize().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0}])
    energy_margin = teacher_energy_quantile(samples)
    started = saved = time.monotonic()
    history: list[list[float]] = []
    for step, crop in enumerate(batches(samples, batch_size, height, width, len(network.classes), seed)):
        now = time.monotonic()
        done = (now - started) / 60 / minutes
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(done / 0.05 + 0.02, 0.5 + 0.5 * math.cos(math.pi * done))
        images = network.preprocess(crop.image).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        losses = _losses(logits.float(), crop, energy_margin)
        optimizer.zero_grad(set_to_none=True)
        weighted = (weight * loss for weight, loss in zip(LOSSES.values(), losses, strict=True))
        sum(weighted, torch.zeros(())).backward()
        if not torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0).isfinite():
            # about once in a thousand steps in half precision; restart from the average, which stays finite
            network.load_state_dict(average.state_dict())
            continue
        optimizer.step()
        ema_update(average, network, min(0.998, (step + 1) / (step + 10)))
        history.append([loss.item() for loss in losses])
        if step % 50 == 49:
            means = zip(LOSSES, np.mean(history[-50:], axis=0), strict=True)
            log(f"step {step + 1}, {done:.0%} of the time; " + ", ".join(f"{name} {mean:.3f}" for name, mean in means))
        if out and now - saved > 300:
            saved = now
            save_float16(copy.deepcopy(average).fold(), out)
    average.fold()
    if out:
        save_float16(average, out)
    return average


def teacher_energy_quantile(samples: Sequence[Sample]) -> float:
    """Return the log-sum-exp that a teacher's logits exceed at 70 % of the cells; ``DEFAULT_MARGIN`` without a teacher.

    The log-sum-exp is the negative energy, so this is the 70 % quantile of the teacher's energy, negated.
    """
    lse = [sample.logits.float().logsumexp(0).flatten() for sample in samples if isinstance(sample, PhotoSample)]
    return float(np.quantile(torch.cat(lse).numpy(), 0.3)) if lse else DEFAULT_MARGIN


def _losses(logits: Tensor, crop: Crop, energy_margin: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the losses named in ``LOSSES``.

    Args:
        logits: [B, K, h, w] of the network.
        crop: batch of B crops.
        energy_margin: log-sum-exp that known cells of rendered scenes should exceed.
    """
    lse = logits.logsumexp(1)  # [B, h, w]
    taught = ~crop.teacher_lse.isnan()
    divergence = (crop.target.exp() * (crop.target - logits + lse[:, None])).sum(1)
    difference = F.smooth_l1_loss(lse, torch.where(taught, crop.teacher_lse, lse.detach()), reduction="none")
    excess = F.softplus(lse - (energy_margin - OUTLIER_GAP)) * crop.unknown
    return (
        (divergence * crop.known).mean(),
        (difference * crop.known).mean(),
        (F.relu(energy_margin - lse) * (crop.known & ~taught)).mean(),
        excess.sum() / crop.unknown.sum().clamp_min(60),  # one small outlier must not weigh as much as a full batch
    )


@torch.no_grad()
def ema_update(average: CompactNet, network: CompactNet, decay: float) -> None:
    """Move an exponential moving average of the weights towards a network; counters are copied.

    Args:
        average: changed in place.
        network: of the same architecture.
        decay: share of the average that is kept, in [0, 1].
    """
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
