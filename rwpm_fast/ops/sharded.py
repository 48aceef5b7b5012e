"""``rwpm_fast.walk_sharded``: a walk whose pixels are shared by the ranks of a process group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..products import exact_products
from ..reference import valid_pixels
from .anchor import iterate, own_weights
from .csr import csr_matrix
from .ranks import Ranks
from .settings import DEFAULTS, WalkSettings
from .streamed_graph import StreamedGraph, unit_rows
from .validation import check_inputs

# A row first keeps the pairs whose share of its mass is at least tolerance / max(MIN_KEPT, N * KEEP_FRACTION); the
# measurements behind them are in csrc/cpu/build_sparse.cpp.
MIN_KEPT, KEEP_FRACTION = 100, 1 / 40

# Of a rank's rows: pairs beyond which they stream. A pair takes eight bytes: 1 GiB.
MAX_ENTRIES = 2**27
MAX_DENSITY = 1 / 4

ROUNDING = 1e-5  # of sums in float32, at most


@exact_products
def walk_sharded(
    embeddings: Tensor,
    values: Tensor | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
) -> Tensor:
    """Walk values whose pixels are shared by several processes, for frames that outgrow one device.

    The graph is that of the pixels of all ranks, as if :func:`rwpm_fast.walk` got them one after the other; the result
    is the same within rounding. Every rank passes its own pixels, as many as it likes, and gets them back walked. It
    makes and keeps their rows of the transition matrix, which never leave it; from the others it gets the embeddings
    once, and the values in every transition. Of N pixels with n of its own that takes ``8 N (D + C)`` bytes and 64 MiB
    of weights at a time, with a tolerance, as by default, four times as much and 8 bytes for every pair that its rows
    keep, up to 1 GiB, beyond which they stream; and ``n N (D + C)`` multiply-adds a transition where they do.

    It runs in plain torch, on any device whose tensors the group's backend exchanges; float32 products on a GPU are as
    exact as ``torch.backends.cuda.matmul`` has them. A frame that one process can walk is faster there: the compiled
    kernels take a fifth of the time of two ranks on the CPU, and a tenth with a tolerance.

    All ranks call it, with the same settings; where one finds an error, all of them raise it.

    Example::

        torch.distributed.init_process_group("nccl")  # torchrun --nproc-per-node 4 ...
        rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
        mine = embedding_map.flatten(1).T.tensor_split(count)[rank].to(f"cuda:{rank}")  # [n, D]
        walked = rwpm_fast.walk_sharded(mine)

    Args:
        embeddings: [n, D] of this rank's pixels, float32, float64, float16 or bfloat16, any strides; n may differ
            between the ranks and be 0, D and dtype may not.
        values: [n, C], walked on the graph of the embeddings; the embeddings themselves when None.
        group: process group whose ranks share the pixels; torch's default group when None.
        mask: [n] bool, True = valid; all when None.
        alpha: see :func:`rwpm_fast.walk`, as the settings below.
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk. Above 0 a rank keeps the pairs that
            matter as a sparse matrix, which it finds in one pass over its rows, if they are few; the error is bounded
            as there. float64 streams.
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor.
        anchor_share: share of the pixels of all ranks to anchor, in [0, 1]; 0: by ``anchor``.

    Returns:
        Walked values [n, C] of this rank's pixels, contiguous, in the values' dtype; computed in float64 when either
        input is float64, in float32 otherwise.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes, devices or settings that do not fit, or that differ between the ranks; a device that the
            group's backend does not serve, as the CPU's with NCCL; a group of other processes.
        NotImplementedError: an input requires a gradient.
        RuntimeError: no process group is initialized.
        ConnectionError: another rank went away.
    """
    ranks = Ranks(group)

    def check() -> tuple[_Part, Mapping[str, Any]]:
        settings = WalkSettings(alpha, steps, temperature, tolerance, anchor=anchor, anchor_share=anchor_share)
        check_inputs(embeddings, values, mask)
        ranks.check_device(embeddings.device)
        part = _Part.checked(embeddings, values, mask, settings)
        return part, part.facts()

    # NCCL exchanges what is no tensor on the current GPU.
    with torch.cuda.device_of(embeddings) if isinstance(embeddings, Tensor) else nullcontext():
        part, facts = ranks.agree(check)
        _check_same(facts)
        with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
            return _walk(part, ranks, [of_rank["pixels"] for of_rank in facts])


@dataclass(frozen=True)
class _Part:
    """What a rank passes.

    Attributes:
        embeddings: [n, D].
        values: [n, C].
        valid: index of the pixels that belong to the graph.
        settings: of the walk.
    """

    embeddings: Tensor
    values: Tensor
    valid: Tensor
    settings: WalkSettings

    @classmethod
    def checked(cls, embeddings: Tensor, values: Tensor | None, mask: Tensor | None, settings: WalkSettings) -> _Part:
        if embeddings.dim() != 2:
            raise ValueError(
                f"embeddings: expected shape [N, D], got {list(embeddings.shape)}; call it for each entry of a batch"
            )
        if embeddings.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("embeddings: walk_sharded() gives no gradient; pass embeddings.detach()")
        values = embeddings if values is None else values
        if values.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("values: walk_sharded() gives no gradient; pass values.detach()")
        return cls(embeddings, values, valid_pixels(embeddings, values, mask).nonzero().squeeze(-1), settings)

    def facts(self) -> Mapping[str, Any]:
        """What the other ranks have to know; "pixels" may differ."""
        return {
            "pixels": len(self.valid),
            **self.settings.operator_kwargs(),
            "embeddings: channels": self.embeddings.shape[1],
            "embeddings: dtype": str(self.embeddings.dtype),
            "embeddings: kind of device": self.embeddings.device.type,
            "values: channels": self.values.shape[1],
            "values: dtype": str(self.values.dtype),
        }


def _check_same(facts: Sequence[Mapping[str, Any]]) -> None:
    """Check that all ranks do the same; see :meth:`_Part.facts`."""
    for name, first in facts[0].items():
        for rank, of_rank in enumerate(facts):
            if name != "pixels" and of_rank[name] != first:
                argument, _, what = name.partition(": ")
                raise ValueError(
                    f"{argument}: expected the same {what or 'setting'} on all ranks, got {first} on rank 0 and "
                    f"{of_rank[name]} on rank {rank}"
                )


def _walk(part: _Part, ranks: Ranks, sizes: Sequence[int]) -> Tensor:
    """Walk this rank's values, [n, C].

    Args:
        part: what this rank passed.
        ranks: that share the graph.
        sizes: pixels of the graph of every rank.
    """
    settings, values = part.settings, part.values
    result = values.clone(memory_format=torch.contiguous_format)
    if settings.steps == 0 or settings.alpha == 0 or sum(sizes) < 2 or values.shape[1] == 0:
        return result
    dtype = torch.promote_types(torch.promote_types(part.embeddings.dtype, values.dtype), torch.float32)
    unit = ranks.gather_rows(unit_rows(part.embeddings[part.valid].to(dtype)), sizes)
    first = sum(sizes[: ranks.rank])
    rows = slice(first, first + sizes[ranks.rank])
    sparse = None
    if settings.tolerance > 0 and dtype != torch.float64:
        sparse = _SparseRows(sizes[ranks.rank], len(unit), settings.tolerance)
    graph = StreamedGraph(unit, settings.temperature, rows=rows, on_weights=None if sparse is None else sparse.add)
    log_sum = graph.log_sum()
    own_weight = own_weights(ranks.gather_rows(log_sum[:, None], sizes).squeeze(-1), **settings.anchor_kwargs())
    multiply: Callable[[Tensor], Tensor] = graph.multiply
    if sparse is not None and (matrix := sparse.matrix()) is not None:
        del graph, unit  # they are not needed any more, and large
        multiply = matrix.matmul
    walked = iterate(
        lambda m: multiply(ranks.gather_rows(m, sizes)),
        values[part.valid].to(dtype),
        alpha=settings.alpha,
        steps=settings.steps,
        own_weight=None if own_weight is None else own_weight[rows],
    )
    result[part.valid] = walked.to(values.dtype)
    return result


def _selected(weights: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What rows keep of their weights [r, n]: numbers [r], columns and weights [kept] row by row, and sums [r, 1]."""
    row, column = keep.nonzero(as_tuple=True)
    counts, kept = keep.sum(-1), weights[row, column]
    return counts, column, kept, torch.segment_reduce(kept, "sum", lengths=counts)[:, None]


class _SparseRows:
    """The pairs that rows of S keep of their mass, found a slab of rows at a time."""

    def __init__(self, rows: int, pixels: int, tolerance: float) -> None:
        """
        Args:
            rows: how many there are.
            pixels: n of the graph, the width of a row.
            tolerance: mass that a row may drop, in (0, 1).
        """
        self._pixels, self._tolerance = pixels, tolerance
        self._slabs: list[tuple[Tensor, Tensor, Tensor]] = []  # pairs of each row, columns, weights
        self._entries, self._max_entries = 0, min(MAX_ENTRIES, MAX_DENSITY * rows * pixels)

    def add(self, weights: Tensor, sums: Tensor) -> None:
        """Add the next rows; nothing any more where the pairs are too many.

        Args:
            weights: [r, n], in proportion to those of S, and no more than 1.
            sums: [r, 1] of the rows.
        """
        if self._is_full():
            return
        keep = weights >= self._tolerance / max(MIN_KEPT, self._pixels * KEEP_FRACTION) * sums
        counts, column, kept, kept_sums = _selected(weights, keep)
        over = (sums - kept_sums > (self._tolerance - ROUNDING) * sums).squeeze(-1)
        if over.any():
            # Where many small pairs add up to more, none of those that go has more than its share of the tolerance. It
            # is less than 1 / n, so that a row keeps its largest.
            keep[over] = weights[over] >= (1 - ROUNDING) * self._tolerance / self._pixels * sums[over]
            counts, column, kept, kept_sums = _selected(weights, keep)
        self._entries += len(kept)
        self._slabs.append((counts, column.to(torch.int32), kept / kept_sums.squeeze(-1).repeat_interleave(counts)))
        if self._is_full():
            self._slabs.clear()

    def _is_full(self) -> bool:
        return self._entries > self._max_entries

    def matrix(self) -> Tensor | None:
        """Make the matrix of the rows that were added: sparse CSR [r, n]; None where its pairs are too many, or there
        are no rows."""
        if self._is_full() or not self._slabs:
            return None
        counts, columns, weights = (torch.cat(parts) for parts in zip(*self._slabs, strict=True))
        self._slabs.clear()
        crow = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        return csr_matrix(crow, columns, weights, self._pixels)
