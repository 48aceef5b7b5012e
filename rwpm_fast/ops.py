"""``torch.ops.rwpm.walk``: the compiled library loaded, the fake kernels, the gradient, and the function around them.

The schema stands in C++ (``csrc/ops.cpp``). Where that library cannot serve (not built, torch older than 2.11, another
device), the same operator runs in plain torch: slower, never wrong, and said once in a warning.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from . import cuda, gpu, streaming
from .checks import check_settings, check_shapes
from .reference import valid_pixels
from .walk_info import WalkInfo, info_of_table, timed

LIBRARY = Path(__file__).parent / "librwpm_ops.so"
OLDEST_TORCH = (2, 11)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
BACKENDS = ("auto", "cpu", "triton", "cuda", "torch")

_SETTINGS = "float alpha=0.99, int steps=20, float temperature=0.01, float tolerance=0.0"
_SCHEMAS = (
    f"walk(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, {_SETTINGS}) -> Tensor",
    f"walk_adjoint(Tensor gradient, Tensor embeddings, Tensor? mask=None, *, {_SETTINGS}) -> Tensor",
)


class FallbackWarning(UserWarning):
    """The walk runs in plain torch because the compiled library cannot serve."""


def _has_kernel(key: str) -> bool:
    return hasattr(torch.ops.rwpm, "walk") and torch._C._dispatch_has_kernel_for_dispatch_key("rwpm::walk", key)


def _load() -> str | None:
    """Load the compiled operators; the reason when they cannot be had."""
    # A second load would not raise but end the process: a schema can be defined once.
    if _has_kernel("CPU"):
        return None
    if hasattr(torch.ops.rwpm, "walk"):
        return "another copy of the package registered the operators in plain torch before; restart Python"
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        wanted = ".".join(map(str, OLDEST_TORCH))
        return f"it needs torch >= {wanted}, this is torch {torch.__version__}; upgrade torch"
    if not LIBRARY.exists():
        return f"{LIBRARY.name} is not built; run: pip install --no-build-isolation -e . with torch installed"
    try:
        torch.ops.load_library(str(LIBRARY))
    except (OSError, RuntimeError) as error:
        return f"{LIBRARY.name} does not load into torch {torch.__version__} ({error}); build it again for this torch"
    return None


def unavailable() -> str | None:
    """Why the compiled CPU operators are not in use, with the way out; None when they are."""
    return _UNAVAILABLE


def check_tensors(**tensors: Tensor | None) -> None:
    """Check kinds, dtypes and devices of tensors by the names that messages shall use; the first sets the device.

    Raises:
        TypeError: not a strided tensor, or a dtype that is not taken.
        ValueError: devices that differ.
    """
    (first, leader), *_ = tensors.items()
    for name, t in tensors.items():
        if t is None:
            continue
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(t).__name__}; for arrays use rwpm_fast.numpy")
        if t.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got {t.layout}")
        if name == "mask":
            if t.dtype != torch.bool:
                raise TypeError(f"mask: expected dtype bool, got {t.dtype}")
        elif t.dtype not in DTYPES:
            raise TypeError(f"{name}: expected dtype float32, float64, float16 or bfloat16, got {t.dtype}")
        if t.device != leader.device:
            raise ValueError(f"{name}: expected the {first}' device {leader.device}, got {t.device}")


def _check(embeddings: Tensor, values: Tensor | None, mask: Tensor | None) -> None:
    check_tensors(embeddings=embeddings, values=values, mask=mask)
    check_shapes(embeddings, values, mask)


_warned = False


def _warn_once() -> None:
    global _warned
    if _UNAVAILABLE is not None and not _warned:
        _warned = True
        warnings.warn(
            f"rwpm_fast: the walk runs in plain torch, several times slower, because the compiled library is out of "
            f"use: {_UNAVAILABLE}",
            FallbackWarning,
            stacklevel=3,
        )


def _walk_torch(
    embeddings, values=None, mask=None, *, alpha=0.99, steps=20, temperature=0.01, tolerance=0.0, adjoint=False
):
    check_settings(alpha, steps, temperature, tolerance)
    _check(embeddings, values, mask)
    if embeddings.device.type == "cpu":
        _warn_once()
    settings = {"alpha": alpha, "steps": steps, "temperature": temperature}
    return streaming.walk(embeddings, values, mask, **settings, adjoint=adjoint)


def _walk_adjoint_torch(gradient, embeddings, mask=None, **settings):
    return _walk_torch(embeddings, gradient, mask, **settings, adjoint=True)


def _walk_gpu(
    embeddings, values=None, mask=None, *, alpha=0.99, steps=20, temperature=0.01, tolerance=0.0, adjoint=False
):
    settings = {"alpha": alpha, "steps": steps, "temperature": temperature, "tolerance": tolerance}
    check_settings(**settings)
    _check(embeddings, values, mask)
    if gpu.unavailable(embeddings, values) is not None:
        return _walk_torch(embeddings, values, mask, **settings, adjoint=adjoint)
    return gpu.walk(embeddings, values, mask, **settings, adjoint=adjoint)


def _walk_adjoint_gpu(gradient, embeddings, mask=None, **settings):
    return _walk_gpu(embeddings, gradient, mask, **settings, adjoint=True)


def _walk_fake(embeddings, values=None, mask=None, *, alpha=0.99, steps=20, temperature=0.01, tolerance=0.0):
    check_settings(alpha, steps, temperature, tolerance)
    _check(embeddings, values, mask)
    values = embeddings if values is None else values
    return values.new_empty(values.shape)  # contiguous whatever the values' strides, as the kernel's


def _walk_with_info_fake(embeddings, values=None, mask=None, **settings):
    result = _walk_fake(embeddings, values, mask, **settings)
    return result, result.new_empty((embeddings.shape[0] if embeddings.dim() == 3 else 1, 7), dtype=torch.float64)


def _walk_adjoint_fake(gradient, embeddings, mask=None, **settings):
    return _walk_fake(embeddings, gradient, mask, **settings)


NO_EMBEDDING_GRADIENT = (
    "embeddings: no gradient with respect to the embeddings yet, only to the values; pass embeddings.detach() and, "
    "where the values are the embeddings, values=embeddings"
)


def _keep_for_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    embeddings, values, mask = inputs
    if ctx.needs_input_grad[0]:
        raise NotImplementedError(NO_EMBEDDING_GRADIENT)
    # What left the graph for its value's sake must stay out of it on the way back.
    ctx.save_for_backward(embeddings, valid_pixels(embeddings, values, mask))
    ctx.settings = keyword_only_inputs


def _backward(ctx, gradient, *_):
    embeddings, valid = ctx.saved_tensors
    return None, torch.ops.rwpm.walk_adjoint.default(gradient, embeddings, valid, **ctx.settings), None


def _keep_for_double_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    _, embeddings, mask = inputs
    if ctx.needs_input_grad[1]:
        raise NotImplementedError(NO_EMBEDDING_GRADIENT)
    ctx.save_for_backward(embeddings, mask)
    ctx.settings = keyword_only_inputs


def _double_backward(ctx, gradient):
    embeddings, mask = ctx.saved_tensors
    return torch.ops.rwpm.walk.default(embeddings, gradient, mask, **ctx.settings), None, None


_UNAVAILABLE = _load()

# Another copy of the package in this process may have registered them already.
if not _has_kernel("CompositeExplicitAutograd"):
    _LIBRARY = torch.library.Library("rwpm", "FRAGMENT")
    if not hasattr(torch.ops.rwpm, "walk"):
        for _schema in _SCHEMAS:
            _LIBRARY.define(_schema)
    _LIBRARY.impl("walk", _walk_torch, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk_adjoint", _walk_adjoint_torch, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk", _walk_gpu, "CUDA")
    _LIBRARY.impl("walk_adjoint", _walk_adjoint_gpu, "CUDA")
    torch.library.register_fake("rwpm::walk", _walk_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::walk_adjoint", _walk_adjoint_fake, lib=_LIBRARY)
    torch.library.register_autograd("rwpm::walk", _backward, setup_context=_keep_for_backward, lib=_LIBRARY)
    torch.library.register_autograd(
        "rwpm::walk_adjoint", _double_backward, setup_context=_keep_for_double_backward, lib=_LIBRARY
    )
    if hasattr(torch.ops.rwpm, "walk_with_info"):  # compiled only: where plain torch serves, Python sees the same
        torch.library.register_fake("rwpm::walk_with_info", _walk_with_info_fake, lib=_LIBRARY)
        torch.library.register_autograd(
            "rwpm::walk_with_info", _backward, setup_context=_keep_for_backward, lib=_LIBRARY
        )


def _reason(backend: str, embeddings: Tensor, values: Tensor | None) -> str | None:
    """Why a backend cannot walk such tensors; None when it can."""
    if backend in ("triton", "cuda") and (reason := gpu.unavailable(embeddings, values)) is not None:
        return reason
    if backend == "cuda":
        return cuda.unusable(embeddings, values)
    if backend == "cpu" and embeddings.device.type != "cpu":
        return f"expected tensors on the CPU, got {embeddings.device}"
    if backend == "cpu" and _UNAVAILABLE is not None:
        return f"the compiled library is out of use: {_UNAVAILABLE}"
    return None


def _walk_plain(embeddings, values, mask, *, tolerance=0.0, **settings):
    return streaming.walk(embeddings, values, mask, **settings)


def _walk_compiled_with_info(embeddings, values, mask, **settings):
    result, table = torch.ops.rwpm.walk_with_info.default(embeddings, values, mask, **settings)
    return result, info_of_table(table, batched=embeddings.dim() == 3)


@overload
def walk(
    embeddings: Tensor, values: Tensor | None = None, *, return_info: Literal[True], **settings: Any
) -> tuple[Tensor, WalkInfo | tuple[WalkInfo, ...]]: ...
@overload
def walk(embeddings: Tensor, values: Tensor | None = None, **settings: Any) -> Tensor: ...
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = 0.99,
    steps: int = 20,
    temperature: float = 0.01,
    tolerance: float = 0.0,
    backend: str = "auto",
    return_info: bool = False,
) -> Tensor | tuple[Tensor, WalkInfo | tuple[WalkInfo, ...]]:
    """Random walk with restart on the graph of pixel similarities (equation S.5 of the RWPM supplement).

    ``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v``; ``S`` is the softmax over cosines of the
    embeddings at ``temperature`` with self-affinity removed. A pixel that is masked out, or whose embedding or value is
    not finite, is no part of the graph and keeps its value. Memory grows with N (D + C), never with N^2; at most 256
    MiB hold cosines that steps keep for later ones. On a GPU a tolerance takes N^2 / 512 bytes beside, a bit for every
    pixel and group of 64. The compiled kernels give the same bits at any number of threads, and Triton's in any run on
    one device. Autocast changes no dtype.

    Args:
        embeddings: [N, D] or [B, N, D], float32, float64, float16 or bfloat16, any strides.
        values: [..., N, C], walked on that graph; the embeddings themselves when None.
        mask: [..., N] bool, True = valid; all when None.
        alpha: probability to go on, in [0, 1].
        steps: number of transitions, >= 0. The released code does T + 1 for its T.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1). 0 is the exact walk, streamed. Above 0 the compiled float32
            kernels keep the pairs that matter as a sparse matrix, many times faster where the graph is sparse (at
            tau = 0.01 it is), and stream where it is not. No value is then off by more than
            ``2 * steps * tolerance * max|v|``, and most are by far less.
        backend: "auto" (the compiled kernels on the CPU, Triton's on a GPU, plain torch where they cannot serve), "cpu"
            or "triton" (these or an error), "cuda" (Triton's, but for exact transitions in 16 bits, which CUDA C++
            makes), "torch" (plain torch, any device).
        return_info: return what the walk did beside its result: a :class:`rwpm_fast.walk_info.WalkInfo`, for a batch a
            tuple of them.

    Returns:
        Walked values [..., N, C], contiguous, in the values' dtype; computed in float64 when either input is float64,
        in float32 otherwise. On a GPU, 16-bit inputs are multiplied in 16 bits with float32 sums, and 16-bit values
        are kept in float16 between the steps. Differentiable with respect to the values.

    Raises:
        TypeError: a dtype or type that is not taken.
        ValueError: shapes, devices or settings that do not fit.
        NotImplementedError: the embeddings require a gradient.
        RuntimeError: ``backend`` names kernels that cannot serve; the message says why.
    """
    check_settings(alpha, steps, temperature, tolerance)
    _check(embeddings, values, mask)
    if embeddings.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(NO_EMBEDDING_GRADIENT)
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if (
        backend in ("torch", "triton", "cuda")
        and values is not None
        and values.requires_grad
        and torch.is_grad_enabled()
    ):
        raise NotImplementedError(f'values: backend="{backend}" gives no gradient; use backend="auto"')
    settings = {"alpha": alpha, "steps": steps, "temperature": temperature, "tolerance": tolerance}
    if backend != "auto" and (reason := _reason(backend, embeddings, values)) is not None:
        raise RuntimeError(f'backend="{backend}": {reason}')
    plain = {"triton": gpu.walk, "cuda": gpu.walk_by_cuda, "torch": _walk_plain}.get(
        backend, torch.ops.rwpm.walk.default
    )
    if not return_info:
        return plain(embeddings, values, mask, **settings)
    if backend == "auto":
        backend = "triton" if embeddings.is_cuda else "cpu"
        if _reason(backend, embeddings, values) is not None:
            backend = "torch"
    with_info = {
        "cpu": _walk_compiled_with_info,
        "triton": gpu.walk_with_info,
        "cuda": partial(gpu.walk_with_info, stream=cuda.stream),
    }.get(backend, partial(timed, plain))
    return with_info(embeddings, values, mask, **settings)
