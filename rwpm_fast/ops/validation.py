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

NO_EMBEDDING_GRADIENT = (
    "embeddings: no gradient with respect to the embeddings yet, only to the values; pass embeddings.detach() and, "
    "where the values are the embeddings, values=embeddings; to export or only to run a network before the walk, "
    "network.requires_grad_(False)"
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
