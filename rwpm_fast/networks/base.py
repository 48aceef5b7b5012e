"""The adapter contract: what a segmentation network must offer so that a walk can be put between its embedding map
and its head."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from os import PathLike
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

NetworkType = TypeVar("NetworkType", bound="Network")


class Network(nn.Module):
    """A segmentation network cut in two at its pixel embedding map.

    Adapters set the attributes and write ``preprocess``, ``embed`` and ``head``. The embedding map covers the whole
    photo: an adapter that pads its input crops the map again.

    Attributes:
        name: the network's name, as ``rwpm_fast.networks.load`` knows it.
        classes: names of the K classes, in the order of the logit channels.
        stride: photo pixels per side of a pixel of the embedding map.
        linear_head: the head is a linear map of each pixel's embedding, with or without bias. A walk then commutes with
            the head, and may be applied to the K logits instead of the D embedding channels.
        align_corners: how logits are up-sampled to the photo's size.
    """

    name: str
    classes: tuple[str, ...]
    stride: int
    linear_head: bool
    align_corners: bool = False

    def preprocess(self, photos: Tensor) -> Tensor:
        """RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the network's floating-point input."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """The network's input, as ``preprocess`` gives it, to the embedding map [B, D, h, w]."""
        raise NotImplementedError

    def head(self, embedding_map: Tensor) -> Tensor:
        """Embedding map [B, D, h, w] to class logits [B, K, h, w]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """The network's input to class logits [B, K, h, w], without a walk."""
        return self.head(self.embed(images))

    @classmethod
    def load(cls: type[NetworkType], weights: str | PathLike[str]) -> NetworkType:
        """The network with weights from an npz file, in evaluation mode on the CPU.

        Args:
            weights: npz file whose arrays are named as the entries of ``state_dict``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no npz file, or its arrays are not the network's: an array is missing, unknown, of
                another shape, not of floating point or not finite. The message names the arrays.
        """
        network = cls()
        load_arrays(network, weights)
        return network.eval()


def load_arrays(network: Network, weights: str | PathLike[str]) -> None:
    """Fill parameters and buffers from an npz file, each of them or none; see ``Network.load``."""
    wanted = network.state_dict()
    # np.load takes whatever is neither zip nor npy for a pickle, and refuses it with a text about pickles.
    if not zipfile.is_zipfile(weights):
        with open(weights, "rb"):
            raise ValueError(f"weights: expected an npz file, got {weights}, which is none or is cut short")
    with np.load(weights, allow_pickle=False) as file:
        found = set(file.files)
        if found.isdisjoint(wanted):
            raise ValueError(
                f"weights: {weights} holds weights of another network: none of the {len(wanted)} arrays of "
                f"{network.name} is among its {len(found)}, which start with {_listed(file.files)}"
            )
        arrays, unfit = {}, []
        for name in wanted.keys() & found:
            try:
                arrays[name] = file[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                unfit.append(f"{name} cannot be read ({error})")

    for name, array in arrays.items():
        shape = list(wanted[name].shape)
        if list(array.shape) != shape:
            unfit.append(f"{name} has shape {list(array.shape)}, expected {shape}")
        elif not np.issubdtype(array.dtype, np.floating):
            unfit.append(f"{name} holds {array.dtype}, expected floating point")
        elif not np.isfinite(array).all():
            unfit.append(f"{name} has entries that are not finite")
    problems = {
        "missing": [name for name in wanted if name not in found],
        "unknown": sorted(found - wanted.keys()),
        "unfit": sorted(unfit),
    }
    if any(problems.values()):
        text = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"weights: {weights} does not fit {network.name}: {text}")
    network.load_state_dict({name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()})


def _listed(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
