"""What a user would pick instead on the CPU: the released code, scaled_dot_product_attention, what
:mod:`rwpm_fast.benchmark.entries` takes from libraries, and other walks on the pairs that ours keeps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

import rwpm_fast
from rwpm_fast import baselines
from rwpm_fast.benchmark import Case, Contender, Facts, Problem, Unavailable, costs
from rwpm_fast.benchmark.contender import Run
from rwpm_fast.benchmark.entries import library_walks, on_float32
from rwpm_fast.benchmark.libraries import appnp
from rwpm_fast.benchmark.reference import CUT, CUT_PARTS, RELEASED, cut
from rwpm_fast.benchmark.torch_walks import in_float32

warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")

OF_GPUS = ("flex-autotuned", "knn-cuvs")
TOLERANCES = (1e-3, 1e-4)  # of our pairs that others walk on


def peers() -> list[Contender]:
    """Every peer, whether it can run here or not: that shows when it is prepared."""
    released = partial(baselines.dense_walk, released=True)
    flushed = partial(baselines.dense_walk, released=True, flush=True)
    one_more = partial(on_float32, work=costs.flops_released, memory=costs.bytes_matrix, operator=RELEASED)
    in_four = "dense torch on 2 x 2 sub-maps, subnormals flushed"
    return [
        one_more("released", "dense torch, T + 1 transitions, subnormals flushed", flushed),
        one_more("released-unflushed", "dense torch, T + 1 transitions", released, opt_in=True),
        Contender("cut", in_four, _cut, _cut_work, _cut_memory, operator=CUT),
        on_float32("sdpa", "scaled_dot_product_attention, masked", _sdpa, costs.flops_streamed, costs.bytes_slab),
        *(replace(walk, opt_in=False) for walk in library_walks() if walk.key not in OF_GPUS),
        *(_on_csr("csr", "torch.sparse_csr", _iterate, tolerance) for tolerance in TOLERANCES),
        *(_on_csr("appnp", "torch_geometric's APPNP", appnp, tolerance) for tolerance in TOLERANCES),
    ]


def _cut_work(case: Case) -> float:
    return costs.flops_dense(case) / CUT_PARTS**2


def _cut_memory(case: Case) -> float:
    return costs.bytes_matrix(case) / CUT_PARTS**4


def _cut(problem: Problem) -> Run:
    case = problem.case
    if case.parts > 1 or min(case.height, case.width) < 2 * CUT_PARTS:
        raise Unavailable(f"a map of {case.height}x{case.width} in {case.parts} x {case.parts} is too small to cut")
    walk = partial(baselines.dense_walk, **problem.settings, flush=True)
    problem = problem.to(torch.float32)
    return lambda: cut(walk, problem)


def _sdpa(embeddings: Tensor, values: Tensor, *, alpha: float, steps: int, temperature: float) -> Tensor:
    """The CPU's flash kernel takes one head size for keys and values, so the narrower is padded with zeros; queries go
    in slabs, so that the mask is no N x N tensor."""
    n, width = len(embeddings), max(embeddings.shape[1], values.shape[1])
    rows = max(1, baselines.SLAB // n)
    q = F.normalize(embeddings, dim=-1, eps=1e-12)
    q = F.pad(q, (0, width - q.shape[1]))[None, None]  # [1, 1, N, width]
    mask = q.new_zeros(min(rows, n), n)

    def transition(m: Tensor) -> Tensor:
        v = F.pad(m, (0, width - m.shape[1]))[None, None]
        moved = []
        for begin in range(0, n, rows):
            some = q[:, :, begin : begin + rows]
            bias = mask[: some.shape[2]]
            itself = bias[:, begin:].diagonal()
            itself.fill_(-torch.inf)
            moved.append(F.scaled_dot_product_attention(some, q, v, attn_mask=bias, scale=1 / temperature)[0, 0])
            itself.zero_()
        return torch.cat(moved)[:, : m.shape[1]]

    return baselines.iterate(transition, values, alpha, steps)


def _iterate(S: Tensor, values: Tensor, *, alpha: float, steps: int) -> Tensor:
    return baselines.iterate(lambda m: S @ m, values, alpha, steps)


def _on_csr(key: str, label: str, walk: Callable[..., Tensor], tolerance: float) -> Contender:
    """A walk on the pairs that ours keeps, found by our kernels within the time.

    Args:
        walk: the matrix in CSR, values [P, C], alpha and steps to walked values [P, C].
    """
    return Contender(
        f"{key}-{tolerance:g}",
        f"{label} of our pairs, tolerance {tolerance:g}",
        partial(_csr_prepare, walk_csr=walk, tolerance=tolerance),
        costs.flops_pairs,
        costs.bytes_sparse,
        tolerance=tolerance,
        exact=False,
        facts=partial(_csr_facts, tolerance=tolerance),
    )


def _graphs(problem: Problem, tolerance: float) -> list[rwpm_fast.Transition]:
    temperature = problem.case.settings.temperature
    return [rwpm_fast.transition(e, temperature=temperature, tolerance=tolerance) for e in problem.embeddings]


def _csr_facts(problem: Problem, tolerance: float) -> Facts:
    graphs = _graphs(problem, tolerance)
    if any(graph.path != "sparse" for graph in graphs):
        return Facts()
    return Facts(int(sum(graph.kept_per_row.sum() for graph in graphs)))


def _csr_prepare(problem: Problem, walk_csr: Callable[..., Tensor], tolerance: float) -> Run:
    def walk(embeddings: Tensor, values: Tensor, *, alpha: float, steps: int, temperature: float) -> Tensor:
        S = rwpm_fast.transition(embeddings, temperature=temperature, tolerance=tolerance).to_csr()
        return walk_csr(S, values, alpha=alpha, steps=steps)

    try:
        for graph in _graphs(problem, tolerance):
            graph.to_csr()
    except ValueError as error:
        raise Unavailable(f"there is no sparse matrix of this graph: {error}") from error
    return in_float32(problem, walk)
