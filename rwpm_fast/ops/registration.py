"""Register ``torch.ops.rwpm.walk``: schemas, fake kernels, gradients, and the kernels that are called from Python.

The compiled library defines the schema (``csrc/bindings/torch_walk.cpp``). Where it cannot be used (not built, torch
older than 2.11, another device), the same operator runs in plain torch: slower, never wrong, with one warning on a CPU.
Importing this module registers everything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..reference import valid_pixels
from . import FallbackWarning, library
from .backends import EAGER, TRITON
from .settings import OPERATOR_DEFAULTS, WalkSettings
from .validation import (
    NO_SECOND_GRADIENT,
    check_apart,
    check_gradient,
    check_inputs,
    check_out,
    check_temperature,
)

_SETTINGS = ", ".join(
    f"{type(default).__name__} {name}={default}" for name, default in OPERATOR_DEFAULTS.operator_kwargs().items()
)
_SCHEMAS = (
    f"walk(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, {_SETTINGS}) -> Tensor",
    f"walk.out(Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, {_SETTINGS}, Tensor(a!) out) "
    "-> Tensor(a!)",
    f"walk_adjoint(Tensor gradient, Tensor embeddings, Tensor? mask=None, *, {_SETTINGS}) -> Tensor",
    f"walk_backward(Tensor gradient, Tensor embeddings, Tensor? values=None, Tensor? mask=None, *, {_SETTINGS}) "
    "-> (Tensor embeddings, Tensor values, Tensor temperature)",
)
# With the temperature as a tensor, so that it can have a gradient. Only Python defines them.
_OTHER_SETTINGS = ", ".join(setting for setting in _SETTINGS.split(", ") if " temperature=" not in setting)
_TEMPERATURE_SCHEMAS = (
    "walk.temperature(Tensor embeddings, Tensor? values, Tensor? mask, Tensor temperature, *, "
    f"{_OTHER_SETTINGS}) -> Tensor",
    "walk_backward.temperature(Tensor gradient, Tensor embeddings, Tensor? values, Tensor? mask, Tensor temperature, "
    f"*, {_OTHER_SETTINGS}) -> (Tensor embeddings, Tensor values, Tensor temperature)",
)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"rwpm_fast: the walk runs in plain torch, several times slower, because the compiled library is out of "
        f"use: {reason}",
        FallbackWarning,
        stacklevel=4,
    )


def _walk_torch(
    embeddings: Tensor,
    values: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    adjoint: bool = False,
    **settings: Any,
) -> Tensor:
    checked = WalkSettings(**settings)
    check_inputs(embeddings, values, mask)
    if embeddings.device.type == "cpu" and (reason := library.unsupported_reason()) is not None:
        _warn_once(reason)
    return EAGER.walk(embeddings, values, mask, checked, adjoint=adjoint)


def _walk_adjoint_torch(gradient: Tensor, embeddings: Tensor, mask: Tensor | None = None, **settings: Any) -> Tensor:
    return _walk_torch(embeddings, gradient, mask, **settings, adjoint=True)


def _walk_gpu(
    embeddings: Tensor,
    values: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    adjoint: bool = False,
    **settings: Any,
) -> Tensor:
    checked = WalkSettings(**settings)
    check_inputs(embeddings, values, mask)
    backend = TRITON if TRITON.unsupported_reason(embeddings, values) is None else EAGER
    return backend.walk(embeddings, values, mask, checked, adjoint=adjoint)


def _walk_adjoint_gpu(gradient: Tensor, embeddings: Tensor, mask: Tensor | None = None, **settings: Any) -> Tensor:
    return _walk_gpu(embeddings, gradient, mask, **settings, adjoint=True)


def _walk_backward_torch(
    gradient: Tensor, embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None, **settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    checked = WalkSettings(**settings)
    check_inputs(embeddings, values, mask)
    check_gradient(gradient, embeddings, values)
    return EAGER.gradients(gradient, embeddings, values, mask, checked)


def _walk_backward_gpu(
    gradient: Tensor, embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None, **settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    checked = WalkSettings(**settings)
    check_inputs(embeddings, values, mask)
    check_gradient(gradient, embeddings, values)
    backend = TRITON if TRITON.unsupported_reason(embeddings, values) is None else EAGER
    return backend.gradients(gradient, embeddings, values, mask, checked)


def _walk_temperature(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, temperature: Tensor, **settings: Any
) -> Tensor:
    check_temperature(temperature)
    return torch.ops.rwpm.walk.default(embeddings, values, mask, temperature=temperature.item(), **settings)


def _walk_backward_temperature(
    gradient: Tensor,
    embeddings: Tensor,
    values: Tensor | None,
    mask: Tensor | None,
    temperature: Tensor,
    **settings: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    check_temperature(temperature)
    settings["temperature"] = temperature.item()
    operator = torch.ops.rwpm.walk_backward.default
    by_embeddings, by_values, by_temperature = operator(gradient, embeddings, values, mask, **settings)
    return by_embeddings, by_values, by_temperature.to(temperature.dtype)


def _walk_out(
    embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None, *, out: Tensor, **settings: Any
) -> Tensor:
    """Walk and copy: ``walk.out`` where the compiled CPU kernels, which write to ``out`` at once, do not serve.

    As a composition it also tells compilers, which functionalize no operator that returns its argument, what happens.
    On a GPU all launches go to the current stream and nothing waits for the device, with a tolerance too: it can be
    captured in a CUDA graph, whose pool then holds the temporary memory.
    """
    check_inputs(embeddings, values, mask)
    check_out(out, embeddings, values)
    check_apart(out, embeddings, values, mask)
    return out.copy_(torch.ops.rwpm.walk.default(embeddings, values, mask, **settings))


def _walk_fake(embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None, **settings: Any) -> Tensor:
    WalkSettings(**settings)  # for its checks
    check_inputs(embeddings, values, mask)
    values = embeddings if values is None else values
    return values.new_empty(values.shape)  # contiguous whatever the values' strides, as the kernel's


def _walk_with_info_fake(
    embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None, **settings: Any
) -> tuple[Tensor, Tensor]:
    result = _walk_fake(embeddings, values, mask, **settings)
    return result, result.new_empty((embeddings.shape[0] if embeddings.dim() == 3 else 1, 8), dtype=torch.float64)


def _walk_adjoint_fake(gradient: Tensor, embeddings: Tensor, mask: Tensor | None = None, **settings: Any) -> Tensor:
    return _walk_fake(embeddings, gradient, mask, **settings)


def _walk_backward_fake(
    gradient: Tensor, embeddings: Tensor, values: Tensor | None = None, mask: Tensor | None = None, **settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    by_values = _walk_fake(embeddings, values, mask, **settings)
    check_gradient(gradient, embeddings, values)
    return (
        embeddings.new_empty(embeddings.shape),
        by_values,
        embeddings.new_empty((), dtype=torch.float64),
    )


def _walk_temperature_fake(
    embeddings: Tensor, values: Tensor | None, mask: Tensor | None, temperature: Tensor, **settings: Any
) -> Tensor:
    check_temperature(temperature)
    return _walk_fake(embeddings, values, mask, **settings)


def _walk_backward_temperature_fake(
    gradient: Tensor,
    embeddings: Tensor,
    values: Tensor | None,
    mask: Tensor | None,
    temperature: Tensor,
    **settings: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    check_temperature(temperature)
    by_embeddings, by_values, by_temperature = _walk_backward_fake(gradient, embeddings, values, mask, **settings)
    return by_embeddings, by_values, by_temperature.to(temperature.dtype)


def _keep_for_backward(ctx: Any, inputs: tuple, keyword_only_inputs: dict[str, Any], output: Any) -> None:
    embeddings, values, mask, *temperature = inputs
    ctx.settings = keyword_only_inputs
    ctx.values_only = not temperature and not ctx.needs_input_grad[0]
    if ctx.values_only:
        # A pixel that is out of the graph because of its value must stay out of it in the backward pass.
        ctx.save_for_backward(embeddings, valid_pixels(embeddings, values, mask))
    else:
        ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    """Return the gradients of embeddings, values and mask, and of the temperature if it is a tensor."""
    if ctx.values_only:
        by_values = torch.ops.rwpm.walk_adjoint.default(gradient, *ctx.saved_tensors, **ctx.settings)
        return None, by_values, None
    _, values, _, *temperature = ctx.saved_tensors
    operator = torch.ops.rwpm.walk_backward.temperature if temperature else torch.ops.rwpm.walk_backward.default
    by_embeddings, by_values, by_temperature = operator(gradient, *ctx.saved_tensors, **ctx.settings)
    if values is None:
        by_embeddings, by_values = by_embeddings + by_values, None
    return by_embeddings, by_values, None, *(by_temperature for _ in temperature)


def _keep_for_double_backward(ctx: Any, inputs: tuple, keyword_only_inputs: dict[str, Any], output: Any) -> None:
    _, embeddings, mask = inputs
    if ctx.needs_input_grad[1]:
        raise NotImplementedError(NO_SECOND_GRADIENT)
    ctx.save_for_backward(embeddings, mask)
    ctx.settings = keyword_only_inputs


def _double_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    embeddings, mask = ctx.saved_tensors
    return torch.ops.rwpm.walk.default(embeddings, gradient, mask, **ctx.settings), None, None


def _no_double_backward(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(NO_SECOND_GRADIENT)


def _map_images(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Make the rule by which ``torch.vmap`` calls an operator: image by image, since each has a graph of its own."""

    def rule(info: Any, in_dims: tuple, *inputs: Any, **settings: Any) -> tuple[Any, Any]:
        results = [
            operator(
                *(t if dim is None else t.select(dim, k) for t, dim in zip(inputs, in_dims, strict=True)), **settings
            )
            for k in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return rule


library.unsupported_reason()  # loads the compiled operators, which define the schemas

# Another copy of the package in this process may have registered them already.
if not library.has_kernel("CompositeExplicitAutograd"):
    _LIBRARY = torch.library.Library("rwpm", "FRAGMENT")
    if not hasattr(torch.ops.rwpm, "walk"):
        for _schema in _SCHEMAS:
            _LIBRARY.define(_schema)
    for _schema in _TEMPERATURE_SCHEMAS:
        _LIBRARY.define(_schema)
    _LIBRARY.impl("walk", _walk_torch, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk.temperature", _walk_temperature, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk.out", _walk_out, "CompositeImplicitAutograd")
    _LIBRARY.impl("walk_adjoint", _walk_adjoint_torch, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk_backward", _walk_backward_torch, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk_backward.temperature", _walk_backward_temperature, "CompositeExplicitAutograd")
    _LIBRARY.impl("walk", _walk_gpu, "CUDA")
    _LIBRARY.impl("walk_adjoint", _walk_adjoint_gpu, "CUDA")
    _LIBRARY.impl("walk_backward", _walk_backward_gpu, "CUDA")
    torch.library.register_fake("rwpm::walk", _walk_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::walk.temperature", _walk_temperature_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::walk_adjoint", _walk_adjoint_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::walk_backward", _walk_backward_fake, lib=_LIBRARY)
    torch.library.register_fake("rwpm::walk_backward.temperature", _walk_backward_temperature_fake, lib=_LIBRARY)
    for _name, _setup, _gradient in (
        ("walk", _keep_for_backward, _backward),
        ("walk.temperature", _keep_for_backward, _backward),
        ("walk_adjoint", _keep_for_double_backward, _double_backward),
        ("walk_backward", None, _no_double_backward),
        ("walk_backward.temperature", None, _no_double_backward),
    ):
        torch.library.register_autograd(f"rwpm::{_name}", _gradient, setup_context=_setup, lib=_LIBRARY)
        _packet, _, _overload = _name.partition(".")
        _operator = getattr(getattr(torch.ops.rwpm, _packet), _overload or "default")
        if hasattr(torch.library, "register_vmap"):  # from torch 2.5 on
            torch.library.register_vmap(f"rwpm::{_name}", _map_images(_operator), lib=_LIBRARY)
    if hasattr(torch.ops.rwpm, "walk_with_info"):  # only compiled code defines it: other backends report in Python
        torch.library.register_fake("rwpm::walk_with_info", _walk_with_info_fake, lib=_LIBRARY)
        torch.library.register_autograd(
            "rwpm::walk_with_info", _backward, setup_context=_keep_for_backward, lib=_LIBRARY
        )
