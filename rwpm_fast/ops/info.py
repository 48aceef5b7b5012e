"""Information on a walk: its path, what it kept of the graph, and the time of its phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..reference import valid_pixels
from .settings import WalkSettings
from .stopwatch import Stopwatch

PHASES = ("pack", "build", "steps")
_PATHS = ("none", "streaming", "sparse")  # in the order of csrc/walk.h


@dataclass(frozen=True)
class WalkInfo:
    """Information on the walk of one image.

    Attributes:
        path: "streaming" (every weight computed again in every transition), "sparse" (on a sparse matrix), "mixed"
            (some rows streamed, the others sparse; Triton only), "torch" (plain torch, streaming), or "none" (nothing
            to walk: no transitions, no channels, fewer than two valid pixels).
        pixels: number of pixels of the graph.
        kept: ordered pairs of pixels whose weights a transition uses.
        dropped_mass: the largest share of its mass that a row of S dropped, or rounding moved, bounded from above; 0
            unless sparse.
        seconds: wall-clock time by phase: "pack" (find the valid pixels, normalize the embeddings), "build" (the sparse
            matrix, or the row sums of streaming; both where a graph turned out too dense), "steps" (the transitions).
            Plain torch has one phase, "walk".
        anchored: number of pixels whose own value has at least half the weight of their row; 0 without an anchor.
    """

    path: str
    pixels: int
    kept: int
    dropped_mass: float
    seconds: dict[str, float]
    anchored: int = 0


Infos: TypeAlias = WalkInfo | tuple[WalkInfo, ...]  # of one image, or of each image of a batch


def infos_from_table(table: Tensor, *, batched: bool) -> Infos:
    """Read the table that ``rwpm::walk_with_info`` returns.

    Args:
        table: [B, 8] float64.
        batched: whether the walk was of a batch.

    Returns:
        One entry for each row, or that of the only row if not ``batched``.
    """
    entries = tuple(
        WalkInfo(
            _PATHS[int(path)], int(pixels), int(kept), dropped, dict(zip(PHASES, seconds, strict=True)), int(anchored)
        )
        for path, pixels, kept, dropped, anchored, *seconds in table.tolist()
    )
    return entries if batched else entries[0]


def eager_info(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings, seconds: dict[str, float]
) -> WalkInfo:
    """Describe the walk of one image in plain torch.

    Args:
        embeddings: [N, D].
        values: [N, C]; the embeddings when None.
        mask: [N] bool, True = valid; all when None.
        settings: of the walk.
        seconds: time by phase.
    """
    pixels = int(valid_pixels(embeddings, values, mask).sum())
    channels = (embeddings if values is None else values).shape[-1]
    if settings.steps == 0 or settings.alpha == 0 or channels == 0 or pixels < 2:
        return WalkInfo("none", 0, 0, 0.0, seconds)
    return WalkInfo("torch", pixels, pixels * (pixels - 1), 0.0, seconds)


class PhaseTimer:
    """Measure the wall-clock seconds of the phases of a walk, waiting for the device at the end of each.

    Args:
        device: on which the walk runs.
        phases: their names, in order.

    Attributes:
        seconds: time by phase, 0 for a phase that has not ended.
    """

    def __init__(self, device: torch.device, phases: Sequence[str] = PHASES) -> None:
        self.seconds = dict.fromkeys(phases, 0.0)
        self._watch = Stopwatch(device)

    def __call__(self, phase: str) -> None:
        """Note that a phase has ended and the next one begins."""
        self.seconds[phase] = self._watch.lap()


def split_batch(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Yield embeddings [N, D], values [N, C] or None, and mask [N] or None of every image of a batch, or of one image.

    Args:
        embeddings: [N, D] or [B, N, D].
        values: [..., N, C] or None.
        mask: [..., N] or None.
    """
    if embeddings.dim() == 2:
        yield embeddings, values, mask
        return
    for b in range(len(embeddings)):
        yield embeddings[b], None if values is None else values[b], None if mask is None else mask[b]


def join_batch(walked: Sequence[tuple[Tensor, WalkInfo]], source: Tensor) -> tuple[Tensor, Infos]:
    """Join the walked images of :func:`split_batch`.

    Args:
        walked: values [N, C] and information of every image.
        source: what was walked, [N, C] or [B, N, C].

    Returns:
        Walked values in the shape of ``source``, and their information.
    """
    if source.dim() == 2:
        return walked[0]
    results = [result for result, _ in walked]
    return torch.stack(results) if results else source.new_empty(source.shape), tuple(info for _, info in walked)
