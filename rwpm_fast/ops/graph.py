"""A graph that is built once and walked many times: :func:`transition` and its result, :class:`Transition`."""

from __future__ import annotations

import math
from functools import cached_property
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor

from ..reference import valid_pixels
from .anchor import own_weights
from .backends import Matrix, choose_backend
from .csr import csr_of_pairs
from .functional import split_temperature, walk
from .settings import (
    DEFAULTS,
    check_anchor_settings,
    check_graph_settings,
    check_walk_settings,
    cosine_scale,
    is_anchored,
)
from .solver import Solution, check_solver, solve
from .streamed_graph import log_sums
from .validation import check_shapes, check_tensors

# Entries up to which to_csr() writes out a graph that streams: 128 MiB of float32 weights and int32 columns.
MAX_DENSE_ENTRIES = 2**24


class Transition:
    """The transition matrix S of one image's graph, to be walked, solved or inspected. Made by :func:`transition`.

    Attributes:
        pixels: number of pixels of the graph.
        path: "sparse" (S is held as a sparse matrix), or "streaming" (every weight is computed again where it is
            needed: the graph is too dense for a sparse matrix, the tolerance is 0, the pixels are few, the embeddings
            are float64, or no kernel can run).
        kept_per_row: [N] int64, pairs that each row keeps; 0 for a pixel that is no part of the graph.
        dropped_mass: [N] float32, upper bound of the share of its mass that each row has elsewhere than the exact one:
            what it dropped before it was renormalized, and what the rounding of its weights moved; 0 where it streams.
    """

    def __init__(
        self,
        valid: Tensor,
        temperature: float,
        *,
        matrix: Matrix | None = None,
        embeddings: Tensor | None = None,
        temperature_tensor: Tensor | None = None,
    ):
        """
        Args:
            valid: [N] bool, True for the n pixels of the graph.
            temperature: softmax temperature tau > 0.
            matrix: S over the n pixels; None for a graph that streams.
            embeddings: [n, D], of the n pixels, for a graph that streams or whose walks have a gradient with respect to
                them; else None.
            temperature_tensor: the temperature, for gradients with respect to it; else None.
        """
        index = valid.nonzero().squeeze(-1)
        self.pixels = len(index)
        self.path = "sparse" if matrix is not None else "streaming"
        self._valid = valid
        self._index = None if self.pixels == len(valid) else index  # None: all pixels, in their order
        self._temperature = temperature
        self._matrix = matrix
        self._embeddings = embeddings
        self._temperature_tensor = temperature_tensor
        self.dropped_mass = torch.zeros_like(valid, dtype=torch.float32)
        if matrix is not None:
            self.dropped_mass[index] = matrix.dropped_mass

    @property
    def differentiable(self) -> bool:
        """Whether walks on this graph have a gradient with respect to its embeddings or its temperature."""
        parts = self._embeddings, self._temperature_tensor
        return any(t is not None and t.requires_grad for t in parts)

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

    @cached_property
    def smooth_max(self) -> Tensor:
        """The smooth maximum of every pixel's cosines with the others, ``temperature * log sum_j exp(cos_ij /
        temperature)``: [N] float32 (float64 if the embeddings are), -inf for a pixel that is no part of the graph.

        It is small for a pixel that resembles few others, and little. A graph that streams computes it in plain torch,
        once.
        """
        log_sum = self._log_sum()
        result = log_sum.new_full(self._valid.shape, -math.inf)
        result[self._valid] = log_sum / cosine_scale(self._temperature)
        return result

    def own_weights(self, *, anchor: float = DEFAULTS.anchor, anchor_share: float = DEFAULTS.anchor_share) -> Tensor:
        """Weight r of every pixel's own value in an anchored walk, [N] in [0, 1]; 1 for a pixel that is no part of the
        graph; see :func:`rwpm_fast.reference.own_weights`.

        Args:
            anchor: cosine of a pixel with its own value; -1 or lower: no anchor.
            anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.

        Raises:
            TypeError: a setting has the wrong type.
            ValueError: a setting is out of its range.
        """
        check_anchor_settings(anchor, anchor_share)
        result = torch.ones_like(self._valid, dtype=torch.float32)
        own_weight = self._own_weight(anchor, anchor_share)
        result[self._valid] = 0.0 if own_weight is None else own_weight.to(result.dtype)
        return result

    def walk(
        self,
        values: Tensor,
        *,
        alpha: float = DEFAULTS.alpha,
        steps: int = DEFAULTS.steps,
        anchor: float = DEFAULTS.anchor,
        anchor_share: float = DEFAULTS.anchor_share,
    ) -> Tensor:
        """Walk values on this graph: ``m <- alpha S m + (1 - alpha) v``, ``steps`` times from ``m = v``.

        The result equals that of :func:`rwpm_fast.walk` with the same embeddings, mask, temperature and tolerance, bit
        for bit where both take the sparse path in float32. In that function a pixel whose value is not finite leaves
        the graph; here the graph is fixed, and such a value is an error. float64 values are walked in float64, on
        the stored weights if the path is sparse.

        Args:
            values: [N, C], float32, float64, float16 or bfloat16, any strides; finite in every pixel of the graph.
            alpha: continuing probability, in [0, 1].
            steps: number of transitions, >= 0.
            anchor: cosine of a pixel with its own value; -1 or lower: no anchor. See :func:`rwpm_fast.walk`.
            anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.

        Returns:
            Walked values [N, C], contiguous, in the values' dtype. A pixel that is no part of the graph keeps its
            value, whatever it is. Differentiable with respect to the values, and to embeddings and temperature of the
            graph, on the pairs that it keeps.

        Raises:
            TypeError: a dtype or type that is not supported.
            ValueError: shapes, devices or settings that do not fit, or a value in the graph that is not finite.
        """
        check_walk_settings(alpha, steps)
        check_anchor_settings(anchor, anchor_share)
        gathered = self._gather_valid(values)
        walked = self._step(gathered, alpha=alpha, steps=steps, anchor=anchor, anchor_share=anchor_share)
        return self._scatter_valid(values, walked)

    def solve(
        self,
        values: Tensor,
        *,
        alpha: float = DEFAULTS.alpha,
        anchor: float = DEFAULTS.anchor,
        anchor_share: float = DEFAULTS.anchor_share,
        rtol: float = 1e-6,
        max_iterations: int = 1000,
    ) -> Solution:
        """Solve for the limit of the walk, ``m = (1 - alpha) (I - alpha S)^-1 v``, m^inf of equation S.6 of the RWPM
        supplement.

        :func:`rwpm_fast.ops.solver.solve` iterates in float64 and explains the method, which takes about 9 times fewer
        transitions than the walk itself. A graph that streams computes every weight again in each of them.

        Args:
            values: [N, C], float32, float64, float16 or bfloat16, any strides; finite in every pixel of the graph.
            alpha: continuing probability, in [0, 1).
            anchor: cosine of a pixel with its own value; -1 or lower: no anchor. See :func:`rwpm_fast.walk`.
            anchor_share: share of the pixels to anchor, in [0, 1]; 0: by ``anchor``.
            rtol: residual to reach, > 0; see :class:`rwpm_fast.ops.solver.Solution`. Residuals much below
                1e-15 / (1 - alpha) cannot be reached.
            max_iterations: transitions at most, >= 1.

        Returns:
            The solution with its residual; ``converged`` is False if ``max_iterations`` came first. A pixel that is no
            part of the graph keeps its value.

        Raises:
            NotImplementedError: values, or the embeddings of the graph, require a gradient.
            TypeError: a dtype or type that is not supported.
            ValueError: shapes, devices or settings that do not fit, or a value in the graph that is not finite.
        """
        check_solver(alpha, rtol, max_iterations)
        check_anchor_settings(anchor, anchor_share)
        start = self._gather_valid(values).double()  # [n, C]
        if values.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("values: solve() gives no gradient; pass values.detach(), or use walk()")
        if self.differentiable and torch.is_grad_enabled():
            raise NotImplementedError("embeddings: solve() gives no gradient; call it under torch.no_grad()")
        if start.numel() == 0:
            return Solution(values.clone(memory_format=torch.contiguous_format), 0.0, 0, True)
        # Float32 weights sum to one only to 1e-7, which 1 / (1 - alpha) would enlarge; streamed ones are float64 here.
        sparse = self.path == "sparse"
        sums = self._step(torch.ones_like(start[:, :1]), alpha=1.0, steps=1) if sparse else 1.0
        own_weight = self._own_weight(anchor, anchor_share)
        others = 1.0 if own_weight is None else (1 - own_weight.double())[:, None]
        solution, residual, iterations = solve(
            lambda m: others * (self._step(m, alpha=1.0, steps=1) / sums),
            start,
            restart=(1 - alpha * others) * start,
            alpha=alpha,
            rtol=rtol,
            max_iterations=max_iterations,
        )
        return Solution(self._scatter_valid(values, solution.to(values.dtype)), residual, iterations, residual <= rtol)

    def error_bound(self, *, alpha: float = DEFAULTS.alpha, steps: float = DEFAULTS.steps) -> float:
        """Bound the error that dropped pairs cause in a walk: no value is off by more than this times ``max|v|``.

        The bound is ``2 delta (alpha + alpha^2 + ... + alpha^steps)``, at most 2, with delta the largest dropped mass.
        It holds in exact arithmetic; the rounding of float32 comes on top.

        Proof. Let R be S with the mass d_i dropped from row i, the row renormalized, and its weights rounded, which
        moves the mass r_i from pairs to others; the dropped mass counts both. Renormalized, the row has d_i more on the
        pairs that it keeps and d_i less on the others, so what R_i - S_i has above zero sums to at most d_i + r_i, and
        what it has below zero to the same. So for any x, ``|(R - S) x|_i <= (d_i + r_i) spread(x) <= delta spread(x)``,
        where spread is the largest less the smallest element. Let m be the exact
        walk, r that by R, and e their difference: ``e_t+1 = alpha (R e_t + (R - S) m_t)``. R averages, and m_t stays in
        the convex hull of v, so ``max|e_t+1| <= alpha (max|e_t| + delta spread(v))``, and from e_0 = 0,
        ``max|e_T| <= delta spread(v) (alpha + ... + alpha^T)``. Both walks stay in the hull, so
        ``max|e_T| <= spread(v)`` too, and ``spread(v) <= 2 max|v|``. Half of this bound times the spread is the sharper
        certificate.

        Args:
            alpha: continuing probability of the walk, in [0, 1].
            steps: transitions of the walk, >= 0; ``math.inf`` for :meth:`solve`, whose residual comes on top.

        Raises:
            TypeError: a setting has the wrong type.
            ValueError: a setting is out of its range.
        """
        check_walk_settings(alpha, 0 if steps == math.inf else cast(int, steps))
        delta = float(self.dropped_mass.max()) if self.pixels else 0.0
        if delta == 0 or alpha == 0:
            return 0.0
        powers = steps if alpha == 1 else -alpha * math.expm1(steps * math.log(alpha)) / (1 - alpha)
        return min(2 * delta * powers, 2.0)

    def to_csr(self) -> Tensor:
        """Write out S as a sparse CSR tensor over all pixels.

        Rows sum to 1. A pixel that is no part of the graph has a single 1 on the diagonal, so that walking keeps its
        value. For SciPy::

            scipy.sparse.csr_array((S.values(), S.col_indices(), S.crow_indices()), S.shape)

        For PyTorch Geometric the walk is APPNP, whose alpha is the restart::

            APPNP(K=steps, alpha=1 - alpha, normalize=False, add_self_loops=False)(values, S)

        Returns:
            S: [N, N], float32 (float64 if the embeddings are), with int32 indices.

        Raises:
            ValueError: the graph streams and has more than 2^24 pairs.
        """
        row, column, weight = self._dense_pairs() if self._matrix is None else self._matrix.pairs()
        if self._index is not None:
            row, column = self._index[row], self._index[column]
        outside = (~self._valid).nonzero().squeeze(-1)
        row, column = torch.cat([row, outside]), torch.cat([column, outside])
        weight = torch.cat([weight, weight.new_ones(len(outside))])
        return csr_of_pairs(row, column, weight, len(self._valid))

    def _dense_pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and weight of every pair of a graph that streams: [pairs] each."""
        n = self.pixels
        if n * (n - 1) > MAX_DENSE_ENTRIES:
            raise ValueError(
                f"to_csr: expected a sparse graph or at most {MAX_DENSE_ENTRIES} pairs, got {n * (n - 1)} pairs of "
                f"{n} pixels in a graph that streams; a tolerance above 0 makes it sparse where few pairs matter"
            )
        embeddings = cast(Tensor, self._embeddings)  # which a graph that streams holds
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        identity = torch.eye(n, dtype=dtype, device=embeddings.device)
        row, column = (identity == 0).nonzero(as_tuple=True)
        return row, column, self._step(identity, alpha=1.0, steps=1)[row, column]

    def _gather_valid(self, values: Tensor) -> Tensor:
        """Check values [N, C] and return those of the graph's pixels, [n, C]."""
        check_tensors(values=values)
        device, total = self._valid.device, len(self._valid)
        if values.dim() != 2 or len(values) != total:
            raise ValueError(f"values: expected shape [{total}, C], got {list(values.shape)}")
        if values.device != device:
            raise ValueError(f"values: expected the embeddings' device {device}, got {values.device}")
        gathered = values if self._index is None else values[self._index]
        # Code under torch.compile cannot branch on data; the sparse operator checks by itself.
        if not torch.compiler.is_compiling() and not (finite := gathered.isfinite().all(-1)).all():
            raise ValueError(
                f"values: expected finite numbers in the pixels of the graph, got {int((~finite).sum())} pixels with "
                "others; leave them out of the graph with mask=values.isfinite().all(-1)"
            )
        return gathered

    def _scatter_valid(self, values: Tensor, gathered: Tensor) -> Tensor:
        """Return values [N, C] with those of the graph's pixels replaced by [n, C]."""
        return gathered if self._index is None else values.contiguous().index_copy(0, self._index, gathered)

    def _log_sum(self) -> Tensor:
        """Logarithm of the sum of exp(cosine / temperature) of every row, [n]."""
        if self._matrix is not None:
            return self._matrix.log_sum
        return log_sums(cast(Tensor, self._embeddings).detach(), self._temperature)

    def _own_weight(self, anchor: float, anchor_share: float) -> Tensor | None:
        """Weight of the own value of the graph's pixels, [n]; None without an anchor."""
        if self.pixels == 0 or not is_anchored(anchor, anchor_share):
            return None
        settings = {"temperature": self._temperature, "anchor": anchor, "anchor_share": anchor_share}
        return own_weights(self._log_sum(), **settings)

    def _step(
        self, gathered: Tensor, *, alpha: float, steps: int, anchor: float = -1.0, anchor_share: float = 0.0
    ) -> Tensor:
        """Walk values [n, C] of the graph's pixels."""
        tau = self._temperature_tensor
        if self._matrix is None:
            return walk(
                cast(Tensor, self._embeddings),
                gathered,
                temperature=self._temperature if tau is None else tau,
                tolerance=0.0,
                alpha=alpha,
                steps=steps,
                anchor=anchor,
                anchor_share=anchor_share,
            )
        own_weight = self._own_weight(anchor, anchor_share)
        if self.differentiable and torch.is_grad_enabled():
            settings = {"alpha": alpha, "steps": steps, "temperature": self._temperature}
            settings |= {"anchor": anchor, "anchor_share": anchor_share}
            return _MatrixWalk.apply(self._embeddings, gathered, tau, self._matrix, own_weight, settings)
        return self._matrix.walk(gathered, alpha=alpha, steps=steps, own_weight=own_weight)


class _MatrixWalk(torch.autograd.Function):
    """A walk on a sparse matrix, with gradients with respect to what the matrix was made of."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        values: Tensor,
        temperature_tensor: Tensor | None,
        matrix: Matrix,
        own_weight: Tensor | None,
        settings: dict[str, Any],
    ) -> Tensor:
        ctx.save_for_backward(embeddings, values)
        ctx.matrix, ctx.settings = matrix, settings
        ctx.temperature_dtype = None if temperature_tensor is None else temperature_tensor.dtype
        return matrix.walk(values, alpha=settings["alpha"], steps=settings["steps"], own_weight=own_weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_embeddings, by_values, by_temperature = ctx.matrix.gradients(gradient, *ctx.saved_tensors, **ctx.settings)
        tau = None if ctx.temperature_dtype is None else by_temperature.to(ctx.temperature_dtype)
        return by_embeddings, by_values, tau, None, None, None


def transition(
    embeddings: Tensor,
    *,
    mask: Tensor | None = None,
    temperature: float | Tensor = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    shape: tuple[int, int] | None = None,
    previous: Transition | None = None,
) -> Transition:
    """Build the graph of pixel similarities once, to walk it many times: other values, other settings, the limit.

    Args:
        embeddings: [N, D], float32, float64, float16 or bfloat16, any strides; for a batch call it for each entry.
            float16 and bfloat16 are computed in float32. float64 streams, because sparse matrices are of float32.
        mask: [N] bool, True = valid; all when None. A pixel that is masked out, or whose embedding is not finite, is no
            part of the graph.
        temperature: softmax temperature tau > 0; as a tensor of shape [] it can have a gradient.
        tolerance: mass that a row of S may drop, in [0, 1); 0 streams: the exact walk. See :func:`rwpm_fast.walk`.
        shape: (H, W) of the map whose pixels are given row by row; guessed when None. A hint that may save time: which
            pairs are kept may depend on it, but the tolerance always holds.
        previous: graph of a similar image of the same size, such as a video's last frame: a hint that may save time on
            the CPU, from the third frame on. Which pairs are kept depends on it, as with ``shape``; whatever it is, the
            tolerance holds, and the graph of another scene costs time only. One of another size or on another device
            is of no use and is passed over.

    Example:
        >>> graph = None
        >>> for embeddings, logits in frames:
        ...     graph = rwpm_fast.transition(embeddings, previous=graph)
        ...     walked = graph.walk(logits)

    Returns:
        The graph, which does not change with the embeddings afterwards. If they require a gradient it holds them, for
        the gradients of its walks.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes, devices or settings that do not fit.
    """
    number, tau = split_temperature(temperature)
    if tau is not None:
        number = tau.item()
    check_graph_settings(number, tolerance)
    check_tensors(embeddings=embeddings, mask=mask)
    if embeddings.dim() != 2:
        raise ValueError(
            f"embeddings: expected shape [N, D], got {list(embeddings.shape)}; make a transition of each batch entry"
        )
    check_shapes(embeddings, None, mask)
    if shape is not None:
        _check_map_shape(shape, len(embeddings))
    if previous is not None and not isinstance(previous, Transition):
        raise TypeError(f"previous: expected a Transition, the result of transition(), or None, got {previous!r}")

    valid = valid_pixels(embeddings, None, mask)
    if valid.sum() < 2:
        valid = torch.zeros_like(valid)  # a pixel without another keeps its value
    matrix = None
    if tolerance > 0 and embeddings.dtype != torch.float64 and valid.any():
        width = 0 if shape is None else int(shape[1])
        backend = choose_backend(embeddings)
        matrix = backend.build_matrix(
            embeddings.detach(),
            valid,
            temperature=number,
            tolerance=tolerance,
            width=width,
            previous=None if previous is None else previous._matrix,
        )
    differentiable = torch.is_grad_enabled() and (embeddings.requires_grad or (tau is not None and tau.requires_grad))
    held = embeddings[valid] if matrix is None or differentiable else None  # [n, D], a copy
    return Transition(valid, number, matrix=matrix, embeddings=held, temperature_tensor=tau)


def _check_map_shape(shape: tuple[int, int], pixels: int) -> None:
    if not isinstance(shape, (tuple, list)) or len(shape) != 2 or not all(isinstance(size, Integral) for size in shape):
        raise TypeError(f"shape: expected two integers (H, W), got {shape!r}")
    height, width = shape
    if height < 0 or width < 0 or height * width != pixels:
        raise ValueError(f"shape: expected (H, W) with H * W = {pixels} pixels, got {tuple(shape)}")
