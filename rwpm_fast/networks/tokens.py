"""Tokens of a transformer as a map: patches in the order of rows, behind tokens that show no place."""

from __future__ import annotations

from itertools import product

from torch import Tensor

from .map_size import Size

MOST_PREFIX = 16  # class, distillation and register tokens, where their number is guessed for a message


def tokens_to_map(tokens: Tensor, prefix: int, size: Size | None, stride: int | Size | None = None) -> Tensor:
    """Arrange tokens as a map.

    Args:
        tokens: [B, prefix + h w, D], or without the prefix.
        prefix: number of tokens before the patches.
        size: height and width of the model's input.
        stride: pixels of the input per side of a patch, or per row and per column; None to find it.

    Returns:
        Map: [B, D, h, w].

    Raises:
        ValueError: no grid of patches over the input has so many tokens.
    """
    count = tokens.shape[1]
    if size is not None:
        for patches in (count - prefix, count):
            if grid := _grid(size, patches, stride):
                return tokens[:, count - patches :].mT.reshape(tokens.shape[0], tokens.shape[2], *grid)
    over = "an input that is no image" if size is None else f"an input {list(size)}"
    by = "" if stride is None else f" of {stride} pixels a side"
    raise ValueError(
        f"reshape: expected {prefix} tokens and then one for each patch{by} of {over}, got {count} tokens; give the "
        "number of tokens before the patches, padded_to if the model takes only multiples of the patch, or a function "
        "that makes the map"
    )


def map_to_tokens(map_: Tensor) -> Tensor:
    """Arrange a map [B, D, h, w] as tokens [B, h w, D]."""
    return map_.flatten(2).mT


def likely_prefix(count: int, size: Size | None) -> int | None:
    """Return the smallest number of tokens that may stand before the patches; None if there is none."""
    if size is None:
        return None
    return next((prefix for prefix in range(MOST_PREFIX + 1) if _grid(size, count - prefix, None, exact=True)), None)


def _grid(size: Size, patches: int, stride: int | Size | None, *, exact: bool = False) -> Size | None:
    """Rows and columns of so many patches over an input; those whose side divides that of the input first."""
    if stride is not None:
        strides = [(stride, stride) if isinstance(stride, int) else stride]
    else:
        strides = [(side, side) for side in range(1, min(size) + 1)]
        strides.sort(key=lambda s: (size[0] % s[0] != 0) + (size[1] % s[1] != 0))
    more = (0,) if exact else (0, 1)
    for rows_per, columns_per in strides:
        if exact and (size[0] % rows_per or size[1] % columns_per):
            continue
        for below, right in product(more, more):
            rows, columns = size[0] // rows_per + below, size[1] // columns_per + right
            if rows * columns == patches:
                return rows, columns
    return None
