"""Calibration of a score map that consists of sub-maps.

Sub-maps that walk separately end up on slightly different scales. Each is multiplied by one factor so that its scores
meet those of its neighbor at their border (Random Walk on Pixel Manifolds, section 3.4). The released code fixes a
4 x 4 grid; here the edges are arguments.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Literal, overload

import torch
from torch import Tensor


@overload
def calibrate(
    score_map: Tensor,
    row_edges: Sequence[int],
    column_edges: Sequence[int],
    *,
    ratio: str = "mean_of_ratios",
    return_factors: Literal[False] = False,
) -> Tensor: ...
@overload
def calibrate(
    score_map: Tensor,
    row_edges: Sequence[int],
    column_edges: Sequence[int],
    *,
    ratio: str = "mean_of_ratios",
    return_factors: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def calibrate(
    score_map: Tensor,
    row_edges: Sequence[int],
    column_edges: Sequence[int],
    *,
    ratio: str = "mean_of_ratios",
    return_factors: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scale every sub-map of a score map so that it meets its neighbors.

    The anchor, bottom row and column ``(columns - 1) // 2``, keeps its scores. From there factors are computed up that
    column and then outward in each row, always relative to a neighbor that has its factor. Blur the map afterwards, if
    at all.

    Factors suit scores of one sign that stay away from 0, such as energies. Border elements whose ratio is not finite
    and positive are left out; a sub-map whose border has none left, or whose factor would leave the range of floats,
    keeps the factor 1. Finite scores stay finite: those that would overflow are set to the largest float.

    Args:
        score_map: [..., H, W] floating point; leading axes are separate maps.
        row_edges: increasing integers from 0 to H: the first row of every row of sub-maps, and H at the end.
        column_edges: increasing integers from 0 to W: the first column of every column of sub-maps, and W at the end.
        ratio: how the elements of a border become one number: "mean_of_ratios" (released), "ratio_of_means" (of
            magnitudes) or "median" (of ratios), from the most to the least sensitive to single pixels near 0.
        return_factors: also return the factors.

    Returns:
        Calibrated map: [..., H, W], a copy in the score map's dtype. With ``return_factors`` a pair of it and the
        factors, [..., rows, columns] in at least float32.

    Raises:
        TypeError: ``score_map`` is not a floating-point tensor, or an edge is not an integer.
        ValueError: wrong rank, unknown ``ratio``, or edges that do not rise from 0 to the side they divide.
    """
    if not isinstance(score_map, Tensor) or not score_map.is_floating_point():
        got = score_map.dtype if isinstance(score_map, Tensor) else type(score_map).__name__
        raise TypeError(f"score_map: expected a floating-point torch.Tensor, got {got}")
    if score_map.dim() < 2:
        raise ValueError(f"score_map: expected shape [..., H, W], got {list(score_map.shape)}")
    if ratio not in _REDUCTIONS:
        raise ValueError(f"ratio: expected one of {', '.join(_REDUCTIONS)}, got {ratio!r}")
    *batch, height, width = score_map.shape
    row_edges = _checked_edges(row_edges, "row_edges", height)
    column_edges = _checked_edges(column_edges, "column_edges", width)
    rows, columns = len(row_edges) - 1, len(column_edges) - 1
    spine = (columns - 1) // 2  # the column whose factors come first

    dtype = torch.promote_types(score_map.dtype, torch.float32)
    maps = score_map.reshape(math.prod(batch), height, width).to(dtype)  # [B, H, W]
    upward = _border_ratios(maps[:, :, column_edges[spine] : column_edges[spine + 1]], row_edges, rows - 1, ratio)
    outward = torch.stack(
        [_border_ratios(maps[:, row_edges[r] : row_edges[r + 1]].mT, column_edges, spine, ratio) for r in range(rows)],
        dim=1,
    )  # [B, rows, columns - 1]
    spine_factors = _chain(maps.new_ones(len(maps)), upward, rows - 1)  # [B, rows]
    factors = _chain(spine_factors, outward, spine)  # [B, rows, columns]

    limit = torch.finfo(score_map.dtype).max
    scaled = maps * _spread(_spread(factors, row_edges, 1), column_edges, 2)
    scaled = torch.where(maps.isinf(), maps, scaled.clamp(-limit, limit)).to(score_map.dtype).reshape(score_map.shape)
    return (scaled, factors.reshape(*batch, rows, columns)) if return_factors else scaled


def _checked_edges(edges: Sequence[int], name: str, size: int) -> list[int]:
    try:
        checked = [operator.index(edge) for edge in edges]
    except TypeError:
        raise TypeError(f"{name}: expected a sequence of integers, got {edges!r}") from None
    rising = all(a < b for a, b in itertools.pairwise(checked))
    if len(checked) < 2 or checked[0] != 0 or checked[-1] != size or not rising:
        raise ValueError(f"{name}: expected increasing integers from 0 to {size}, got {checked}")
    return checked


def _border_ratios(maps: Tensor, edges: list[int], anchor: int, ratio: str) -> Tensor:
    """Reduce every border across axis 1 to the ratio of its side towards the anchor to the other: [B, S, L] to
    [B, borders]."""
    borders = list(enumerate(edges[1:-1]))  # border b lies between parts b and b + 1
    towards = maps[:, [edge if b < anchor else edge - 1 for b, edge in borders]]  # [B, borders, L]
    away = maps[:, [edge - 1 if b < anchor else edge for b, edge in borders]]
    ratios = towards / away
    kept = ratios.isfinite() & (ratios > 0)
    return _REDUCTIONS[ratio](
        ratios.where(kept, torch.nan), towards.where(kept, torch.nan), away.where(kept, torch.nan)
    )


def _chain(start: Tensor, ratios: Tensor, anchor: int) -> Tensor:
    """Multiply ratios [..., borders] along a line of parts, from ``start`` [...] at the anchor: [..., parts]."""
    factors = {anchor: start}
    borders = ratios.shape[-1]
    for border in [*range(anchor, borders), *range(anchor - 1, -1, -1)]:
        own, neighbor = (border + 1, border) if border >= anchor else (border, border + 1)
        factor = factors[neighbor] * ratios[..., border]
        factors[own] = factor.where(factor.isfinite() & (factor > 0), 1.0)
    return torch.stack([factors[part] for part in range(borders + 1)], dim=-1)


def _spread(factors: Tensor, edges: list[int], dim: int) -> Tensor:
    """Repeat every factor over the pixels of its part."""
    sizes = torch.tensor(edges, device=factors.device).diff()
    return factors.repeat_interleave(sizes, dim=dim, output_size=edges[-1])


def _median(ratios: Tensor, towards: Tensor, away: Tensor) -> Tensor:
    lower, upper = ratios.nanmedian(-1).values, -(-ratios).nanmedian(-1).values
    return lower + (upper - lower) / 2


# Elements that are left out are NaN; a border without any other reduces to NaN.
_REDUCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean_of_ratios": lambda ratios, towards, away: ratios.nanmean(-1),
    "ratio_of_means": lambda ratios, towards, away: towards.abs().nansum(-1) / away.abs().nansum(-1),
    "median": _median,
}
