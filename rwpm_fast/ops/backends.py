"""The backends of the walk, one object each: compiled kernels on the CPU, Triton's, CUDA C++, plain torch.

Nothing here needs Triton or a GPU until a backend that does is asked to walk.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cache
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from . import cpu_matrix, eager, library
from .info import WalkInfo, info_of_table, timed
from .settings import WalkSettings
from .torch_version import OLDEST_TRITON_OP, too_old

Infos: TypeAlias = WalkInfo | tuple[WalkInfo, ...]  # of one image, or of each of a batch


class Matrix(Protocol):
    """S over the n pixels of a graph; its rows dropped the shares ``dropped_mass`` [n] of their mass, at most."""

    dropped_mass: Tensor

    def walk(self, values: Tensor, *, alpha: float, steps: int) -> Tensor: ...
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]: ...


class Backend(Protocol):
    """Walks checked tensors: embeddings [N, D] or [B, N, D], values [.., N, C] or None, mask [.., N] or None."""

    name: str

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        """Why it cannot walk such tensors, with the way out; None when it can."""

    def walk(self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> Tensor:
        """Walked values."""

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        """Walked values, and what the walk did."""

    def build_matrix(
        self, embeddings: Tensor, valid: Tensor, *, temperature: float, tolerance: float, width: int
    ) -> Matrix | None:
        """S of the valid pixels [N] of embeddings [N, D], ``width`` (0: not known) in a row of their map; None where it
        would stream."""


class _Cpu:
    name = "cpu"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        if embeddings.device.type != "cpu":
            return f"expected tensors on the CPU, got {embeddings.device}"
        reason = library.unsupported_reason()
        return None if reason is None else f"the compiled library is out of use: {reason}"

    def walk(self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> Tensor:
        return torch.ops.rwpm.walk.default(embeddings, values, mask, **settings.of_operator())

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        result, table = torch.ops.rwpm.walk_with_info.default(embeddings, values, mask, **settings.of_operator())
        return result, info_of_table(table, batched=embeddings.dim() == 3)

    def build_matrix(
        self, embeddings: Tensor, valid: Tensor, *, temperature: float, tolerance: float, width: int
    ) -> Matrix | None:
        return cpu_matrix.build_matrix(embeddings, valid, temperature=temperature, tolerance=tolerance, width=width)


class _Eager:
    name = "torch"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        return None

    def walk(self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> Tensor:
        return eager.walk(embeddings, values, mask, settings)

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        return timed(self.walk, embeddings, values, mask, settings)

    def build_matrix(self, embeddings: Tensor, valid: Tensor, **settings: Any) -> None:
        return None


@cache
def load_triton() -> tuple[ModuleType | None, str | None]:
    """The module of Triton's operators and None, or None and why it cannot be had, with the way out."""
    if (reason := too_old(OLDEST_TRITON_OP)) is not None:
        return None, reason
    try:
        from .gpu import op
    except ImportError as error:
        return None, f"{error}; install Triton: pip install triton"
    return op, None


def _device(t: Tensor):
    return torch.cuda.device(t.device) if t.is_cuda else nullcontext()


class _Triton:
    name = "triton"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        op, reason = load_triton()
        if op is None:
            return reason
        if not embeddings.is_cuda and not op.INTERPRETED:
            return (
                f"expected tensors on a GPU, got {embeddings.device}; TRITON_INTERPRET=1 runs the kernels anywhere, "
                "slowly"
            )
        return op.unsupported_reason(embeddings, embeddings if values is None else values)

    def walk(
        self,
        embeddings: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        settings: WalkSettings,
        *,
        adjoint: bool = False,
    ) -> Tensor:
        with _device(embeddings):
            return load_triton()[0].walk(embeddings, values, mask, **settings.of_operator(), adjoint=adjoint)

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        """Image by image, and waiting for the device after every phase to see its time."""
        if embeddings.dim() == 3:
            parts = [
                self.walk_with_info(
                    e, None if values is None else values[b], None if mask is None else mask[b], settings
                )
                for b, e in enumerate(embeddings)
            ]
            empty = embeddings if values is None else values
            results = [result for result, _ in parts]
            return torch.stack(results) if results else empty.new_empty(empty.shape), tuple(info for _, info in parts)

        seconds = {"pack": 0.0, "compile": 0.0, "steps": 0.0}

        def now() -> float:
            if embeddings.is_cuda:
                torch.cuda.synchronize(embeddings.device)
            return time.perf_counter()

        begun = now()

        def on_phase(phase: str) -> None:
            nonlocal begun
            seconds[phase], begun = now() - begun, now()

        with _device(embeddings):
            result, stats = self._walk_with_stats(embeddings, values, mask, settings, on_phase)
        return result, WalkInfo(**stats, seconds=seconds)

    def _walk_with_stats(self, embeddings, values, mask, settings: WalkSettings, on_phase):
        return load_triton()[0].walk_with_stats(embeddings, values, mask, **settings.of_operator(), on_phase=on_phase)

    def build_matrix(
        self, embeddings: Tensor, valid: Tensor, *, temperature: float, tolerance: float, width: int
    ) -> Matrix | None:
        from .gpu.matrix import build_matrix

        with _device(embeddings):
            return build_matrix(embeddings[valid], temperature=temperature, tolerance=tolerance)


class _Cuda(_Triton):
    """Triton's, but for exact transitions in 16 bits, which CUDA C++ makes."""

    name = "cuda"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        if (reason := super().unsupported_reason(embeddings, values)) is not None:
            return reason
        from .gpu import cuda_step

        return cuda_step.unsupported_dtype(embeddings, values)

    def walk(self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> Tensor:
        with _device(embeddings):
            return load_triton()[0].walk_by_cuda(embeddings, values, mask, **settings.of_operator())

    def _walk_with_stats(self, embeddings, values, mask, settings: WalkSettings, on_phase):
        from .gpu import cuda_step

        return load_triton()[0].walk_with_stats(
            embeddings, values, mask, **settings.of_operator(), on_phase=on_phase, exact_step=cuda_step.exact_step
        )


CPU, TRITON, CUDA, EAGER = _Cpu(), _Triton(), _Cuda(), _Eager()
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (CPU, TRITON, CUDA, EAGER)}
CHOICES = ("auto", *BACKENDS)


def check_backend(backend: str) -> None:
    """Check the name of a backend.

    Raises:
        ValueError: neither "auto" nor a key of :data:`BACKENDS`.
    """
    if backend not in CHOICES:
        raise ValueError(f"backend: expected one of {', '.join(CHOICES)}, got {backend!r}")


def automatic(embeddings: Tensor, values: Tensor | None = None) -> Backend:
    """What "auto" means for such tensors: the compiled kernels of their device, else plain torch."""
    backend = TRITON if embeddings.is_cuda else CPU
    return EAGER if backend.unsupported_reason(embeddings, values) is not None else backend
