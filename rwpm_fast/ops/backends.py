"""The backends of the walk, one object each: compiled CPU kernels, Triton kernels, CUDA C++ kernels, plain torch.

Importing this module needs neither Triton nor a GPU: a backend imports its kernels when it is first asked for them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from . import cpu_matrix, eager, library
from .gradient import Gradients
from .info import Infos, PhaseTimer, WalkInfo, eager_info, infos_from_table, join_batch, split_batch
from .settings import WalkSettings
from .torch_version import OLDEST_TRITON_OP, too_old


class Matrix(Protocol):
    """The sparse matrix S over the n pixels of a graph.

    Attributes:
        dropped_mass: [n] float32, share of its mass that a row has elsewhere than the exact one, at most.
        log_sum: [n] float32, logarithm of the sum of exp(cosine / temperature) over what a row keeps.
    """

    dropped_mass: Tensor
    log_sum: Tensor

    def walk(self, values: Tensor, *, alpha: float, steps: int, own_weight: Tensor | None = None) -> Tensor:
        """Walk values [n, C]; float64 values in float64, on the weights of the matrix. Differentiable.

        ``own_weight`` [n] is r of the anchored walk; None without an anchor.
        """
        ...

    def gradients(
        self,
        gradient: Tensor,
        embeddings: Tensor,
        values: Tensor,
        *,
        alpha: float,
        steps: int,
        temperature: float,
        anchor: float,
        anchor_share: float,
    ) -> Gradients:
        """Differentiate :meth:`walk`.

        Args:
            gradient: of the result, [n, C].
            embeddings: of which the matrix was made, [n, D].
            values: [n, C].
            alpha: continuing probability, in [0, 1].
            steps: number of transitions, >= 0.
            temperature: of which the matrix was made.
            anchor: of which the weights r were made.
            anchor_share: of which the weights r were made.
        """
        ...

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and weight of every pair, [kept] each."""
        ...


class Backend(Protocol):
    """One way to run a walk.

    All methods take checked tensors: ``embeddings`` [N, D] or [B, N, D], ``values`` [..., N, C] or None for the
    embeddings, ``mask`` [..., N] bool or None for all pixels.
    """

    @property
    def name(self) -> str:
        """The name that ``backend=`` of :func:`rwpm_fast.walk` takes."""
        ...

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        """Say why this backend cannot walk such tensors, and what helps; None if it can."""
        ...

    def walk(self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> Tensor:
        """Walk values; see :func:`rwpm_fast.walk`."""
        ...

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        """Walk values, and report what the walk did."""
        ...

    def adjoint(self, gradient: Tensor, embeddings: Tensor, mask: Tensor, settings: WalkSettings) -> Tensor:
        """Differentiate :meth:`walk` with respect to the values alone.

        Args:
            gradient: [..., N, C], of the result.
            embeddings: [..., N, D].
            mask: [..., N] bool, the pixels of the graph.
            settings: of the walk.
        """
        ...

    def gradients(
        self, gradient: Tensor, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> Gradients:
        """Differentiate :meth:`walk`; ``gradient`` is that of its result."""
        ...

    def build_matrix(
        self,
        embeddings: Tensor,
        valid: Tensor,
        *,
        temperature: float,
        tolerance: float,
        width: int,
        previous: Matrix | None = None,
    ) -> Matrix | None:
        """Build the sparse matrix of one image's graph.

        Args:
            embeddings: [N, D].
            valid: [N] bool, the pixels of the graph.
            temperature: softmax temperature tau > 0.
            tolerance: mass that a row of S may drop, in (0, 1).
            width: pixels in a row of the map; 0: not known.
            previous: of a similar graph, a hint that may save time.

        Returns:
            The matrix; None if the graph is too dense for one, or the backend has none.
        """
        ...


class CpuBackend:
    """The compiled kernels on the CPU."""

    name = "cpu"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        if embeddings.device.type != "cpu":
            return f"expected tensors on the CPU, got {embeddings.device}"
        reason = library.unsupported_reason()
        return None if reason is None else f"the compiled library is out of use: {reason}"

    def walk(self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> Tensor:
        return torch.ops.rwpm.walk.default(embeddings, values, mask, **settings.operator_kwargs())

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        operator = torch.ops.rwpm.walk_with_info.default
        walked, table = operator(embeddings, values, mask, **settings.operator_kwargs())
        return walked, infos_from_table(table, batched=embeddings.dim() == 3)

    def adjoint(self, gradient: Tensor, embeddings: Tensor, mask: Tensor, settings: WalkSettings) -> Tensor:
        return torch.ops.rwpm.walk_adjoint.default(gradient, embeddings, mask, **settings.operator_kwargs())

    def gradients(
        self, gradient: Tensor, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> Gradients:
        operator = torch.ops.rwpm.walk_backward.default
        return Gradients(*operator(gradient, embeddings, values, mask, **settings.operator_kwargs()))

    def build_matrix(
        self,
        embeddings: Tensor,
        valid: Tensor,
        *,
        temperature: float,
        tolerance: float,
        width: int,
        previous: Matrix | None = None,
    ) -> Matrix | None:
        return cpu_matrix.build_matrix(
            embeddings, valid, temperature=temperature, tolerance=tolerance, width=width, previous=previous
        )


class EagerBackend:
    """Plain torch on any device. It always streams."""

    name = "torch"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        return None

    def walk(
        self,
        embeddings: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        settings: WalkSettings,
        *,
        adjoint: bool = False,
    ) -> Tensor:
        return eager.walk(embeddings, values, mask, settings, adjoint=adjoint)

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        walked = []
        for image in split_batch(embeddings, values, mask):
            timer = PhaseTimer(embeddings.device, ("walk",))
            result = eager.walk(*image, settings)
            timer("walk")
            walked.append((result, eager_info(*image, settings, timer.seconds)))
        return join_batch(walked, embeddings if values is None else values)

    def adjoint(self, gradient: Tensor, embeddings: Tensor, mask: Tensor, settings: WalkSettings) -> Tensor:
        return self.walk(embeddings, gradient, mask, settings, adjoint=True)

    def gradients(
        self, gradient: Tensor, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> Gradients:
        return eager.gradients(gradient, embeddings, values, mask, settings)

    def build_matrix(
        self,
        embeddings: Tensor,
        valid: Tensor,
        *,
        temperature: float,
        tolerance: float,
        width: int,
        previous: Matrix | None = None,
    ) -> Matrix | None:
        return None


@cache
def load_triton() -> tuple[ModuleType | None, str | None]:
    """Import the module of the Triton operators.

    Returns:
        The module and None, or None and why it cannot be imported, with what helps.
    """
    if (reason := too_old(OLDEST_TRITON_OP)) is not None:
        return None, reason
    try:
        from .gpu import op
    except ImportError as error:
        return None, f"{error}; install Triton: pip install triton"
    return op, None


def _triton_operators() -> ModuleType:
    """The module of the Triton operators.

    Its functions take plain numbers instead of WalkSettings: in ``torch.ops.rwpm.walk_triton`` under torch.compile they
    may be symbols, which the checks of WalkSettings refuse.
    """
    module, reason = load_triton()
    if module is None:
        raise RuntimeError(reason)
    return module


def _on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Make the device of a tensor the current one, on which Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


class TritonBackend:
    """The Triton kernels, on a GPU or in Triton's interpreter."""

    name = "triton"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        operators, reason = load_triton()
        if operators is None:
            return reason
        if not embeddings.is_cuda and not operators.INTERPRETED:
            return (
                f"expected tensors on a GPU, got {embeddings.device}; TRITON_INTERPRET=1 runs the kernels anywhere, "
                "slowly"
            )
        return operators.unsupported_reason(embeddings, embeddings if values is None else values)

    def walk(
        self,
        embeddings: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        settings: WalkSettings,
        *,
        adjoint: bool = False,
    ) -> Tensor:
        options = settings.operator_kwargs() | {"adjoint": adjoint}
        with _on_device_of(embeddings):
            return _triton_operators().walk(embeddings, values, mask, **options)

    def walk_with_info(
        self, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> tuple[Tensor, Infos]:
        """Walk image by image, waiting for the device after every phase to measure its time."""
        walked = []
        options = settings.operator_kwargs() | self._info_options()
        for image in split_batch(embeddings, values, mask):
            timer = PhaseTimer(embeddings.device)
            with _on_device_of(embeddings):
                result, stats = _triton_operators().walk_with_stats(*image, **options, on_phase=timer)
            walked.append((result, WalkInfo(**stats, seconds=timer.seconds)))
        return join_batch(walked, embeddings if values is None else values)

    def adjoint(self, gradient: Tensor, embeddings: Tensor, mask: Tensor, settings: WalkSettings) -> Tensor:
        return self.walk(embeddings, gradient, mask, settings, adjoint=True)

    def gradients(
        self, gradient: Tensor, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings
    ) -> Gradients:
        with _on_device_of(embeddings):
            return _triton_operators().gradients(gradient, embeddings, values, mask, **settings.operator_kwargs())

    def _info_options(self) -> dict[str, Any]:
        """Further arguments of the operators' ``walk_with_stats``."""
        return {}

    def build_matrix(
        self,
        embeddings: Tensor,
        valid: Tensor,
        *,
        temperature: float,
        tolerance: float,
        width: int,
        previous: Matrix | None = None,
    ) -> Matrix | None:
        from .gpu.matrix import build_matrix

        with _on_device_of(embeddings):
            return build_matrix(embeddings[valid], temperature=temperature, tolerance=tolerance)


class CudaBackend(TritonBackend):
    """The Triton kernels, except that exact transitions in 16 bits run in CUDA C++."""

    name = "cuda"

    def unsupported_reason(self, embeddings: Tensor, values: Tensor | None) -> str | None:
        if (reason := super().unsupported_reason(embeddings, values)) is not None:
            return reason
        from .gpu import cuda_step

        return cuda_step.unsupported_dtype(embeddings, values)

    def walk(
        self,
        embeddings: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        settings: WalkSettings,
        *,
        adjoint: bool = False,
    ) -> Tensor:
        options = settings.operator_kwargs() | {"adjoint": adjoint}
        with _on_device_of(embeddings):
            return _triton_operators().walk_by_cuda(embeddings, values, mask, **options)

    def _info_options(self) -> dict[str, Any]:
        from .gpu import cuda_step

        return {"exact_step": cuda_step.exact_step}


CPU, TRITON, CUDA, EAGER = CpuBackend(), TritonBackend(), CudaBackend(), EagerBackend()
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (CPU, TRITON, CUDA, EAGER)}
CHOICES = ("auto", *BACKENDS)


def check_backend(backend: str) -> None:
    """Check the name of a backend.

    Raises:
        ValueError: neither "auto" nor a key of :data:`BACKENDS`.
    """
    if backend not in CHOICES:
        raise ValueError(f"backend: expected one of {', '.join(CHOICES)}, got {backend!r}")


def choose_backend(embeddings: Tensor, values: Tensor | None = None) -> Backend:
    """Return the backend that "auto" stands for: the compiled kernels for the tensors' device, or else plain torch.

    Args:
        embeddings: [..., N, D].
        values: [..., N, C]; the embeddings when None.
    """
    backend = TRITON if embeddings.is_cuda else CPU
    return EAGER if backend.unsupported_reason(embeddings, values) is not None else backend
