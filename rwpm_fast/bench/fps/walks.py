"""Who walks in the FPS benchmark: this package's backends, and what one would write with torch or take from a library.

Problems are of sub-maps: embeddings [B, P, D] and values [B, P, C] in the frame's dtype, on its device. Ours gets the
whole map and cuts it within the time; the others get the sub-maps cut, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import baselines, ops
from ...maps import partition_edges, walk_blocks, walk_map
from ..cases import Problem
from ..contenders import Contender, Run, Unavailable
from ..libraries import Search, cuvs_search, faiss_search, flex_attention_of, keops_walk
from ..references import NEAREST, NEIGHBOURS, RELEASED
from .device import Captured
from .frames import Frame

# Norm-wise relative error: of an exact walk by dtype, and of a tolerance, whatever its certificate allows. Others are
# held to ten times that of an exact walk, and nearest neighbours, of which rounding picks some, to the last.
EXACT = {"float32": 1e-5, "float16": 1e-3}
TOLERANT = 1e-3
PEERS = 10.0
NEIGHBOURS_BOUND = 1e-2


@dataclass(frozen=True)
class Walker(Contender):
    """A contender of a frame.

    Args:
        share: of the bound of an exact walk in the frame's dtype, what it is held to; ``most`` in its place if given.
    """

    share: float = 1.0
    most: float | None = None

    def bound(self, case: Frame) -> float:
        return self.share * EXACT[case.dtype] if self.most is None else self.most


def _size(case: Frame) -> int:
    return 2 if case.dtype == "float16" else 4


def once(case: Frame) -> float:
    """Floating-point operations where the matrix is made once and kept."""
    return 2 * case.pairs * (case.channels + case.value_channels * case.steps)


def released_work(case: Frame) -> float:
    """The same of T + 1 transitions."""
    return 2 * case.pairs * (case.channels + case.value_channels * (case.steps + 1))


def streamed(case: Frame) -> float:
    """Floating-point operations where every step makes the weights anew."""
    return 2 * case.pairs * (case.channels + case.value_channels) * case.steps


def paired(case: Frame) -> float:
    """Floating-point operations of one look at all pairs."""
    return 2 * case.pairs * case.channels


def states(case: Frame) -> float:
    """Bytes of packed embeddings and some states, in 32 bits."""
    return 4 * case.pixels * (case.channels + 4 * case.value_channels)


def slab(case: Frame) -> float:
    """The same, and slabs of the matrix: cosines, weights, and those in 16 bits."""
    return 12 * min(baselines.SLAB, case.pairs) + states(case)


def matrix(case: Frame) -> float:
    """The same, and the matrix of every sub-map."""
    return _size(case) * case.pairs + slab(case)


def released_matrices(case: Frame) -> float:
    """Cosines, matrix and the matrix times alpha of one sub-map, in float32."""
    return 3 * 4 * case.part_pixels**2 + states(case)


def listed(case: Frame) -> float:
    """Bytes of the neighbours of every pixel with what found them."""
    return 2 * 12 * case.pixels * NEIGHBOURS + slab(case)


def sparse(case: Frame) -> float:
    """Bytes of our walk with a tolerance at most."""
    return 2**30 + states(case)


# Ours


def backends(frame: Frame) -> list[str]:
    """Backends of :func:`rwpm_fast.walk` that can walk such a frame here, but plain torch."""
    sample = torch.empty(1, 2, frame.channels, device=frame.device, dtype=getattr(torch, frame.dtype))
    found = []
    for backend in ops.BACKENDS:
        if backend in ("auto", "torch"):
            continue
        try:
            ops.walk(sample, backend=backend, steps=0)
            found.append(backend)
        except RuntimeError:
            continue
    return found


def _ours(problem: Problem, backend: str, tolerance: float, captured: bool) -> Run:
    """The map as a network gives it, [1, D, H, W], by :func:`rwpm_fast.walk_map`, which cuts it."""
    case = problem.case
    embeddings, values = case.as_map(problem.embeddings), case.as_map(problem.values)
    settings = {**problem.settings, "parts": case.parts, "tolerance": tolerance, "backend": backend}

    def run() -> Tensor:
        return walk_map(embeddings, values, **settings)

    if not captured:
        return run
    if not embeddings.is_cuda:
        raise Unavailable(f"CUDA graphs need a GPU, this is {embeddings.device}")
    return Captured(run)


def _facts(problem: Problem, backend: str, tolerance: float) -> dict[str, Any]:
    """What the same walks tell, cut and handed over as walk_map does it."""
    case, infos = problem.case, []

    def walk(embeddings: Tensor, values: Tensor, *, mask: None) -> Tensor:
        settings = {**problem.settings, "tolerance": tolerance, "backend": backend, "return_info": True}
        walked, told = ops.walk(embeddings, values, **settings)
        infos.extend(told)
        return walked

    edges = (partition_edges(side, case.parts) for side in (case.height, case.width))
    maps = case.as_map(problem.embeddings), case.as_map(problem.values)
    walk_blocks(walk, *maps, None, *edges, by_patches=backend != "cpu")
    paths = {info.path for info in infos}
    return {
        "path": " and ".join(sorted(paths)),
        "pairs": sum(info.kept for info in infos) if paths == {"sparse"} else None,
        "dropped": max(info.dropped_mass for info in infos),
    }


def _all_pairs(problem: Problem) -> int:
    return problem.case.pairs


def ours(backend: str, tolerance: float = 0.0, *, captured: bool = False) -> Walker:
    """This package's walk by a backend, exact or with a tolerance; ``captured``: as a CUDA graph."""
    kind = f"tolerance {tolerance:g}" if tolerance else "exact"
    bound = {"backend": backend, "tolerance": tolerance}
    return Walker(
        f"{kind.replace(' ', '-')}-{backend}" + ("-graph" if captured else ""),
        f"rwpm_fast, {kind}, {backend}" + (", CUDA graph" if captured else ""),
        partial(_ours, **bound, captured=captured),
        work=paired if tolerance else streamed,
        memory=sparse if tolerance else states,
        tolerance=tolerance,
        exact=not tolerance,
        pairs=None if captured or tolerance else _all_pairs,
        facts=partial(_facts, **bound) if tolerance and not captured else None,
        most=TOLERANT if tolerance else None,
    )


# Torch


def each(walk: Callable[..., Tensor], embeddings: Tensor, values: Tensor, **settings) -> Tensor:
    """``walk`` of every sub-map by itself, in float32: [B, P, C]."""
    return torch.stack([walk(e, v, **settings) for e, v in zip(embeddings, values, strict=True)])


def _released_walk(embeddings: Tensor, values: Tensor, *, alpha: float, steps: int, temperature: float) -> Tensor:
    """As the released code: all of the matrix at once, multiplied by alpha in every step, T + 1 transitions."""
    q = F.normalize(embeddings, dim=-1, eps=1e-12)
    S = torch.softmax((q @ q.T).fill_diagonal_(-torch.inf).div_(temperature), dim=-1)
    m = values
    for _ in range(steps + 1):
        m = (alpha * S) @ m + (1 - alpha) * values
    return m


def in_float32(problem: Problem, walk: Callable[..., Tensor]) -> Run:
    """A walk of each sub-map, converted outside the time."""
    embeddings, values = problem.embeddings.float(), problem.values.float()
    return lambda: each(walk, embeddings, values, **problem.settings)


def _queries(problem: Problem) -> tuple[Tensor, Tensor]:
    """Unit embeddings [B, P, D] in the problem's dtype, and divided by the temperature: made in float32, so that the
    products are the logits."""
    unit = F.normalize(problem.embeddings.float(), dim=-1, eps=1e-12)
    dtype = problem.embeddings.dtype
    return (unit / problem.case.temperature).to(dtype), unit.to(dtype)


def _logits(queries: Tensor, keys: Tensor) -> Tensor:
    """Products [R, P] in float32, which at logits of 100 they must be."""
    if queries.dtype == torch.float32:
        return queries @ keys.T
    if queries.is_cuda and _MIXED:
        return torch.mm(queries, keys.T, out_dtype=torch.float32)
    return queries.float() @ keys.float().T


# torch.mm writes another dtype than it reads from torch 2.8 on, on GPUs.
_MIXED = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 8)


def _rows(queries: Tensor, keys: Tensor, block: slice) -> Tensor:
    """Rows [R, P] of a sub-map's matrix, in the queries' dtype."""
    x = _logits(queries[block], keys)
    x[:, block.start :].fill_diagonal_(-torch.inf)
    return torch.softmax(x, dim=-1).to(queries.dtype)


def _blocks(pixels: int) -> list[slice]:
    rows = max(1, baselines.SLAB // pixels)
    return [slice(begin, min(begin + rows, pixels)) for begin in range(0, pixels, rows)]


def _tuned(problem: Problem) -> Run:
    """Dense torch by someone who knows it: S made once in slabs, kept in the frame's dtype, all sub-maps in one fused
    product a step."""
    case = problem.case

    def run() -> Tensor:
        queries, keys = _queries(problem)
        S = keys.new_empty(case.parts**2, case.part_pixels, case.part_pixels)
        for part in range(len(S)):
            for block in _blocks(case.part_pixels):
                S[part, block] = _rows(queries[part], keys[part], block)
        rest = (1 - case.alpha) * problem.values
        m = problem.values
        for _ in range(case.steps):
            m = torch.baddbmm(rest, S, m, alpha=case.alpha)
        return m

    return run


def _chunked(problem: Problem) -> Run:
    """The same where the matrix does not fit: a slab of it at a time, made anew at every step."""
    case = problem.case

    def run() -> Tensor:
        queries, keys = _queries(problem)
        rest = (1 - case.alpha) * problem.values
        m = problem.values
        for _ in range(case.steps):
            moved = torch.empty_like(m)
            for part in range(len(m)):
                for block in _blocks(case.part_pixels):
                    weights = _rows(queries[part], keys[part], block)
                    torch.addmm(rest[part, block], weights, m[part], alpha=case.alpha, out=moved[part, block])
            m = moved
        return m

    return run


def _flex(problem: Problem, mode: str | None = None) -> Run:
    """All sub-maps in one batch; compiled for these sizes, outside the time."""
    case = problem.case
    if case.dtype != "float16":
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
                lambda m: attention(q, q, m, scale=1 / case.temperature), start, case.alpha, steps
            )
            return walked[:, 0, :, : case.value_channels]

        walk(1)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Unavailable(f"FlexAttention does not compile here: {str(error).strip().splitlines()[0]}") from error
    return lambda: walk(case.steps)


# Graphs of nearest neighbours


def _nearest_pairs(problem: Problem) -> int:
    return problem.case.pixels * NEIGHBOURS


def topk(dtype: torch.dtype, q: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Cosines and indices [N, k] by products of a dtype, slab by slab; q: [N, D]."""
    keys = q.to(dtype)
    found = []
    for block in _blocks(len(q)):
        x = _logits(keys[block], keys)
        x[:, block.start :].fill_diagonal_(-torch.inf)
        found.append(x.topk(neighbours, dim=-1))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _nearest(problem: Problem, search: Callable[[], Search] | None) -> Run:
    if problem.case.part_pixels <= NEIGHBOURS:
        raise Unavailable(f"{NEIGHBOURS} nearest neighbours need more than {problem.case.part_pixels} pixels")
    by = partial(topk, problem.embeddings.dtype) if search is None else search()
    return in_float32(problem, partial(baselines.knn_walk, neighbours=NEIGHBOURS, search=by))


def _nearest_walker(key: str, label: str, search: Callable[[], Search] | None, **facts) -> Walker:
    prepare = partial(_nearest, search=search)
    about = {"operator": NEAREST, "exact": False, "pairs": _nearest_pairs, "most": NEIGHBOURS_BOUND}
    return Walker(key, f"{NEIGHBOURS} nearest by {label}", prepare, paired, listed, **about, **facts)


def peers() -> list[Walker]:
    """All but ours."""
    released = partial(in_float32, walk=_released_walk)
    keops = partial(in_float32, walk=keops_walk)
    tuned_flex = partial(_flex, mode="max-autotune-no-cudagraphs")
    return [
        Walker(
            "dense-released",
            "dense torch as released: float32, T + 1",
            released,
            released_work,
            released_matrices,
            operator=RELEASED,
            share=PEERS,
        ),
        Walker("dense-tuned", "dense torch tuned: S kept, addmm", _tuned, once, matrix, share=PEERS),
        Walker("chunked", "chunked torch", _chunked, streamed, slab, share=PEERS),
        Walker("flex", "FlexAttention, q_idx != kv_idx", _flex, streamed, slab, share=PEERS),
        Walker("flex-autotuned", "FlexAttention, autotuned", tuned_flex, streamed, slab, share=PEERS, asked=True),
        _nearest_walker("knn-torch", "torch top-k", None),
        _nearest_walker("knn-faiss", "faiss", faiss_search),
        _nearest_walker("knn-cuvs", "cuVS", cuvs_search),
        Walker("keops", "KeOps, float32", keops, streamed, states, share=PEERS, asked=True),
    ]


def walkers(frame: Frame, tolerances: list[float]) -> list[Walker]:
    """All that can be asked for on such a frame: ours by every backend that serves, and :func:`peers`."""
    made = []
    for backend in backends(frame):
        for tolerance in (0.0, *tolerances):
            made.append(ours(backend, tolerance))
            if backend != "cpu":
                made.append(ours(backend, tolerance, captured=True))
    return made + peers()
