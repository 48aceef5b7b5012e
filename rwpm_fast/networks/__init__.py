"""Segmentation networks behind one contract, ``Network``: photo -> embedding map -> class logits."""

from __future__ import annotations

from os import PathLike

from .base import Encoded, MaskLogits, Network
from .cityscapes import CITYSCAPES_CLASSES, CITYSCAPES_COLOURS
from .dabnet import DABNet
from .deeplab import DeepLabWRN38
from .mask2former import Mask2Anomaly, Mask2Former, RbASwinB, RbASwinL

__all__ = [
    "CITYSCAPES_CLASSES",
    "CITYSCAPES_COLOURS",
    "NETWORKS",
    "DABNet",
    "DeepLabWRN38",
    "Encoded",
    "Mask2Anomaly",
    "Mask2Former",
    "MaskLogits",
    "Network",
    "RbASwinB",
    "RbASwinL",
    "load",
]

NETWORKS: dict[str, type[Network]] = {
    network.name: network for network in (DABNet, DeepLabWRN38, RbASwinB, RbASwinL, Mask2Anomaly, Mask2Former)
}


def load(name: str, weights: str | PathLike[str]) -> Network:
    """A network by name, with its weights, in evaluation mode on the CPU.

    Args:
        name: one of ``NETWORKS``.
        weights: file of weights, or the folder of a transformers model; see ``load`` of the network's class.

    Raises:
        ValueError: unknown name, or weights that do not fit.
        FileNotFoundError: no such file.
    """
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(sorted(NETWORKS))}, got {name!r}")
    return NETWORKS[name].load(weights)
