"""``rwpm_fast.walk``: the operator with checks, a choice of backend, and information on what it did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..reference import valid_pixels
from . import registration as registration  # registers the operator
from .backends import BACKENDS, Backend, check_backend, choose_backend
from .info import Infos
from .settings import DEFAULTS, WalkSettings
from .validation import NO_SECOND_GRADIENT, check_apart, check_inputs, check_out, check_temperature


@overload
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float | Tensor = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
    return_info: Literal[False] = False,
    out: Tensor | None = None,
) -> Tensor: ...
@overload
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float | Tensor = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
    return_info: Literal[True],
    out: Tensor | None = None,
) -> tuple[Tensor, Infos]: ...
def walk(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float | Tensor = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
    return_info: bool = False,
    out: Tensor | None = None,
) -> Tensor | tuple[Tensor, Infos]:
    """Walk values with restart on the graph of pixel similarities (equation S.5 of the RWPM supplement).

    The walk is ``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v``; ``S`` is the softmax over cosines of
    the embeddings at ``temperature`` with self-affinity removed. An anchor gives it back at a similarity of choice. A
    pixel that is masked out, or whose embedding or value is not finite, is no part of the graph and keeps its value.
    By default a row of ``S`` may drop 1e-4 of its mass, which leaves a sparse matrix where few pairs matter; walk with
    ``tolerance=0`` for the exact walk, which is the default of ``torch.ops.rwpm.walk``.

    Memory of the exact walk grows with N (D + C), never with N^2; up to 256 MiB hold cosines that steps keep for later
    ones. A sparse matrix takes up to 1 GiB on the CPU, and graphs that need more stream; on a GPU up to a quarter of
    its memory and N^2 / 512 bytes, a bit for every pixel and group of 64. The compiled kernels give the same bits at
    any number of threads, and Triton's in any run on one device. Autocast changes no dtype.

    Example:
        >>> walked = rwpm_fast.walk(embeddings, logits)  # no value is off by more than 2 * 20 * 1e-4 * max|v|
        >>> exact = rwpm_fast.walk(embeddings, logits, tolerance=0)

    Args:
        embeddings: [N, D] or [B, N, D], float32, float64, float16 or bfloat16, any strides.
        values: [..., N, C], walked on the graph of the embeddings; the embeddings themselves when None.
        mask: [..., N] bool, True = valid; all when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0. The released code does T + 1 for its T.
        temperature: softmax temperature tau > 0; as a tensor of shape [] it can have a gradient.
        tolerance: mass that a row of S may drop, in [0, 1). 0 is the exact walk, streamed. Above 0 the compiled float32
            kernels keep the pairs that matter as a sparse matrix, many times faster where the graph is sparse (at
            tau = 0.01 it is), and stream where it is not. No value is then off by more than
            ``2 * steps * tolerance * max|v|``, and most are by far less; :meth:`rwpm_fast.Transition.error_bound`
            proves it, and gives the sharper bound of the mass that was dropped. float64, plain torch and graphs of
            fewer than 512 pixels on the CPU stream whatever the tolerance.
        anchor: cosine s0: every pixel has itself as one more neighbor, at this similarity, so that one that resembles
            no other keeps its value; -1 or lower: no anchor, the published walk. See :func:`rwpm_fast.reference.walk`.
        anchor_share: share of the pixels to anchor, in [0, 1]: s0 follows from the image, so that these pixels, those
            that resemble others least, weigh their own value at least as much as all others; 0: s0 is ``anchor``.
        backend: "auto" (the compiled kernels on the CPU, Triton's on a GPU, plain torch where they cannot serve), "cpu"
            or "triton" (these or an error), "cuda" (Triton's, except that exact transitions in 16 bits run in CUDA
            C++), "torch" (plain torch, any device).
        return_info: also return information on the walk: a :class:`rwpm_fast.ops.info.WalkInfo`, for a batch a tuple
            of them.
        out: contiguous tensor of the values' shape, dtype and device that receives the result and is returned; it
            shares no memory with an input, and there is no gradient. The compiled CPU kernels write float32 and float64
            results into it at once, other results are copied. Together with :class:`rwpm_fast.Workspace` a walk on the
            CPU then takes no memory for numbers.

    Returns:
        Walked values [..., N, C], contiguous, in the values' dtype; computed in float64 when either input is float64,
        in float32 otherwise. On a GPU, 16-bit inputs are multiplied in 16 bits with float32 sums, and 16-bit values
        are kept in float16 between the steps. Differentiable with respect to embeddings, values and temperature: the
        gradient is that of the walk that was run, with the pairs that it kept. The backward pass builds the graph and
        walks again, so that nothing but the inputs is kept in between, and holds ``steps`` states of the values, or
        some 2 sqrt(steps) of more than 32 on the CPU. Pixels that are no part of the graph, and embeddings of length 0,
        get a zero gradient. There is no second gradient, except with respect to the values alone.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes, devices or settings that do not fit.
        NotImplementedError: ``out`` is given and an input requires a gradient.
        RuntimeError: ``backend`` names kernels that cannot serve; the message says why.
    """
    number, tau = split_temperature(temperature)
    settings = WalkSettings(alpha, steps, number, tolerance, 1, anchor, anchor_share)
    check_inputs(embeddings, values, mask)
    check_backend(backend)
    differentiable = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (embeddings, values, tau, out)
    )
    if not torch.compiler.is_compiling():
        _check_no_tangent(embeddings=embeddings, values=values, temperature=tau)
    if out is not None:
        check_out(out, embeddings, values)
        if differentiable:
            raise NotImplementedError("out: gives no gradient; leave it out, or walk under torch.no_grad()")
        if not torch.compiler.is_compiling():  # tensors have no addresses then
            check_apart(out, embeddings, values, mask)
    inputs, options = (embeddings, values, mask), settings.operator_kwargs()
    if backend == "auto" and not return_info and (not differentiable or torch.compiler.is_compiling()):
        if tau is None:
            operator = torch.ops.rwpm.walk
            return operator.default(*inputs, **options) if out is None else operator.out(*inputs, **options, out=out)
        del options["temperature"]
        walked = torch.ops.rwpm.walk.temperature(*inputs, tau, **options)
        return walked if out is None else out.copy_(walked)
    if backend == "auto":
        chosen = choose_backend(embeddings, values)
    else:
        chosen = BACKENDS[backend]
        if (reason := chosen.unsupported_reason(embeddings, values)) is not None:
            raise RuntimeError(f'backend="{backend}": {reason}')
    if tau is not None:
        settings = replace(settings, temperature=tau.item())
    if differentiable:
        infos: list[Infos] = []
        walked = _Walk.apply(*inputs, tau, chosen, settings, infos if return_info else None)
        return (walked, infos[0]) if return_info else walked
    if return_info:
        walked, info = chosen.walk_with_info(*inputs, settings)
        return (walked if out is None else out.copy_(walked)), info
    walked = chosen.walk(*inputs, settings)
    return walked if out is None else out.copy_(walked)


def split_temperature(temperature: float | Tensor) -> tuple[float, Tensor | None]:
    """Check a temperature that may be a tensor.

    Returns:
        The temperature as a number, for settings, and None; or a number that stands for it, and the tensor, whose value
        no code under torch.compile can see.
    """
    if not isinstance(temperature, Tensor):
        return temperature, None
    check_temperature(temperature)
    return DEFAULTS.temperature, temperature


def _check_no_tangent(**tensors: Tensor | None) -> None:
    """Refuse forward-mode differentiation, in which the operators would pass for constants."""
    for name, t in tensors.items():
        if t is not None and forward_ad.unpack_dual(t).tangent is not None:
            raise NotImplementedError(
                f"{name}: no derivative in forward mode (torch.func.jvp, jacfwd); use torch.func.grad or jacrev"
            )


class _Walk(torch.autograd.Function):
    """A walk by a backend, differentiable; ``torch.func`` refuses the gradients that operators register."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        embeddings: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        temperature: Tensor | None,
        backend: Backend,
        settings: WalkSettings,
        infos: list[Infos] | None,
    ) -> Tensor:
        if infos is None:
            return backend.walk(embeddings, values, mask, settings)
        walked, info = backend.walk_with_info(embeddings, values, mask, settings)
        infos.append(info)
        return walked

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        embeddings, values, mask, temperature, ctx.backend, ctx.settings, _ = inputs
        ctx.temperature_dtype = None if temperature is None else temperature.dtype
        ctx.values_only = not (ctx.needs_input_grad[0] or ctx.needs_input_grad[3])
        if ctx.values_only:
            # A pixel that is out of the graph because of its value must stay out of it in the backward pass.
            ctx.save_for_backward(embeddings, None, valid_pixels(embeddings, values, mask))
        else:
            ctx.save_for_backward(embeddings, values, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        embeddings, values, mask = ctx.saved_tensors
        if ctx.values_only:
            by_values = _Adjoint.apply(gradient, embeddings, mask, ctx.backend, ctx.settings)
            return None, by_values, None, None, None, None, None
        by_embeddings, by_values, by_temperature = _Gradients.apply(
            gradient, embeddings, values, mask, ctx.backend, ctx.settings
        )
        if values is None:
            by_embeddings, by_values = by_embeddings + by_values, None
        by_temperature = None if ctx.temperature_dtype is None else by_temperature.to(ctx.temperature_dtype)
        return by_embeddings, by_values, None, by_temperature, None, None, None


class _Adjoint(torch.autograd.Function):
    """The gradient with respect to the values alone: linear in that of the result, so it has a gradient itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, embeddings: Tensor, mask: Tensor, backend: Backend, settings: WalkSettings) -> Tensor:
        return backend.adjoint(gradient, embeddings, mask, settings)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, embeddings, mask, ctx.backend, ctx.settings = inputs
        ctx.save_for_backward(embeddings, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        embeddings, mask = ctx.saved_tensors
        return _Walk.apply(embeddings, gradient, mask, None, ctx.backend, ctx.settings, None), None, None, None, None


class _Gradients(torch.autograd.Function):
    """The gradients with respect to everything, which have none themselves."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        gradient: Tensor,
        embeddings: Tensor,
        values: Tensor | None,
        mask: Tensor | None,
        backend: Backend,
        settings: WalkSettings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        by_embeddings, by_values, by_temperature = backend.gradients(gradient, embeddings, values, mask, settings)
        return by_embeddings, by_values, by_temperature  # vmap takes no named tuple

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise NotImplementedError(NO_SECOND_GRADIENT)
