"""Arrays that callers hand over: NumPy's, or tensors where torch is there."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(name: str, values: Any) -> np.ndarray:
    """Convert an array or tensor to an array.

    Args:
        name: of the argument, for the error.
        values: the array or tensor.

    Raises:
        TypeError: a tensor of a type that NumPy lacks, or an array with a mask of its own.
    """
    if hasattr(values, "detach"):
        try:
            return values.detach().cpu().numpy()
        except TypeError as error:
            raise TypeError(f"{name}: expected a type that NumPy has, got {values.dtype} (convert it first)") from error
    check_unmasked(name, values)
    return np.asarray(values)


def widened(values: np.ndarray) -> np.ndarray:
    """Widen float16 to float32, and return others as they are: NumPy leaves float16 maps with many ties unsorted on
    processors with AVX-512 but without its float16.
    """
    return values.astype(np.float32) if values.dtype == np.float16 else values


def ascending(values: np.ndarray) -> np.ndarray:
    """Sort a floating-point array [N], in a copy of its own type."""
    return np.sort(widened(values)).astype(values.dtype, copy=False)


def check_unmasked(name: str, values: Any) -> None:
    """Refuse an array of ``numpy.ma``, whose masked values, which most functions of NumPy ignore, would be taken for
    good.

    Args:
        name: of the argument, for the error.
        values: anything.

    Raises:
        TypeError: it is such an array.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask of its own, got a numpy.ma.{type(values).__name__}; give "
            ".filled(VALUE) in its place, with a value for the masked ones"
        )
