"""The walk as one would write it with torch: all pairs, also in bfloat16, its FlexAttention, graphs of nearest
neighbors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import baselines
from ..ops.torch_version import too_old
from ..products import can_round, products_are_rounded, rounded_products
from .cases import Problem
from .contender import Facts, Run, Unavailable
from .libraries import Search, flex_attention_of
from .reference import NEIGHBORS

OLDEST_MIXED_PRODUCT = (2, 8)  # torch.mm writes another dtype than it reads, on GPUs


def released_walk(embeddings: Tensor, values: Tensor, *, alpha: float, steps: int, temperature: float) -> Tensor:
    """As the released code: all of the matrix at once, multiplied by alpha in every step, T + 1 transitions."""
    q = F.normalize(embeddings, dim=-1, eps=1e-12)
    S = torch.softmax((q @ q.T).fill_diagonal_(-torch.inf).div_(temperature), dim=-1)
    m = values
    for _ in range(steps + 1):
        m = (alpha * S) @ m + (1 - alpha) * values
    return m


def kept_walk(
    embeddings: Tensor,
    values: Tensor,
    *,
    alpha: float,
    steps: int,
    temperature: float,
    kept: torch.dtype = torch.float32,
) -> Tensor:
    """As :func:`rwpm_fast.baselines.dense_walk` with subnormals flushed, at the precision of products that is set.

    Args:
        kept: dtype of the matrix, and of the values in its products; all else is float32.
    """
    q = F.normalize(embeddings, dim=-1, eps=1e-12)
    queries, S = q / temperature, q.new_empty(len(q), len(q), dtype=kept)
    for block in blocks(len(q)):
        S[block] = F.threshold(_rows(queries, q, block), torch.finfo(q.dtype).tiny, 0)
    return baselines.iterate(lambda m: (S @ m.to(kept)).to(q.dtype), values, alpha, steps)


def rounded_walk(embeddings: Tensor, values: Tensor, **settings: Any) -> Tensor:
    """:func:`kept_walk` with products of float32 in bfloat16 where the processor can: all that a user has to set."""
    if not can_round():
        raise Unavailable(f"torch {torch.__version__} has no precision switch for the CPU alone, 2.9 has")
    with rounded_products():
        return kept_walk(embeddings, values, **settings)


def rounding_facts(problem: Problem) -> Facts:
    """Whether :func:`rounded_walk` rounds anything here."""
    with rounded_products():
        rounds = products_are_rounded()
    return Facts(note=None if rounds else "this processor multiplies float32 in float32 at every setting")


def in_float32(problem: Problem, walk: Callable[..., Tensor]) -> Run:
    """A walk of each sub-map by itself, converted to float32 outside the time.

    Args:
        walk: embeddings [P, D], values [P, C] and the settings alpha, steps, temperature to walked values [P, C].
    """
    problem, settings = problem.to(torch.float32), problem.settings
    return lambda: problem.each(partial(walk, **settings))


def _queries(problem: Problem) -> tuple[Tensor, Tensor]:
    """Unit embeddings [B, P, D] in the problem's dtype, and divided by the temperature: made in float32, so that the
    products are the logits."""
    unit = F.normalize(problem.embeddings.float(), dim=-1, eps=1e-12)
    dtype = problem.embeddings.dtype
    return (unit / problem.case.settings.temperature).to(dtype), unit.to(dtype)


def logits_of(queries: Tensor, keys: Tensor) -> Tensor:
    """Products [R, P] in float32, which at logits of 100 they must be."""
    if queries.dtype == torch.float32:
        return queries @ keys.T
    if queries.is_cuda and too_old(OLDEST_MIXED_PRODUCT) is None:
        return torch.mm(queries, keys.T, out_dtype=torch.float32)
    return queries.float() @ keys.float().T


def _rows(queries: Tensor, keys: Tensor, block: slice) -> Tensor:
    """Rows [R, P] of a sub-map's matrix, in the queries' dtype."""
    x = logits_of(queries[block], keys)
    x[:, block.start :].fill_diagonal_(-torch.inf)
    return torch.softmax(x, dim=-1).to(queries.dtype)


def blocks(pixels: int) -> list[slice]:
    """Rows of a sub-map's matrix, a slab at a time."""
    rows = max(1, baselines.SLAB // pixels)
    return [slice(begin, min(begin + rows, pixels)) for begin in range(0, pixels, rows)]


def tuned(problem: Problem) -> Run:
    """Dense torch by someone who knows it: S made once in slabs, kept in the frame's dtype, all sub-maps in one fused
    product a step."""
    case = problem.case

    def run() -> Tensor:
        queries, keys = _queries(problem)
        S = keys.new_empty(case.parts**2, case.part_pixels, case.part_pixels)
        for part in range(len(S)):
            for block in blocks(case.part_pixels):
                S[part, block] = _rows(queries[part], keys[part], block)
        rest = (1 - case.settings.alpha) * problem.values
        m = problem.values
        for _ in range(case.steps):
            m = torch.baddbmm(rest, S, m, alpha=case.settings.alpha)
        return m

    return run


def chunked(problem: Problem) -> Run:
    """The same where the matrix does not fit: a slab of it at a time, made again at every step."""
    case = problem.case

    def run() -> Tensor:
        queries, keys = _queries(problem)
        rest = (1 - case.settings.alpha) * problem.values
        m = problem.values
        for _ in range(case.steps):
            moved = torch.empty_like(m)
            for part in range(len(m)):
                for block in blocks(case.part_pixels):
                    weights = _rows(queries[part], keys[part], block)
                    torch.addmm(rest[part, block], weights, m[part], alpha=case.settings.alpha, out=moved[part, block])
            m = moved
        return m

    return run


def flex(problem: Problem, mode: str | None = None) -> Run:
    """All sub-maps in one batch; compiled for these sizes, outside the time."""
    case = problem.case
    if problem.embeddings.is_cuda and case.dtype != "float16":
        raise Unavailable("FlexAttention is timed in float16")
    # Its kernels take no fewer channels than 16.
    padding = max(0, 16 - case.channels), max(0, 16 - case.value_channels)
    try:
        attention = flex_attention_of(case.part_pixels, problem.embeddings.device, mode)

        def walk(steps: int) -> Tensor:
            unit = F.normalize(problem.embeddings.float(), dim=-1, eps=1e-12).to(problem.embeddings.dtype)
            q = F.pad(unit, (0, padding[0]))[:, None]  # [B, 1, P, D]
            start = F.pad(problem.values, (0, padding[1]))[:, None]
            walked = baselines.iterate(
                lambda m: attention(q, q, m, scale=1 / case.settings.temperature), start, case.settings.alpha, steps
            )
            return walked[:, 0, :, : case.value_channels]

        walk(1)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Unavailable(f"FlexAttention does not compile here: {str(error).strip().splitlines()[0]}") from error
    return lambda: walk(case.steps)


def topk(dtype: torch.dtype, q: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Cosines and indices [N, k] by products of a dtype, slab by slab; q: [N, D]."""
    keys = q.to(dtype)
    found = []
    for block in blocks(len(q)):
        x = logits_of(keys[block], keys)
        x[:, block.start :].fill_diagonal_(-torch.inf)
        found.append(x.topk(neighbors, dim=-1))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def nearest(problem: Problem, search: Callable[[], Search] | None = None) -> Run:
    """The walk on nearest neighbors, found by a library's search, or where None by :func:`topk` in the case's dtype."""
    if problem.case.part_pixels <= NEIGHBORS:
        raise Unavailable(f"{NEIGHBORS} nearest neighbors need more than {problem.case.part_pixels} pixels")
    by = partial(topk, problem.embeddings.dtype) if search is None else search()
    return in_float32(problem, partial(baselines.knn_walk, neighbors=NEIGHBORS, search=by))


def nearest_facts(problem: Problem) -> Facts:
    return Facts(problem.case.pixels * NEIGHBORS)
