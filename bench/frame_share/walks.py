"""Walks of a network's map: what walks there, what it would take, and whether it is right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import rwpm_fast
from rwpm_fast.benchmark import Case
from rwpm_fast.benchmark.contender import EXACT
from rwpm_fast.benchmark.device import Device
from rwpm_fast.networks import Network
from rwpm_fast.ops.maps import partition_edges
from rwpm_fast.scoring.scorer import Analysis

CHECKED = 19  # value channels that are checked at most: the walk mixes pixels, so that each channel goes by itself
ROWS = 64  # of a transition, where an exact walk would take too long
SAMPLE = 8100  # pixels whose walk says what more of them would take
PAIR_BYTES, MATRIX_BYTES = 4, 2**30  # of a kept pair; of a sparse matrix at most, or the walk streams


@dataclass(frozen=True, eq=False)
class Task:
    """A walk of a map.

    Args:
        walked: what walks: logits, embeddings or masks.
        embedding_map: [V, D, h, w], V views of the photo.
        value_map: [V, C, h, w]; the embedding map itself where that walks.
        walk: the settings, with a tolerance.
    """

    walked: str
    embedding_map: Tensor
    value_map: Tensor
    walk: rwpm_fast.Walk

    def __call__(self) -> Tensor:
        """Walked values, [V, C, h, w]."""
        return self.walk(self.embedding_map, None if self.value_map is self.embedding_map else self.value_map)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first sub-map, the whole map where it is not cut."""
        height, width = (partition_edges(side, self.walk.settings.parts)[1] for side in self.embedding_map.shape[-2:])
        return height, width

    @property
    def sub_maps(self) -> int:
        """How many are walked, of all views."""
        return len(self.embedding_map) * self.walk.settings.parts**2

    @property
    def settings(self) -> dict[str, Any]:
        """Of an exact walk, as keyword arguments."""
        settings = self.walk.settings
        return {"alpha": settings.alpha, "steps": settings.steps, "temperature": settings.temperature, "tolerance": 0.0}


def corner(map_: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Pixels [N, C] of the top left corner of a map's first view, every ``stride``-th in rows and columns."""
    return map_[0, :, : size[0] : stride, : size[1] : stride].flatten(1).T.contiguous()


def walked_values(network: Network) -> tuple[str, ...]:
    """As published, and where it may be less, that too."""
    return ("embeddings", "masks") if network.mask_head else ("logits",)


def values_of(analysis: Analysis, walked: str) -> Tensor:
    """What the network gives for a walk, [V, C, h, w]."""
    if walked == "embeddings":
        return analysis.embedded.embedding_map
    logits = analysis.walked.logits
    return logits.mask_logits if walked == "masks" else logits[None]


def substitute_maps(source: Path, embedding_map: Tensor, value_map: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding map and value map of the same shapes, from a file of real embeddings.

    The embeddings are enlarged bilinearly and cut or filled up with zeros, which change no cosine, to the channels; a
    second view is the mirror image. A random linear head makes the values of them, as a network's own linear head or
    queries would, unless they are the embeddings themselves.
    """
    channels, height, width = embedding_map.shape[1:]
    problem = Case.from_file(source, (height, width), value_channels=value_map.shape[1]).problem()
    maps = [problem.case.to_map(pixels) for pixels in (problem.embeddings, problem.values)]
    maps[0] = F.pad(maps[0], (0, 0, 0, 0, 0, channels - maps[0].shape[1]))  # a negative number of channels cuts
    if len(embedding_map) == 2:
        maps = [torch.cat([map_, map_.flip(-1)]) for map_ in maps]
    maps = [map_.to(embedding_map.device) for map_ in maps]
    return maps[0], maps[0] if value_map is embedding_map else maps[1]


@dataclass(frozen=True, eq=False)
class Sample:
    """What the walk of a sub-map, or of a sample of its pixels, did and took, and what the exact one of it takes.

    Attributes:
        pixels: how many walked.
        path: see :class:`rwpm_fast.ops.info.WalkInfo`, as is ``kept``.
        kept: pairs of them.
        seconds: of the walk.
        exact_seconds: of the exact walk of the channels that are checked; 0 where it did not run.
        streamed_seconds: of the exact walk of all channels, estimated from that.
        exact: its result [N, CHECKED at most]; None where it did not run, or where the walk streamed and is the same.
    """

    pixels: int
    path: str
    kept: int
    seconds: float
    exact_seconds: float
    streamed_seconds: float
    exact: Tensor | None

    def stays_sparse(self, pixels: int) -> bool:
        """Whether so many pixels are walked on a sparse matrix, if they keep the same share of all pairs."""
        kept = self.kept * (pixels / self.pixels) ** 2
        return self.path == "sparse" and kept * PAIR_BYTES <= MATRIX_BYTES

    def estimate(self, pixels: int) -> float:
        """Seconds of the walk of so many pixels, by pairs."""
        seconds = self.seconds if self.stays_sparse(pixels) else self.streamed_seconds
        return seconds * (pixels / self.pixels) ** 2

    def exact_estimate(self, pixels: int) -> float:
        """Seconds of its exact walk, of the channels that are checked."""
        return self.exact_seconds * (pixels / self.pixels) ** 2


def measure_sample(task: Task, device: Device) -> Sample:
    """Walk a sample of the first sub-map's pixels, spread over it: a corner would have more neighbors than all."""
    height, width = task.size
    return measure(task, device, stride=math.ceil((height * width / SAMPLE) ** 0.5))


def measure(task: Task, device: Device, *, exact: bool = True, stride: int = 1) -> Sample:
    """Walk the first sub-map by itself, every ``stride``-th of its pixels; exactly too, where wanted."""
    e, v = (corner(map_, task.size, stride) for map_ in (task.embedding_map, task.value_map))
    settings = {**task.settings, "tolerance": task.walk.settings.tolerance, "return_info": True}
    rwpm_fast.walk(e[:2], v[:2], **settings)  # what is loaded at first is not the walk's time
    seconds, (_, info) = device.timed(lambda: rwpm_fast.walk(e, v, **settings))
    checked = v[:, :CHECKED].contiguous()
    exact_seconds, result = 0.0, None
    if exact:
        exact_seconds, result = device.timed(lambda: rwpm_fast.walk(e, checked, **task.settings))
    streamed = exact_seconds * (e.shape[1] + v.shape[1]) / (e.shape[1] + checked.shape[1])
    same = info.path in ("streaming", "torch")
    return Sample(len(e), info.path, info.kept, seconds, exact_seconds, streamed, None if same else result)


class Check(NamedTuple):
    """Error of a walk, its bound, and what it was compared with."""

    error: float
    bound: float
    against: str

    @property
    def matched(self) -> bool:
        return self.error <= self.bound


def check(task: Task, result: Tensor, sample: Sample) -> Check:
    """Check a result [V, C, h, w].

    The first sub-map against its exact walk, the norm of the difference relative to that of the walk; or where that was
    not made, rows of its first and of its last transition against the definition, relative to the largest value.
    """
    tolerance, steps = task.walk.settings.tolerance, task.walk.settings.steps
    got = corner(result, task.size)[:, :CHECKED]
    if sample.exact is not None:
        error = ((got - sample.exact).double().norm() / sample.exact.double().norm()).item()
        bound, against = EXACT["float32"] + 2 * steps * tolerance, "exact walk"
    else:
        error, bound, against = _transition_error(task, got), EXACT["float32"] + 2 * tolerance, f"{ROWS} rows, float64"
    if task.sub_maps > 1:
        against += " of the first sub-map"
    return Check(error, bound, against)


def _transition_error(task: Task, result: Tensor) -> float:
    e, v = corner(task.embedding_map, task.size), corner(task.value_map, task.size)[:, :CHECKED].contiguous()
    settings = {**task.settings, "tolerance": task.walk.settings.tolerance}
    rows = torch.randperm(len(e), generator=torch.Generator().manual_seed(0))[:ROWS].to(e.device)
    q = F.normalize(e.double(), dim=1, eps=1e-12)
    similar = q[rows] @ q.T / task.walk.settings.temperature  # [ROWS, N]
    similar.scatter_(1, rows[:, None], -torch.inf)
    S, alpha = similar.softmax(1), task.walk.settings.alpha

    def error(before: Tensor, after: Tensor) -> float:
        wanted = alpha * S @ before.double() + (1 - alpha) * v[rows].double()
        return ((after[rows] - wanted).abs().max() / v.abs().max()).item()

    first, last = (rwpm_fast.walk(e, v, **settings | {"steps": steps}) for steps in (1, task.walk.settings.steps - 1))
    return max(error(v, first), error(last, result), key=lambda e: (e != e, e))  # NaN is the worst
