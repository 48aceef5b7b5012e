"""The exact step in CUDA C++ (``csrc/cuda``), for float16 and bfloat16 inputs, packed as float16.

:func:`exact_step` takes what :func:`rwpm_fast.ops.gpu.exact.exact_step` takes and does the same. Row sums are Triton's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...native import way_to_build
from ..torch_version import OLDEST_STABLE_ABI, too_old

if TYPE_CHECKING:
    from torch import Tensor

    from .exact import RowSums
    from .pack import HalfPair, PackedGraph

LIBRARY = Path(__file__).parents[2] / "librwpm_cuda.so"
# "auto": the fastest that the device has; "hopper_pair": blocks in pairs that share what they read.
KERNELS = ("auto", "ampere", "hopper", "hopper_pair")


@cache
def _load() -> str | None:
    """Load the compiled operators; return the reason if they cannot be had."""
    if (reason := too_old(OLDEST_STABLE_ABI)) is not None:
        return reason
    if torch.version.cuda is None:
        return f"it needs a torch with CUDA, this is torch {torch.__version__}"
    if not LIBRARY.exists():
        return f"{LIBRARY.name} is not built; {way_to_build(LIBRARY.name, 'needs a CUDA torch and nvcc')}"
    # A second load would not raise but end the process: a schema can be defined only once.
    if not hasattr(torch.ops.rwpm, "exact_step"):
        try:
            torch.ops.load_library(str(LIBRARY))
        except (OSError, RuntimeError) as error:
            return f"{LIBRARY.name} does not load into torch {torch.__version__} ({error}); build it again for it"
        torch.library.register_fake("rwpm::exact_step", lambda *tensors, **settings: None)
    return None


def unsupported_dtype(embeddings: Tensor, values: Tensor | None) -> str | None:
    """Say why a walk of such tensors cannot step by these kernels.

    Args:
        embeddings: [.., N, D].
        values: [.., N, C]; None: the embeddings.

    Returns:
        The reason; None if nothing in dtypes and build stands against it. Sizes are checked by
        :func:`unsupported_reason`.
    """
    if not embeddings.is_cuda:
        return f"expected tensors on a GPU, got {embeddings.device}"
    for name, t in {"embeddings": embeddings, "values": embeddings if values is None else values}.items():
        if t.dtype not in (torch.float16, torch.bfloat16):
            return f"{name}: expected float16 or bfloat16, got {t.dtype}; Triton takes it"
    return _load()


def unsupported_reason(graph: PackedGraph, state: HalfPair, kernel: str = "auto") -> str | None:
    """Say why :func:`exact_step` cannot serve such a packed graph and state, with the way out; None when it can.

    Args:
        graph: packed embeddings, D up to 512 channels, in one half: of float16, bfloat16, or float32 with TF32 allowed.
        state: packed values [B, padded, C], in one half too.
        kernel: one of :data:`KERNELS`. Those for Hopper take up to 272 channels of embeddings.

    Raises:
        ValueError: no such kernel.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    if not graph.keys.high.is_cuda:
        return f"expected tensors on a GPU, got {graph.keys.high.device}"
    if graph.keys.has_low or state.has_low:
        return "embeddings and values: expected float16 or bfloat16, got float32; Triton takes it"
    reason = _load() or torch.ops.rwpm.exact_step_unsupported_reason.default(graph.keys.high, state.high, kernel)
    return reason or None


def exact_step(
    graph: PackedGraph, sums: RowSums, streaming_blocks: Tensor | None, start: HalfPair, source: HalfPair,
    target: HalfPair, alpha: Tensor, adjoint: bool, *, kernel: str = "auto",
) -> None:  # fmt: skip
    """Make one exact transition, ``target = alpha_i S source + (1 - alpha_i) start``.

    :func:`unsupported_reason` has to be None.

    Args:
        graph: packed embeddings.
        sums: of the graph's rows, [B, padded] each.
        streaming_blocks: [B, padded / 128] int8, blocks of rows that stream; None: all.
        start: [B, padded, C].
        source: [B, padded, C].
        target: [B, padded, C], written; blocks that do not stream are left as they are.
        alpha: [B, padded], in [0, 1].
        adjoint: whether to take the transpose of S.
        kernel: one of :data:`KERNELS`.

    Raises:
        RuntimeError: tensors that do not fit, or the reason of :func:`unsupported_reason`.
    """
    torch.ops.rwpm.exact_step.default(
        graph.keys.high,
        graph.inv_norm,
        *sums,
        alpha,
        streaming_blocks,
        start.high,
        source.high,
        target.high,
        graph.scale,
        adjoint,
        kernel,
    )
