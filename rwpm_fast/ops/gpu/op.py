"""``torch.ops.rwpm.walk_triton``: the walk by Triton kernels as an operator that compilers see into.

``torch.ops.rwpm.walk`` calls the same function on tensors of a GPU; torch.compile takes this one apart into its kernel
launches, and AOTInductor compiles them into its packages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..gradient import Gradients
from ..settings import OPERATOR_DEFAULTS
from .backward import walk_adjoint, walk_gradients
from .cuda_step import exact_step
from .launch import INTERPRETED as INTERPRETED
from .walk import unsupported_reason as unsupported_reason
from .walk import walk_batch


def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    mask: Tensor | None = None,
    alpha: float = OPERATOR_DEFAULTS.alpha,
    steps: int = OPERATOR_DEFAULTS.steps,
    temperature: float = OPERATOR_DEFAULTS.temperature,
    tolerance: float = OPERATOR_DEFAULTS.tolerance,
    anchor: float = OPERATOR_DEFAULTS.anchor,
    anchor_share: float = OPERATOR_DEFAULTS.anchor_share,
    adjoint: bool = False,
) -> Tensor:
    """Walk checked tensors as :func:`rwpm_fast.walk` does; with ``adjoint``, by the transpose of the same S."""
    settings = {"alpha": alpha, "steps": steps, "temperature": temperature, "tolerance": tolerance}
    settings |= {"anchor": anchor, "anchor_share": anchor_share}
    return _walk(embeddings, values, mask, **settings, adjoint=adjoint)


def walk_by_cuda(embeddings: Tensor, values: Tensor | None, mask: Tensor | None, **settings: Any) -> Tensor:
    """Walk checked tensors with the exact transitions of :mod:`rwpm_fast.ops.gpu.cuda_step`.

    Raises:
        RuntimeError: sizes that its kernels do not take on this device; the message says which.
    """
    return _walk(embeddings, values, mask, **settings, exact_step=exact_step)


def _walk(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, *, adjoint: bool = False, **settings: Any
) -> Tensor:
    values = embeddings if values is None else values
    if embeddings.dim() == 2:
        batch = embeddings[None], values[None], None if mask is None else mask[None]
        return _walk(*batch, adjoint=adjoint, **settings)[0]
    if adjoint and settings["tolerance"] > 0:
        settings.pop("exact_step", None)  # only Triton's takes some rows of the transpose
        return walk_adjoint(values, embeddings, mask, **settings)
    return walk_batch(embeddings, values, mask, adjoint=adjoint, **settings).values


def gradients(
    gradient: Tensor, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, **settings: Any
) -> Gradients:
    """Differentiate the walk of checked tensors; ``gradient`` is that of its result."""
    values = embeddings if values is None else values
    if embeddings.dim() == 3:
        return walk_gradients(gradient, embeddings, values, mask, **settings)
    batch = gradient[None], embeddings[None], values[None], None if mask is None else mask[None]
    by_embeddings, by_values, by_temperature = walk_gradients(*batch, **settings)
    return Gradients(by_embeddings[0], by_values[0], by_temperature)


def walk_with_stats(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, *, on_phase: Callable[[str], None], **settings: Any
) -> tuple[Tensor, dict[str, Any]]:
    """Walk one image, [N, D] and [N, C], and say what was done: the fields of ``WalkInfo`` but the times."""
    values = embeddings if values is None else values
    batch = embeddings[None], values[None], None if mask is None else mask[None]
    walked, graph, pairs, own_weight = walk_batch(*batch, **settings, on_phase=on_phase)
    pixels = 0 if graph is None or settings["alpha"] == 0 else int((graph.valid != 0).sum())
    if graph is None or pixels < 2:
        return walked[0], {"path": "none", "pixels": 0, "kept": 0, "dropped_mass": 0.0}
    anchored = 0 if own_weight is None else int((own_weight >= 0.5).sum())
    stats = {
        "path": "streaming",
        "pixels": pixels,
        "kept": pixels * (pixels - 1),
        "dropped_mass": 0.0,
        "anchored": anchored,
    }
    return walked[0], stats if pairs is None else stats | pairs.stats(graph)


# A second copy of the package in this process may have registered it already.
if not hasattr(torch.ops.rwpm, "walk_triton"):
    torch.library.triton_op("rwpm::walk_triton", walk, mutates_args={})
