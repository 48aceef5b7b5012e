"""Where the pixels of an embedding map lie in the photo, and which show nothing but padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks import Network
from ..ops.maps import partition_edges


def graph_mask(
    network: Network, photo_size: tuple[int, int], map_size: tuple[int, int], mask: Tensor | None, *, padding: bool
) -> Tensor | None:
    """Pixels of the embedding map that belong to the graph: those over any photo pixel that does.

    Args:
        network: tells how it resizes, mirrors and pads photos.
        photo_size: height and width of the photo.
        map_size: height and width of the embedding map.
        mask: [H, W] bool, photo pixels that belong; None for all.
        padding: whether pixels of the map belong that lie over padding alone.

    Returns:
        Mask: [V, h, w] bool, with V = 2 for a network that also sees the mirror image; None where all belong.
    """
    shown, padded = network.input_size(photo_size), network.padded_size(photo_size)
    if mask is None:
        if padding or shown == padded:
            return None
        mask = torch.ones(photo_size, dtype=torch.bool)
    views = mask.float()[None]
    if network.mirrored:
        views = torch.cat([views, views.flip(-1)])

    def on_map(views: Tensor) -> Tensor:
        views = F.pad(views, (0, padded[1] - shown[1], 0, padded[0] - shown[0]))
        return F.adaptive_max_pool2d(views, map_size) > 0

    belongs = on_map(F.adaptive_max_pool2d(views, shown))
    return belongs | ~on_map(views.new_ones(1, *shown)) if padding else belongs


def photo_edges(
    network: Network, photo_size: tuple[int, int], map_size: tuple[int, int], parts: int
) -> tuple[list[int], list[int]]:
    """Edges of ``parts`` x ``parts`` sub-maps, in rows and columns of the photo.

    Sub-maps of padding alone have none.

    Args:
        network: tells how it resizes and pads photos.
        photo_size: height and width of the photo.
        map_size: height and width of the embedding map.
        parts: as of ``rwpm_fast.walk_map``.
    """
    sides = zip(photo_size, map_size, network.input_size(photo_size), network.padded_size(photo_size), strict=True)
    rows, columns = (
        sorted({min(round(edge * photo * padded / (pixels * shown)), photo) for edge in partition_edges(pixels, parts)})
        for photo, pixels, shown, padded in sides
    )
    return rows, columns
