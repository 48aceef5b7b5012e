"""Other libraries' walks, written as their documentation shows it, for embeddings [N, D] on any device that they take.

Each raises :class:`Unavailable` where its library is not there. Self-affinity is masked in the kernel: taking it out of
a finished softmax would cancel everything, since at tau = 0.01 the pixel itself weighs e^100.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import baselines
from .contender import Unavailable

BLOCK = 128  # of FlexAttention's masks

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def _other(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return q_idx != kv_idx


def flex_attention_of(pixels: int, device: torch.device, mode: str | None = None) -> Callable[..., Tensor]:
    """FlexAttention compiled for so many pixels with a block mask that leaves the diagonal out; takes what
    ``flex_attention`` takes but the mask.

    Blocks off the diagonal are marked full, so that only those on it, and the last where it is not whole, are compared
    pixel by pixel: what ``create_block_mask`` finds with N x N numbers.
    """
    try:
        from torch.nn.attention.flex_attention import BlockMask, flex_attention
    except ImportError as error:
        raise Unavailable(f"torch {torch.__version__} has no FlexAttention") from error
    torch._dynamo.reset()  # else a sweep meets the limit of compilations, and what runs then is not the kernel
    blocks = -(-pixels // BLOCK)
    index = torch.arange(blocks, device=device)
    part = index[:, None] == index
    if pixels % BLOCK:
        part |= index == blocks - 1

    def chosen_first(chosen: Tensor) -> tuple[Tensor, Tensor]:  # counts [1, 1, blocks], columns in order
        counts = chosen.sum(-1, dtype=torch.int32)
        return counts[None, None], chosen.int().argsort(dim=-1, descending=True, stable=True).int()[None, None]

    mask = BlockMask.from_kv_blocks(
        *chosen_first(part), *chosen_first(~part), BLOCK_SIZE=BLOCK, mask_mod=_other, seq_lengths=(pixels, pixels)
    )
    attention = torch.compile(flex_attention, dynamic=False, fullgraph=True, mode=mode)
    return partial(attention, block_mask=mask)


def keops_walk(embeddings: Tensor, values: Tensor, *, alpha: float, steps: int, temperature: float) -> Tensor:
    """The symbolic matrix as KeOps' users write it, made again at every step. Its formula is compiled once for D, C."""
    # Its OpenMP is not torch's, and reads this when it is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it writes about CUDA and compiling
            from pykeops.torch import LazyTensor
    except ImportError as error:
        raise Unavailable("pykeops is not installed: pip install pykeops") from error
    q = F.normalize(embeddings, dim=-1, eps=1e-12)
    index = torch.arange(len(q), dtype=torch.float32, device=q.device)  # exact below 2^24
    logits = (LazyTensor(q[:, None]) | LazyTensor(q[None])) / temperature
    apart = (LazyTensor(index[:, None, None]) - LazyTensor(index[None, :, None])).abs()
    logits = (0.5 - apart).ifelse(-1e30, logits)
    with contextlib.redirect_stdout(sys.stderr):
        return baselines.iterate(
            lambda m: logits.sumsoftmaxweight(LazyTensor(m.contiguous()[None]), axis=1), values, alpha, steps
        )


def without_itself(cosines: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """k nearest of k + 1 found, [N, k + 1] nearest first: the pixel itself is among them, not always first, and not at
    all where enough others equal it."""
    itself = columns == torch.arange(len(columns), device=columns.device)[:, None]
    itself[:, -1] |= ~itself.any(1)
    shape = len(columns), columns.shape[1] - 1
    return cosines[~itself].view(shape), columns[~itself].view(shape)


def faiss_search() -> Search:
    """Exact search by faiss, on a GPU where q is on one and faiss is built for it."""
    try:
        import faiss
    except ImportError as error:
        raise Unavailable("faiss is not installed: pip install faiss-cpu, or faiss-gpu for a GPU") from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    on_gpu = hasattr(faiss, "StandardGpuResources")

    def search(q: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
        if not q.is_cuda:
            cosines, columns = faiss.knn(q.numpy(), q.numpy(), neighbors + 1, metric=faiss.METRIC_INNER_PRODUCT)
            return without_itself(torch.from_numpy(cosines), torch.from_numpy(columns))
        if not on_gpu:
            raise Unavailable("this faiss is built without GPUs: pip install faiss-gpu")
        from faiss.contrib import torch_utils  # noqa: F401, from now on faiss takes tensors

        resources = faiss.StandardGpuResources()
        return without_itself(*faiss.knn_gpu(resources, q, q, neighbors + 1, metric=faiss.METRIC_INNER_PRODUCT))

    return search


def appnp(S: Tensor, values: Tensor, *, alpha: float, steps: int) -> Tensor:
    """The walk on a matrix S [N, N] in CSR by PyTorch Geometric's layer of personalized propagation.

    Its ``alpha`` is the probability to restart. It takes a sparse matrix as it is, rows for where messages arrive, and
    would else normalize it and add self-loops.
    """
    try:
        from torch_geometric.nn import APPNP
    except ImportError as error:
        raise Unavailable("torch_geometric is not installed: pip install torch_geometric") from error
    return APPNP(K=steps, alpha=1 - alpha, normalize=False)(values, S)


def cuvs_search() -> Search:
    """Exact search by cuVS."""
    try:
        from cuvs.neighbors import brute_force  # type: ignore[import-not-found]
    except ImportError as error:
        raise Unavailable("cuvs is not installed: see docs.rapids.ai") from error

    def search(q: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
        index = brute_force.build(q, metric="inner_product")
        found = (torch.as_tensor(array, device=q.device) for array in brute_force.search(index, q, neighbors + 1))
        cosines, columns = found
        return without_itself(cosines, columns.long())

    return search
