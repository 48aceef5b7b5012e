"""What a user would pick instead, written as its documentation shows it; see :mod:`rwpm_fast.benchmark.libraries`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from rwpm_fast import baselines
from rwpm_fast.benchmark import Case, Contender, Problem, Unavailable
from rwpm_fast.benchmark.contender import (
    Run,
    baseline,
    graph,
    kept_pairs,
    matrix,
    once,
    paired,
    slab,
    sparse,
    streamed,
    streaming,
)
from rwpm_fast.benchmark.libraries import faiss_search, flex_attention_of, keops_walk
from rwpm_fast.benchmark.reference import CUT, NEAREST, NEIGHBORS, PARTS, RELEASED, cut

warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")


def peers() -> list[Contender]:
    """Every peer, whether it can run here or not: that shows when it is prepared."""
    released = partial(baselines.dense_walk, released=True)
    flushed = partial(baselines.dense_walk, released=True, flush=True)
    facts = {"operator": RELEASED, "work": _released_work, "memory": matrix}
    return [
        baseline("released", "dense torch, T + 1 transitions, subnormals flushed", flushed, **facts),
        baseline("released-unflushed", "dense torch, T + 1 transitions", released, **facts, asked=True),
        Contender(
            "cut", "dense torch on 2 x 2 sub-maps, subnormals flushed", _cut, _cut_work, _cut_memory, operator=CUT
        ),
        Contender("sdpa", "scaled_dot_product_attention, masked", _sdpa, streamed, slab),
        Contender("flex", "FlexAttention, q_idx != kv_idx", _flex, streamed, streaming),
        Contender("keops", "KeOps", _keops, streamed, streaming),
        _nearest("knn-torch", "50 nearest by torch top-k", _knn_torch, slab),
        _nearest("knn-faiss", "50 nearest by faiss", _knn_faiss, streaming),
        _csr(1e-3),
        _csr(1e-4),
    ]


def _released_work(case: Case) -> float:
    return 2 * case.pixels**2 * (case.channels + case.value_channels * (case.steps + 1))


def _cut_work(case: Case) -> float:
    return once(case) / PARTS**2


def _cut_memory(case: Case) -> float:
    return matrix(case) / PARTS**4


def _cut(problem: Problem) -> Run:
    if min(problem.case.height, problem.case.width) < 2 * PARTS:
        raise Unavailable(f"a map of {problem.case.height}x{problem.case.width} is too small to cut")
    return lambda: cut(partial(baselines.dense_walk, **problem.settings, flush=True), problem)


def _iterated(problem: Problem, transition: Callable[[Tensor], Tensor]) -> Tensor:
    return baselines.iterate(transition, problem.values, problem.case.alpha, problem.case.steps)


def _sdpa(problem: Problem) -> Run:
    """The CPU's flash kernel takes one head size for keys and values, so the narrower is padded with zeros; queries go
    in slabs, so that the mask is no N x N tensor."""
    n, tau = problem.case.pixels, problem.case.temperature
    width = max(problem.case.channels, problem.case.value_channels)
    rows = max(1, baselines.SLAB // n)

    def run() -> Tensor:
        q = F.normalize(problem.embeddings, dim=-1, eps=1e-12)
        q = F.pad(q, (0, width - q.shape[1]))[None, None]  # [1, 1, N, width]
        mask = q.new_zeros(min(rows, n), n)

        def transition(m: Tensor) -> Tensor:
            v = F.pad(m, (0, width - m.shape[1]))[None, None]
            moved = []
            for begin in range(0, n, rows):
                some = q[:, :, begin : begin + rows]
                bias = mask[: some.shape[2]]
                own = bias[:, begin:].diagonal()
                own.fill_(-torch.inf)
                moved.append(F.scaled_dot_product_attention(some, q, v, attn_mask=bias, scale=1 / tau)[0, 0])
                own.zero_()
            return torch.cat(moved)[:, : m.shape[1]]

        return _iterated(problem, transition)

    return run


def _flex(problem: Problem) -> Run:
    """Compiled for these sizes, outside the time; the block mask depends on N alone."""
    try:
        attention = flex_attention_of(problem.case.pixels, problem.embeddings.device)

        def walk(steps: int) -> Tensor:
            q = F.normalize(problem.embeddings, dim=-1, eps=1e-12)[None, None]  # [1, 1, N, D]
            scale = 1 / problem.case.temperature

            def transition(m: Tensor) -> Tensor:
                return attention(q, q, m[None, None], scale=scale)[0, 0]

            return baselines.iterate(transition, problem.values, problem.case.alpha, steps)

        walk(1)
    except RuntimeError as error:
        raise Unavailable(f"FlexAttention does not compile here: {str(error).strip().splitlines()[0]}") from error
    return lambda: walk(problem.case.steps)


def _keops(problem: Problem) -> Run:
    return lambda: keops_walk(problem.embeddings, problem.values, **problem.settings)


def _nearest_pairs(problem: Problem) -> int:
    return problem.case.pixels * NEIGHBORS


def _nearest(key: str, label: str, prepare: Callable[[Problem], Run], memory: Callable[[Case], float]) -> Contender:
    facts = {"operator": NEAREST, "exact": False, "pairs": _nearest_pairs}
    return Contender(key, label, prepare, paired, memory, **facts)


def _knn(problem: Problem, search: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> Run:
    if problem.case.pixels <= NEIGHBORS:
        raise Unavailable(f"{NEIGHBORS} nearest neighbors need more than {problem.case.pixels} pixels")
    settings = {**problem.settings, "neighbors": NEIGHBORS, "search": search}
    return lambda: baselines.knn_walk(problem.embeddings, problem.values, **settings)


def _knn_torch(problem: Problem) -> Run:
    return _knn(problem, baselines.nearest)


def _knn_faiss(problem: Problem) -> Run:
    return _knn(problem, faiss_search())


def _csr(tolerance: float) -> Contender:
    label = f"torch.sparse_csr of our pairs, tolerance {tolerance:g}"
    facts = {"tolerance": tolerance, "exact": False, "pairs": partial(kept_pairs, tolerance=tolerance)}
    return Contender(f"csr-{tolerance:g}", label, partial(_csr_walk, tolerance=tolerance), paired, sparse, **facts)


def _csr_walk(problem: Problem, tolerance: float) -> Run:
    def run() -> Tensor:
        S = graph(problem, tolerance).to_csr()
        return _iterated(problem, lambda m: S @ m)

    try:
        graph(problem, tolerance).to_csr()
    except ValueError as error:
        raise Unavailable(f"there is no sparse matrix of this graph: {error}") from error
    return run
