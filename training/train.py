"""Train the compact network on lessons for so many minutes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rwpm_fast.images import write_whole
from rwpm_fast.networks.compact import CompactNet

from .teacher import Lesson, batches


def train(
    network: CompactNet,
    lessons: list[Lesson],
    minutes: float,
    *,
    batch: int = 4,
    height: int = 256,
    width: int = 480,
    rate: float = 3e-3,
    seed: int = 0,
    out: Path | None = None,
    note: Callable[[str], None] = print,
) -> CompactNet:
    """Train with batch norms and an average over the last steps, and fold the norms in at the end.

    Args:
        network: as constructed, or as an earlier training left it.
        minutes: by the clock; the learning rate rises for the first twentieth and then falls as a cosine to zero.
        out: where to write the weights so far, every few minutes and at the end; whole.
    """
    torch.manual_seed(seed)
    network.normalise().train().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0}])
    begun = written = time.monotonic()
    losses: list[float] = []
    for step, (pictures, said) in enumerate(batches(lessons, batch, height, width, seed)):
        now = time.monotonic()
        done = (now - begun) / 60 / minutes
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(done / 0.05 + 0.02, 0.5 + 0.5 * math.cos(math.pi * done))
        images = network.preprocess(pictures).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        loss = torch.stack([_loss(own.float(), lesson) for own, lesson in zip(logits, said, strict=True)]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        _follow(average, network, min(0.995, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if step % 50 == 49:
            note(f"step {step + 1}, {done:.0%} of the time, loss {np.mean(losses[-50:]):.4f}")
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
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def _loss(logits: Tensor, lesson: Lesson) -> Tensor:
    if lesson.logits is not None:
        teacher = lesson.logits.float().log_softmax(0)
        own = logits.log_softmax(0)
        return (teacher.exp() * (teacher - own)).sum(0).mean()
    known = (lesson.classes != 255).sum().clamp_min(1)  # of a crop there may be none
    classes = lesson.classes[None].long()
    return F.cross_entropy(logits[None], classes, ignore_index=255, label_smoothing=0.05, reduction="sum") / known


@torch.no_grad()
def _follow(average: CompactNet, network: CompactNet, share: float) -> None:
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - share)
        else:
            mean.copy_(now)
