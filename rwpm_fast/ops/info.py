"""What a walk did: the path it took, what it kept of the graph, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..reference import valid_pixels
from .settings import WalkSettings

_PATHS = ("none", "streaming", "sparse")  # as csrc/walk.h counts them


@dataclass(frozen=True)
class WalkInfo:
    """What the walk of one image did.

    Attributes:
        path: "streaming" (every weight made anew at every transition), "sparse" (on a compiled matrix), "mixed" (some
            rows so, some so; Triton's kernels only), "torch" (plain torch, streaming), or "none" (nothing to walk: no
            transitions, no channels, fewer than two valid pixels).
        pixels: pixels of the graph.
        kept: ordered pairs of pixels that a transition goes over.
        dropped_mass: the largest share of its mass that a row of S dropped, bounded from above; 0 unless sparse.
        seconds: wall-clock time by phase: "pack" (find the valid pixels, make unit embeddings), "compile" (the sparse
            matrix, or the row sums of streaming; both where a graph turned out too dense), "steps" (the transitions).
            Plain torch has one phase, "walk".
    """

    path: str
    pixels: int
    kept: int
    dropped_mass: float
    seconds: dict[str, float]


def info_of_table(table: Tensor, *, batched: bool) -> WalkInfo | tuple[WalkInfo, ...]:
    """Read what ``rwpm::walk_with_info`` returns beside the result, [B, 7]; of one image where not ``batched``."""
    entries = tuple(
        WalkInfo(
            _PATHS[int(path)], int(pixels), int(kept), dropped, {"pack": pack, "compile": compiled, "steps": steps}
        )
        for path, pixels, kept, dropped, pack, compiled, steps in table.tolist()
    )
    return entries if batched else entries[0]


def timed(
    walk: Callable[..., Tensor],
    embeddings: Tensor,
    values: Tensor | None,
    mask: Tensor | None,
    settings: WalkSettings,
) -> tuple[Tensor, WalkInfo | tuple[WalkInfo, ...]]:
    """Result and info of a walk that tells nothing by itself, image by image."""
    if embeddings.dim() == 3:
        parts = [
            timed(walk, e, None if values is None else values[b], None if mask is None else mask[b], settings)
            for b, e in enumerate(embeddings)
        ]
        results = [result for result, _ in parts]
        empty = embeddings if values is None else values
        return torch.stack(results) if results else empty.new_empty(empty.shape), tuple(info for _, info in parts)
    count = int(valid_pixels(embeddings, values, mask).sum())
    channels = (embeddings if values is None else values).shape[-1]
    begin = time.perf_counter()
    result = walk(embeddings, values, mask, settings)
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    seconds = {"walk": time.perf_counter() - begin}
    if settings.steps == 0 or settings.alpha == 0 or channels == 0 or count < 2:
        return result, WalkInfo("none", 0, 0, 0.0, seconds)
    return result, WalkInfo("torch", count, count * (count - 1), 0.0, seconds)
