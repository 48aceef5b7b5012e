"""Digests of a network's tensors, which distinguish networks of the same name."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def tensor_digest(tensor: Tensor) -> str:
    """Compute the SHA-256 of a tensor's elements, as hexadecimal digits."""
    return hashlib.sha256(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def weights_digest(network: nn.Module) -> str:
    """Compute the SHA-256 of all parameters and buffers and of their names, as hexadecimal digits."""

    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor_digest(tensor)} ".encode())
    return digest.hexdigest()
