"""The graph built once and walked many times: :func:`transition` and the :class:`Transition` that it makes."""

from __future__ import annotations

import math
from functools import cached_property
from numbers import Integral

import torch
from torch import Tensor

from ..reference import valid_pixels
from .backends import Matrix, automatic
from .settings import DEFAULTS, check_graph_settings, check_walk_settings
from .solver import Solution, check_solver, solve
from .validation import NO_EMBEDDING_GRADIENT, check_shapes, check_tensors

# Entries up to which to_csr() writes down a graph that streams: 128 MiB of float32 weights and int32 columns.
MOST_DENSE_ENTRIES = 2**24


class Transition:
    """The transition matrix S of one image's graph, to be walked, solved, or looked into. Made by :func:`transition`.

    Attributes:
        pixels: number of pixels of the graph.
        path: "sparse" (a compiled matrix), or "streaming" (every weight is made anew where it is needed: the graph is
            too dense for a sparse matrix, the tolerance is 0, the pixels are few, the embeddings are float64, or the
            kernels are out of use).
        kept_per_row: [N] int64, pairs that each row keeps; 0 for a pixel that is no part of the graph.
        dropped_mass: [N] float32, upper bound of the share of its exact mass that each row dropped before it was
            renormalized; 0 where nothing was.
    """

    def __init__(
        self,
        valid: Tensor,
        temperature: float,
        *,
        matrix: Matrix | None = None,
        embeddings: Tensor | None = None,
    ):
        """
        Args:
            valid: [N] bool, pixels of the graph.
            matrix: over the graph's n pixels; else `embeddings`: [n, D].
        """
        index = valid.nonzero().squeeze(-1)
        self.pixels = len(index)
        self.path = "sparse" if matrix is not None else "streaming"
        self._valid = valid
        self._index = None if self.pixels == len(valid) else index  # None: all pixels, in their order
        self._temperature = temperature
        self._matrix = matrix
        self._embeddings = embeddings
        self.dropped_mass = torch.zeros_like(valid, dtype=torch.float32)
        if matrix is not None:
            self.dropped_mass[index] = matrix.dropped_mass

    @cached_property
    def kept_per_row(self) -> Tensor:
        kept = torch.zeros_like(self._valid, dtype=torch.int64)
        if self._matrix is None:
            kept[self._valid] = self.pixels - 1
        else:
            kept[self._valid] = self._matrix.pairs()[0].bincount(minlength=self.pixels)
        return kept

    def __repr__(self) -> str:
        return f"Transition({self.path}, {self.pixels} pixels, {int(self.kept_per_row.sum())} pairs)"

    def walk(self, values: Tensor, *, alpha: float = DEFAULTS.alpha, steps: int = DEFAULTS.steps) -> Tensor:
        """``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v``: :func:`rwpm_fast.walk` on this graph.

        The result of a walk with the same embeddings, mask, temperature and tolerance, bit for bit where both take the
        sparse path in float32. There a pixel whose value is not finite leaves the graph; here the graph is fixed, and
        such a value is an error. float64 values are walked in float64, on float32 weights if the path is sparse.

        Args:
            values: [N, C], float32, float64, float16 or bfloat16, any strides; finite in every pixel of the graph.
            alpha: probability to go on, in [0, 1].
            steps: number of transitions, >= 0.

        Returns:
            Walked values [N, C], contiguous, in the values' dtype. A pixel that is no part of the graph keeps its
            value, whatever it is. Differentiable with respect to the values.

        Raises:
            TypeError: a dtype or type that is not taken.
            ValueError: shapes, devices or settings that do not fit, or a value in the graph that is not finite.
        """
        check_walk_settings(alpha, steps)
        inside = self._inside(values)
        return self._outside(values, self._step(inside, alpha=alpha, steps=steps))

    def solve(
        self, values: Tensor, *, alpha: float = DEFAULTS.alpha, rtol: float = 1e-6, max_iterations: int = 1000
    ) -> Solution:
        """The limit of the walk, ``m = (1 - alpha) (I - alpha S)^-1 v``: m^inf of equation S.6 of the RWPM supplement.

        Iterated in float64 by :func:`rwpm_fast.ops.solver.solve`, which says how and why; about 9 times fewer
        transitions than the walk itself would need. A graph that streams makes every weight anew in each of them.

        Args:
            values: as of :meth:`walk`.
            alpha: probability to go on, in [0, 1).
            rtol: residual to reach, > 0; see :class:`Solution`. Not much below 1e-15 / (1 - alpha) can be had.
            max_iterations: transitions to make at most, >= 1.

        Returns:
            The solution with its residual; ``converged`` is False where ``max_iterations`` came first. A pixel that is
            no part of the graph keeps its value.

        Raises:
            NotImplementedError: the values require a gradient.
            TypeError, ValueError: as of :meth:`walk`.
        """
        check_solver(alpha, rtol, max_iterations)
        start = self._inside(values).double()  # [n, C]
        if values.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("values: solve() gives no gradient; pass values.detach(), or use walk()")
        if start.numel() == 0:
            return Solution(values.clone(memory_format=torch.contiguous_format), 0.0, 0, True)
        # Float32 weights sum to one only to 1e-7, which 1 / (1 - alpha) would enlarge; streamed ones are float64 here.
        sparse = self.path == "sparse"
        sums = self._step(torch.ones_like(start[:, :1]), alpha=1.0, steps=1) if sparse else 1.0
        solution, residual, iterations = solve(
            lambda m: self._step(m, alpha=1.0, steps=1) / sums,
            start,
            alpha=alpha,
            rtol=rtol,
            max_iterations=max_iterations,
        )
        return Solution(self._outside(values, solution.to(values.dtype)), residual, iterations, residual <= rtol)

    def error_bound(self, *, alpha: float = DEFAULTS.alpha, steps: float = DEFAULTS.steps) -> float:
        """Certificate of what dropping pairs can do to a walk: no value is off by more than this times ``max|v|``.

        ``2 delta (alpha + alpha^2 + ... + alpha^steps)``, at most 2, with delta the largest dropped mass; in exact
        arithmetic, so that the rounding of float32 comes on top.

        Proof. Let row i of S keep the pairs P and drop the mass d_i; R is S with its rows renormalized. R_i - S_i is
        S_i d_i / (1 - d_i) on P, which sums to d_i, and -S_i off P, which sums to -d_i. So for any x,
        ``|(R - S) x|_i <= d_i spread(x)``, where spread is the largest less the smallest element. Let m be the exact
        walk, r that by R, and e their difference: ``e_t+1 = alpha (R e_t + (R - S) m_t)``. R averages, and m_t stays in
        the convex hull of v, so ``max|e_t+1| <= alpha (max|e_t| + delta spread(v))``, and from e_0 = 0,
        ``max|e_T| <= delta spread(v) (alpha + ... + alpha^T)``. Both walks stay in the hull, so
        ``max|e_T| <= spread(v)`` too, and ``spread(v) <= 2 max|v|``. Half of this bound times the spread is the sharper
        certificate.

        Args:
            alpha: as walked, in [0, 1].
            steps: as walked; ``math.inf`` for :meth:`solve`, whose residual comes on top.
        """
        check_walk_settings(alpha, 0 if steps == math.inf else steps)
        delta = float(self.dropped_mass.max()) if self.pixels else 0.0
        if delta == 0 or alpha == 0:
            return 0.0
        powers = steps if alpha == 1 else -alpha * math.expm1(steps * math.log(alpha)) / (1 - alpha)
        return min(2 * delta * powers, 2.0)

    def to_csr(self) -> Tensor:
        """S as a sparse CSR tensor [N, N] over all pixels, float32 (float64 if the embeddings are), int32 indices.

        Rows sum to 1. A pixel that is no part of the graph has a single 1 on the diagonal, so that walking keeps its
        value. For SciPy::

            scipy.sparse.csr_array((S.values(), S.col_indices(), S.crow_indices()), S.shape)

        Raises:
            ValueError: the graph streams and has more than 2^24 pairs.
        """
        row, column, weight = self._dense_pairs() if self._matrix is None else self._matrix.pairs()
        if self._index is not None:
            row, column = self._index[row], self._index[column]
        outside = (~self._valid).nonzero().squeeze(-1)
        row, column = torch.cat([row, outside]), torch.cat([column, outside])
        weight = torch.cat([weight, weight.new_ones(len(outside))])
        total = len(self._valid)
        order = (row * total + column).argsort()
        crow = torch.nn.functional.pad(row.bincount(minlength=total).cumsum(0), (1, 0))
        parts = crow.to(torch.int32), column[order].to(torch.int32), weight[order]
        return torch.sparse_csr_tensor(*parts, (total, total), check_invariants=False)

    def _dense_pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every pair of the streamed S, as of the compiled matrix."""
        n = self.pixels
        if n * (n - 1) > MOST_DENSE_ENTRIES:
            raise ValueError(
                f"to_csr: expected a sparse graph or at most {MOST_DENSE_ENTRIES} pairs, got {n * (n - 1)} pairs of "
                f"{n} pixels in a graph that streams; a tolerance above 0 makes it sparse where few pairs matter"
            )
        identity = torch.eye(n, dtype=self._embeddings.dtype, device=self._embeddings.device)
        identity = identity.to(torch.promote_types(identity.dtype, torch.float32))
        row, column = (identity == 0).nonzero(as_tuple=True)
        return row, column, self._step(identity, alpha=1.0, steps=1)[row, column]

    def _inside(self, values: Tensor) -> Tensor:
        """The graph's values [n, C], checked."""
        check_tensors(values=values)
        device, total = self._valid.device, len(self._valid)
        if values.dim() != 2 or len(values) != total:
            raise ValueError(f"values: expected shape [{total}, C], got {list(values.shape)}")
        if values.device != device:
            raise ValueError(f"values: expected the embeddings' device {device}, got {values.device}")
        inside = values if self._index is None else values[self._index]
        # What is compiled cannot branch on data; the sparse operator refuses by itself.
        if not torch.compiler.is_compiling() and not (finite := inside.isfinite().all(-1)).all():
            raise ValueError(
                f"values: expected finite numbers in the pixels of the graph, got {int((~finite).sum())} pixels with "
                "others; leave them out of the graph with mask=values.isfinite().all(-1)"
            )
        return inside

    def _outside(self, values: Tensor, inside: Tensor) -> Tensor:
        """The values [N, C] with those of the graph replaced."""
        return inside if self._index is None else values.contiguous().index_copy(0, self._index, inside)

    def _step(self, inside: Tensor, *, alpha: float, steps: int) -> Tensor:
        settings = {"alpha": alpha, "steps": steps}
        if self._matrix is not None:
            return self._matrix.walk(inside, **settings)
        return torch.ops.rwpm.walk.default(self._embeddings, inside, None, **settings, temperature=self._temperature)


def transition(
    embeddings: Tensor,
    *,
    mask: Tensor | None = None,
    temperature: float = DEFAULTS.temperature,
    tolerance: float = 1e-4,
    shape: tuple[int, int] | None = None,
) -> Transition:
    """Build the graph of pixel similarities once, to walk it many times: other values, other settings, the closed form.

    Args:
        embeddings: [N, D], float32, float64, float16 or bfloat16, any strides; a batch is one call for each entry.
            float16 and bfloat16 are computed in float32. float64 streams: the sparse matrix is of float32.
        mask: [N] bool, True = valid; all when None. A pixel that is masked out, or whose embedding is not finite, is no
            part of the graph.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1); 0 streams. See :func:`rwpm_fast.walk`.
        shape: (H, W) of the map whose pixels come row by row; guessed when None. A hint that may save time: which pairs
            are kept may differ by it, the tolerance holds whatever it is.

    Returns:
        The graph; the embeddings may change afterwards.

    Raises:
        TypeError: a dtype or type that is not taken.
        ValueError: shapes, devices or settings that do not fit.
        NotImplementedError: the embeddings require a gradient.
    """
    check_graph_settings(temperature, tolerance)
    check_tensors(embeddings=embeddings, mask=mask)
    if embeddings.dim() != 2:
        raise ValueError(
            f"embeddings: expected shape [N, D], got {list(embeddings.shape)}; make a transition of each batch entry"
        )
    check_shapes(embeddings, None, mask)
    if shape is not None:
        _check_map_shape(shape, len(embeddings))
    if embeddings.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(NO_EMBEDDING_GRADIENT)

    valid = valid_pixels(embeddings, None, mask)
    if valid.sum() < 2:
        valid = torch.zeros_like(valid)  # a pixel without another keeps its value
    inside = embeddings[valid]  # [n, D], a copy
    matrix = None
    if tolerance > 0 and len(inside) > 0 and inside.dtype != torch.float64:
        width = 0 if shape is None else int(shape[1])
        backend = automatic(inside)
        matrix = backend.build_matrix(embeddings, valid, temperature=temperature, tolerance=tolerance, width=width)
    return Transition(valid, temperature, matrix=matrix, embeddings=inside if matrix is None else None)


def _check_map_shape(shape: tuple[int, int], pixels: int) -> None:
    if not isinstance(shape, (tuple, list)) or len(shape) != 2 or not all(isinstance(size, Integral) for size in shape):
        raise TypeError(f"shape: expected two integers (H, W), got {shape!r}")
    height, width = shape
    if height < 0 or width < 0 or height * width != pixels:
        raise ValueError(f"shape: expected (H, W) with H * W = {pixels} pixels, got {tuple(shape)}")
