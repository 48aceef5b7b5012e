"""Segmentation networks behind one contract, ``Network``: photo -> embedding map -> class logits."""

from __future__ import annotations

from os import PathLike

from .base import Encoded, MaskLogits, Network
from .cityscapes import CITYSCAPES_CLASSES, CITYSCAPES_COLORS
from .compact import CompactNet
from .dabnet import DABNet
from .deeplab import DeepLabWRN38
from .mask2former import Mask2Anomaly, Mask2Former, RbASwinB, RbASwinL

__all__ = [
    "CITYSCAPES_CLASSES",
    "CITYSCAPES_COLORS",
    "NETWORKS",
    "CompactNet",
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
    network.name: network
    for network in (CompactNet, DABNet, DeepLabWRN38, RbASwinB, RbASwinL, Mask2Anomaly, Mask2Former)
}


def load(
    name: str = CompactNet.name,
    weights: str | PathLike[str] | None = None,
    *,
    weights_key: str | None = None,
) -> Network:
    """Load a network by name, in evaluation mode on the CPU.

    Args:
        name: one of ``NETWORKS``.
        weights: file of weights, or the folder of a transformers model; see ``load`` of the network's class. None for
            the weights in the package, which are those of the compact network only.
        weights_key: place of the tensors in the file, such as ``ema`` or ``checkpoint/model``, where several sets of
            them fit; None where one fits.

    Returns:
        The network.

    Raises:
        ValueError: unknown name, no weights, several that may be meant, or weights that do not fit.
        FileNotFoundError: no such file.
    """
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(sorted(NETWORKS))}, got {name!r}")
    if weights is not None:
        return NETWORKS[name].load(weights, weights_key=weights_key)
    if weights_key is not None:
        raise ValueError(f"weights_key: expected with a file of weights only, got {weights_key!r} without one")
    if name != CompactNet.name:
        raise ValueError(f"weights: expected a file with those of {name}; the package has {CompactNet.name}'s alone")
    return CompactNet.load()
