"""Train the compact network on lessons for so many minutes."""

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

from rwpm_fast.io.files import atomic_write
from rwpm_fast.networks.compact import CompactNet

from .augment import View, batches
from .samples import Lesson

WEIGHTS = (1.0, 0.1, 0.1, 0.1)  # of classes, sureness beside a teacher, in scenes, of strangers
MARGIN = 5.0  # of log-sum-exp, between what is known and what is not


def train(
    network: CompactNet,
    lessons: Sequence[Lesson],
    minutes: float,
    *,
    batch: int = 4,
    height: int = 256,
    width: int = 480,
    rate: float = 2e-3,
    seed: int = 0,
    out: Path | None = None,
    note: Callable[[str], None] = print,
) -> CompactNet:
    """Train with batch norms and an average over the last steps, and fold the norms in at the end.

    Three things are learned at once: classes, a teacher's or the true ones; how sure to be, by the log-sum-exp of a
    teacher's logits, which classes leave open and which is the energy score; and to be unsure, five below that, of what
    no class is for.

    Args:
        network: as constructed, or as an earlier training left it.
        lessons: photos that a teacher saw, rendered scenes, or both.
        minutes: by the clock; the learning rate rises for the first twentieth and then falls as a cosine to zero.
        out: where to write the weights so far, every few minutes and at the end; whole.
    """
    torch.manual_seed(seed)
    network.normalize().train().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0}])
    sure = _sureness(lessons)
    begun = written = time.monotonic()
    losses: list[list[float]] = []
    for step, view in enumerate(batches(lessons, batch, height, width, len(network.classes), seed)):
        now = time.monotonic()
        done = (now - begun) / 60 / minutes
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(done / 0.05 + 0.02, 0.5 + 0.5 * math.cos(math.pi * done))
        images = network.preprocess(view.picture).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        parts = _losses(logits.float(), view, sure)
        optimizer.zero_grad(set_to_none=True)
        sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True)).backward()
        if not torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0).isfinite():
            # Once in some thousand steps of half precision; where the network itself is lost, the average is not.
            network.load_state_dict(average.state_dict())
            continue
        optimizer.step()
        _follow(average, network, min(0.998, (step + 1) / (step + 10)))
        losses.append([part.item() for part in parts])
        if step % 50 == 49:
            told = ", ".join(f"{mean:.3f}" for mean in np.mean(losses[-50:], axis=0))
            note(f"step {step + 1}, {done:.0%} of the time; classes, sureness, of scenes, of strangers: {told}")
        if out and now - written > 300:
            written = now
            save(copy.deepcopy(average).fold(), out)
    average.fold()
    if out:
        save(average, out)
    return average


def save(network: CompactNet, path: Path) -> None:
    """Write folded weights as float16."""
    arrays = {name: t.detach().contiguous().numpy().astype(np.float16) for name, t in network.state_dict().items()}
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


def _sureness(lessons: Sequence[Lesson]) -> float:
    """What a teacher exceeds at 70 % of the cells: log-sum-exp of its logits; 6 without a teacher."""
    said = [lesson.logits.float().logsumexp(0).flatten() for lesson in lessons if lesson.logits is not None]
    return float(np.quantile(torch.cat(said).numpy(), 0.3)) if said else 6.0


def _losses(logits: Tensor, view: View, sure: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of classes, of sureness beside a teacher, of sureness in scenes, and of sureness where there should be none."""
    own = logits.logsumexp(1)  # [B, h, w]
    taught = ~view.evidence.isnan()
    divergence = (view.target.exp() * (view.target - logits + own[:, None])).sum(1)
    beside = F.smooth_l1_loss(own, torch.where(taught, view.evidence, own.detach()), reduction="none")
    strangers = F.softplus(own - (sure - MARGIN)) * view.unknown
    return (
        (divergence * view.known).mean(),
        (beside * view.known).mean(),
        (F.relu(sure - own) * (view.known & ~taught)).mean(),
        strangers.sum() / view.unknown.sum().clamp_min(60),  # one small thing is no whole batch
    )


@torch.no_grad()
def _follow(average: CompactNet, network: CompactNet, share: float) -> None:
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - share)
        else:
            mean.copy_(now)
