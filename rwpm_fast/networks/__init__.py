"""Segmentation networks behind one contract, ``Network``: photo -> embedding map -> class logits."""

from __future__ import annotations

from os import PathLike
from typing import Any

from torch import nn

from .attach import attach
from .base import Encoded, MaskLogits, Network
from .cityscapes import CITYSCAPES_CLASSES, CITYSCAPES_COLORS
from .compact import CompactNet
from .dabnet import DABNet
from .deeplab import DeepLabWRN38
from .dino import DINOLinear, DINONeighbors
from .eomt import EoMT, EoMTDINOv3
from .erfnet import ERFNet
from .mask2former import Mask2Anomaly, Mask2Former, RbASwinB, RbASwinL
from .own import FORM, build, is_place
from .segformer import SegFormer
from .settings import IMAGENET, NetworkSettings
from .variant import Variant

__all__ = [
    "CITYSCAPES_CLASSES",
    "CITYSCAPES_COLORS",
    "NETWORKS",
    "CompactNet",
    "DABNet",
    "DINOLinear",
    "DINONeighbors",
    "DeepLabWRN38",
    "ERFNet",
    "Encoded",
    "EoMT",
    "EoMTDINOv3",
    "Mask2Anomaly",
    "Mask2Former",
    "MaskLogits",
    "Network",
    "RbASwinB",
    "RbASwinL",
    "SegFormer",
    "Variant",
    "load",
]

NETWORKS: dict[str, type[Network]] = {
    network.name: network
    for network in (
        CompactNet,
        DABNet,
        DeepLabWRN38,
        ERFNet,
        RbASwinB,
        RbASwinL,
        Mask2Anomaly,
        Mask2Former,
        SegFormer,
        EoMT,
        EoMTDINOv3,
        DINOLinear,
        DINONeighbors,
    )
}


def load(
    name: str = CompactNet.name,
    weights: str | PathLike[str] | None = None,
    *,
    weights_key: str | None = None,
    **settings: Any,
) -> Network:
    """Load a network by name, in evaluation mode on the CPU.

    Args:
        name: one of ``NETWORKS``; or the place of a function, class or module of your own, ``my.module:build`` or
            ``file.py:build``, which gives a :class:`Network`, or a torch module that is attached by ``embedding`` and
            ``head``; see :func:`rwpm_fast.networks.own.build`.
        weights: file of weights, or the folder of a transformers model; see ``load`` of the network's class. None for
            the weights in the package, which are those of the compact network only, and for what your own has.
        weights_key: place of the tensors in the file, such as ``ema`` or ``checkpoint/model``, where several sets of
            them fit; None where one fits.
        settings: fields of :class:`rwpm_fast.networks.settings.NetworkSettings`: ``size`` and ``leave_out`` of any
            network; ``embedding``, ``head``, ``mean`` and ``std`` of a torch module of your own.

    Returns:
        The network.

    Raises:
        TypeError: there is no such setting.
        ValueError: unknown name, no weights, several that may be meant, weights that do not fit, or settings that the
            network does not have.
        FileNotFoundError: no such file.
        ImportError: a module of your own, or a library that the network needs, is not found.

    Example:
        >>> load("erfnet", "erfnet_pretrained.pth", size=(512, 1024), leave_out=["void"])
        >>> load("mine.py:Segmenter", "mine.pth", embedding="backbone", head="classifier")
    """
    given = NetworkSettings(**settings)
    given.check(name)
    if is_place(name):
        network = _own(name, build(name, weights, weights_key=weights_key), given)
    else:
        network = _varied(_named(name, weights, weights_key), given)
    if text := given.text():
        network.name = f"{network.name} ({text})"  # results of other settings are not taken for its own
    return network.eval()


def _named(name: str, weights: str | PathLike[str] | None, weights_key: str | None) -> Network:
    if name not in NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(sorted(NETWORKS))}, or {FORM}, got {name!r}")
    if weights is not None:
        return NETWORKS[name].load(weights, weights_key=weights_key)
    if weights_key is not None:
        raise ValueError(f"weights_key: expected with a file of weights only, got {weights_key!r} without one")
    if name != CompactNet.name:
        raise ValueError(f"weights: expected a file with those of {name}; the package has {CompactNet.name}'s alone")
    return CompactNet.load()


def _own(name: str, module: nn.Module, given: NetworkSettings) -> Network:
    """Make a network of a module of the user's own."""
    if isinstance(module, Network):
        if given.of_modules:
            raise ValueError(
                f"{given.of_modules[0]}: expected only with a torch module, and {name} gives a Network, which has its "
                "own; leave it out"
            )
        return _varied(module, given)
    if given.embedding is None or given.head is None:
        raise ValueError(
            f"embedding: expected the paths of two modules of {name}, embedding and head, to attach it by, as in "
            "model.named_modules(); or let it give a Network, such as attach(...) makes"
        )
    return attach(
        module,
        given.embedding,
        given.head,
        mean=IMAGENET["mean"] if given.mean is None else given.mean,
        std=IMAGENET["std"] if given.std is None else given.std,
        size=given.size,
        leave_out=given.leave_out,
    )


def _varied(network: Network, given: NetworkSettings) -> Network:
    """Give a network the size and the classes that a protocol wants."""
    return Variant(network, size=given.size, leave_out=given.leave_out) if given.size or given.leave_out else network
