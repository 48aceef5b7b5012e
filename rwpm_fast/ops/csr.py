"""Sparse CSR tensors without torch's notice that they are in beta."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def csr_matrix(crow: Tensor, columns: Tensor, weights: Tensor, width: int | None = None) -> Tensor:
    """Make a sparse matrix.

    Args:
        crow: [N + 1], first entry of each row, and the number of entries.
        columns: [entries], ascending in each row.
        weights: [entries].
        width: number of columns; N when None.

    Returns:
        Sparse CSR tensor [N, width].
    """
    shape = len(crow) - 1, len(crow) - 1 if width is None else width
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(crow, columns, weights, shape, check_invariants=False)


def csr_of_pairs(row: Tensor, column: Tensor, weight: Tensor, size: int) -> Tensor:
    """Make a square sparse matrix of its entries in any order.

    Args:
        row: [entries] int64.
        column: [entries] int64.
        weight: [entries].
        size: N.

    Returns:
        Sparse CSR tensor [N, N] with int32 indices, which are faster than int64 ones.
    """
    order = (row * size + column).argsort()
    crow = torch.nn.functional.pad(row.bincount(minlength=size).cumsum(0), (1, 0))
    return csr_matrix(crow.to(torch.int32), column[order].to(torch.int32), weight[order])
