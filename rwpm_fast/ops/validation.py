"""Checks of tensors and arrays shared by all entry points.

A message names the argument, what was expected, what was given and, if there is one, a way out. Shapes are checked
without torch, so that tensors and arrays get the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

NO_SECOND_GRADIENT = (
    "embeddings: no second gradient through a walk, only the first with respect to embeddings, values and temperature; "
    "leave create_graph out, or pass embeddings.detach(), where the walk is linear in the values"
)


def check_shapes(
    embeddings: Tensor | NDArray, values: Tensor | NDArray | None = None, mask: Tensor | NDArray | None = None
) -> None:
    """Check that the shapes of a walk's inputs fit together.

    Args:
        embeddings: [N, D] or [B, N, D].
        values: [..., N, C] or None.
        mask: [..., N] or None.

    Raises:
        ValueError: wrong rank, or sizes that disagree.
    """
    shape = tuple(embeddings.shape)
    if len(shape) not in (2, 3):
        raise ValueError(f"embeddings: expected shape [N, D] or [B, N, D], got {list(shape)}")
    pixels = shape[:-1]
    if values is not None and (len(values.shape) != len(shape) or tuple(values.shape[:-1]) != pixels):
        raise ValueError(
            f"values: expected shape [{_listed(pixels)}, C] to match embeddings {list(shape)}, got {list(values.shape)}"
        )
    if mask is not None and tuple(mask.shape) != pixels:
        raise ValueError(
            f"mask: expected shape [{_listed(pixels)}] to match embeddings {list(shape)}, got {list(mask.shape)}"
        )


def _listed(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sizes))


def check_tensors(**tensors: Tensor | None) -> None:
    """Check types, dtypes and devices of tensors.

    Args:
        tensors: by the names to use in messages; None is skipped. All have to be on the device of the first.

    Raises:
        TypeError: not a strided tensor, or a dtype that is not supported.
        ValueError: devices that differ.
    """
    import torch

    first, device = "", None
    for name, t in tensors.items():
        if t is None:
            continue
        if not isinstance(t, torch.Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(t).__name__}; for arrays use rwpm_fast.numpy")
        if t.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got {t.layout}")
        if name == "mask":
            if t.dtype != torch.bool:
                raise TypeError(f"mask: expected dtype bool, got {t.dtype}")
        elif t.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            raise TypeError(f"{name}: expected dtype float32, float64, float16 or bfloat16, got {t.dtype}")
        if device is None:
            first, device = name, t.device
        if t.device != device:
            raise ValueError(f"{name}: expected the {first}' device {device}, got {t.device}")


def check_inputs(embeddings: Tensor, values: Tensor | None, mask: Tensor | None) -> None:
    """Check the tensors of a walk; see :func:`check_tensors` and :func:`check_shapes`."""
    check_tensors(embeddings=embeddings, values=values, mask=mask)
    check_shapes(embeddings, values, mask)


def check_gradient(gradient: Tensor, embeddings: Tensor, values: Tensor | None) -> None:
    """Check the gradient of a walk's result, for checked inputs.

    Raises:
        TypeError: not a strided tensor, or a dtype that is not supported.
        ValueError: another shape or device than the values'.
    """
    values = embeddings if values is None else values
    check_tensors(embeddings=embeddings, gradient=gradient)
    if tuple(gradient.shape) != tuple(values.shape):
        raise ValueError(f"gradient: expected shape {list(values.shape)} of the values, got {list(gradient.shape)}")


def check_temperature(temperature: Tensor) -> None:
    """Check a temperature that is a tensor: its type, not its value.

    Raises:
        TypeError: not of a floating dtype.
        ValueError: not a single number, of shape [].
    """
    if not temperature.is_floating_point():
        raise TypeError(f"temperature: expected a floating dtype, got {temperature.dtype}")
    if temperature.dim() != 0:
        raise ValueError(f"temperature: expected a number or a tensor of shape [], got {list(temperature.shape)}")


def check_out(out: Tensor, embeddings: Tensor, values: Tensor | None) -> None:
    """Check the tensor that receives a walk's result, for checked inputs; see :func:`check_apart` too.

    Raises:
        TypeError: not a strided tensor, or another dtype than the values'.
        ValueError: another shape or device than the values', or not contiguous.
    """
    values = embeddings if values is None else values
    check_tensors(embeddings=embeddings, out=out)
    if tuple(out.shape) != tuple(values.shape):
        raise ValueError(f"out: expected shape {list(values.shape)} of the values, got {list(out.shape)}")
    if out.dtype != values.dtype:
        raise TypeError(f"out: expected the values' dtype {values.dtype}, got {out.dtype}")
    if not out.is_contiguous():
        raise ValueError("out: expected a contiguous tensor, got strides " + str(list(out.stride())))


def check_apart(out: Tensor, *inputs: Tensor | None) -> None:
    """Check that a tensor shares no memory with inputs; None is skipped, and so are tensors without memory.

    Raises:
        ValueError: it overlaps one of them.
    """
    begin, end = _extent(out)
    for t in inputs:
        other, other_end = (0, 0) if t is None else _extent(t)
        if max(begin, other) < min(end, other_end):
            raise ValueError("out: expected memory of its own, got some of an input's")


def _extent(t: Tensor) -> tuple[int, int]:
    """The addresses from a tensor's first element to behind its last; (0, 0) for one without memory."""
    from torch._subclasses.fake_tensor import FakeTensor

    try:
        begin = 0 if isinstance(t, FakeTensor) else t.data_ptr()
    except RuntimeError:  # traced by a compiler
        begin = 0
    if begin == 0 or t.numel() == 0:
        return 0, 0
    last = sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return begin, begin + (last + 1) * t.element_size()
