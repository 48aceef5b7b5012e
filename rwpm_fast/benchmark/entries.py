"""All contenders: this package's walks, and what one would write with torch or take from a library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import baselines
from . import costs
from .cases import Case
from .contender import Contender, Cost
from .libraries import Search, cuvs_search, faiss_search, keops_walk
from .ours import backends, our_walk
from .reference import NEAREST, NEIGHBORS, RELEASED
from .torch_walks import (
    chunked,
    flex,
    in_float32,
    kept_walk,
    nearest,
    nearest_facts,
    released_walk,
    rounded_walk,
    rounding_facts,
    tuned,
)

# Key of the contender whose time is one, by the kind of a record.
UNITS = {"walk": "dense", "fps": "dense-released"}

# Of frames a second: what a walk with a tolerance may be off, whatever its certificate allows; the slack of the others'
# walks, here and of ``walk_entries`` in 16 bits; and what nearest neighbors may be off, of which rounding picks some.
TOLERANT = 1e-3
SLACK = 10.0
NEIGHBORS_BOUND = 1e-2

# What walks in bfloat16 are expected to be off at most: at tau = 0.01 and T = 20 they are by 5e-3 to 2e-2.
BFLOAT16_ERROR = 5e-2


def on_float32(key: str, label: str, walk: Callable[..., Tensor], work: Cost, memory: Cost, **facts: Any) -> Contender:
    """A contender that walks each sub-map in float32: a function of embeddings [P, D], values [P, C] and settings, as
    those of :mod:`rwpm_fast.baselines`."""
    return Contender(key, label, partial(in_float32, walk=walk), work, memory, **facts)


def baseline_walks() -> list[Contender]:
    """What torch alone gives: the matrix once, or a slab of it at a time."""
    flushed = partial(baselines.dense_walk, flush=True)
    kept = costs.flops_dense, costs.bytes_matrix
    return [
        on_float32("dense", "dense torch, subnormals flushed", flushed, *kept),
        on_float32("dense-unflushed", "dense torch", baselines.dense_walk, *kept, opt_in=True),
        Contender("chunked", "chunked torch", chunked, costs.flops_streamed, costs.bytes_slab),
    ]


def bfloat16_walks() -> list[Contender]:
    """What an expert would try on a processor with bfloat16 units: dense torch, faster and less accurate. Their share
    of the float32 peak would say nothing."""
    facts = {"exact": False, "expected_error": BFLOAT16_ERROR}
    in_16_bits = partial(kept_walk, kept=torch.bfloat16)
    return [
        on_float32(
            "dense-bf16-products",
            'dense torch, fp32_precision = "bf16"',
            rounded_walk,
            costs.flops_dense,
            costs.bytes_matrix,
            facts=rounding_facts,
            **facts,
        ),
        on_float32(
            "dense-bf16-matrix",
            "dense torch, S in bfloat16",
            in_16_bits,
            costs.flops_dense,
            costs.bytes_matrix_bfloat16,
            **facts,
        ),
    ]


def library_walks() -> list[Contender]:
    """What a library gives, whether it is there or not: that shows when it is prepared."""
    tuned_flex = partial(flex, mode="max-autotune-no-cudagraphs")
    streamed = costs.flops_streamed, costs.bytes_slab
    return [
        Contender("flex", "FlexAttention, q_idx != kv_idx", flex, *streamed),
        Contender("flex-autotuned", "FlexAttention, autotuned", tuned_flex, *streamed, opt_in=True),
        _nearest("knn-torch", "torch top-k", None),
        _nearest("knn-faiss", "faiss", faiss_search),
        _nearest("knn-cuvs", "cuVS", cuvs_search),
        on_float32("keops", "KeOps, float32", keops_walk, costs.flops_streamed, costs.bytes_states, opt_in=True),
    ]


def _nearest(key: str, label: str, search: Callable[[], Search] | None) -> Contender:
    return Contender(
        key,
        f"{NEIGHBORS} nearest by {label}",
        partial(nearest, search=search),
        costs.flops_pairs,
        costs.bytes_knn,
        operator=NEAREST,
        exact=False,
        facts=nearest_facts,
    )


def walk_entries(case: Case, tolerances: Iterable[float], isas: Iterable[str] | None = None) -> list[Contender]:
    """The contenders of ``rwpm-fast bench``: ours and torch's.

    Args:
        case: whose device and dtype the backends must serve.
        tolerances: of our walks, in addition to the exact one.
        isas: instruction sets of our walks on the CPU; None for every backend that serves.
    """
    kernels = backends(case) if isas is None else list(isas)
    slack = SLACK if case.dtype == "float16" else 1.0
    ours = [our_walk(k, tolerance) for tolerance in (0.0, *tolerances) for k in kernels]
    in_bfloat16 = bfloat16_walks() if torch.device(case.device).type == "cpu" else []
    return ours + [replace(walk, slack=slack) for walk in baseline_walks()] + in_bfloat16


def fps_entries(case: Case, tolerances: Iterable[float]) -> list[Contender]:
    """The contenders of ``rwpm-fast bench fps``: ours by every backend that serves, also as CUDA graphs, and
    :func:`fps_peers`."""
    ours = []
    for backend in backends(case):
        for tolerance in (0.0, *tolerances):
            bound = TOLERANT if tolerance else None
            ours.append(our_walk(backend, tolerance, bound=bound))
            if backend != "cpu":
                ours.append(our_walk(backend, tolerance, captured=True, bound=bound))
    return ours + fps_peers()


def fps_peers() -> list[Contender]:
    """The others of ``rwpm-fast bench fps``. They get the sub-maps cut, pixel by pixel."""
    released = on_float32(
        "dense-released",
        "dense torch as released: float32, T + 1",
        released_walk,
        costs.flops_released,
        costs.bytes_released,
        operator=RELEASED,
    )
    best = Contender("dense-tuned", "dense torch tuned: S kept, addmm", tuned, costs.flops_dense, costs.bytes_matrix)
    slab_by_slab = next(c for c in baseline_walks() if c.key == "chunked")
    return [
        replace(c, bound=NEIGHBORS_BOUND) if c.operator == NEAREST else replace(c, slack=SLACK)
        for c in (released, best, slab_by_slab, *library_walks())
    ]
