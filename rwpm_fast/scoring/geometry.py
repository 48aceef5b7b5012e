"""Sizes of an image on its way through a network, and where the pixels of its embedding map lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks import Network
from ..ops.maps import partition_edges


@dataclass(frozen=True)
class MapGeometry:
    """Sizes of one image from the image to its embedding map, each as height and width.

    A network resizes the image, pads it at the bottom and on the right, and computes an embedding map that covers all
    of its input.

    Attributes:
        image_size: of the image.
        input_size: of the resized image, before padding.
        padded_size: of the network's input, padding included.
        map_size: of the embedding map.
        mirrored: whether there is a second map, that of the mirror image.
    """

    image_size: tuple[int, int]
    input_size: tuple[int, int]
    padded_size: tuple[int, int]
    map_size: tuple[int, int]
    mirrored: bool = False

    @classmethod
    def from_network(cls, network: Network, image_size: tuple[int, int], map_size: tuple[int, int]) -> MapGeometry:
        """Ask a network for the sizes of an image.

        Args:
            network: its ``input_size``, ``padded_size`` and ``mirrored`` are read.
            image_size: height and width of the image.
            map_size: height and width of its embedding map.
        """
        input_size, padded_size = network.input_size(image_size), network.padded_size(image_size)
        return cls(image_size, input_size, padded_size, map_size, network.mirrored)

    def graph_mask(self, mask: Tensor | None, *, padding: bool) -> Tensor | None:
        """Find the map pixels that belong to the graph: those over any image pixel that does.

        Args:
            mask: [H, W] bool, image pixels that belong to the graph; None for all.
            padding: whether map pixels that cover nothing but padding belong to the graph.

        Returns:
            Mask: [V, h, w] bool, with V = 2 if ``mirrored`` and else 1; None where all belong.
        """
        if mask is None:
            if padding or known_equal(self.input_size, self.padded_size):
                return None
            mask = torch.ones(self.image_size, dtype=torch.bool)
        views = mask.float()[None]
        if self.mirrored:
            views = torch.cat([views, views.flip(-1)])
        belongs = self._any_below(F.adaptive_max_pool2d(views, self.input_size))
        return belongs | ~self._any_below(views.new_ones(1, *self.input_size)) if padding else belongs

    def _any_below(self, views: Tensor) -> Tensor:
        """Whether any pixel of the resized image [V, H', W'] below a map pixel is above 0: [V, h, w]."""
        rows, columns = (padded - side for padded, side in zip(self.padded_size, self.input_size, strict=True))
        return F.adaptive_max_pool2d(F.pad(views, (0, columns, 0, rows)), self.map_size) > 0

    def to_map(self, views: Tensor) -> Tensor:
        """Average views of the resized image's area below each map pixel; padding continues the border.

        Args:
            views: [V, C, H, W], of the image and, if ``mirrored``, of its mirror image.

        Returns:
            [V, C, h, w], within the range of ``views``.
        """
        rows, columns = (padded - side for padded, side in zip(self.padded_size, self.input_size, strict=True))
        resized = F.adaptive_avg_pool2d(views, self.input_size)
        return F.adaptive_avg_pool2d(F.pad(resized, (0, columns, 0, rows), mode="replicate"), self.map_size)

    def to_image(self, maps: Tensor, *, align_corners: bool = False) -> Tensor:
        """Enlarge maps of the embedding map's size to the image's, by bilinear interpolation; padding is cut off.

        Args:
            maps: [V, C, h, w].
            align_corners: how the interpolation places the corners.

        Returns:
            [V, C, H, W].
        """
        return enlarged(maps, self.image_size, self.input_size, self.padded_size, align_corners=align_corners)

    def image_edges(self, parts: int) -> tuple[list[int], list[int]]:
        """Locate the edges of ``parts`` x ``parts`` sub-maps in rows and columns of the image.

        Sub-maps that cover nothing but padding have no edges.

        Args:
            parts: n of the paper, from 1 to the shorter side of the map.

        Returns:
            Increasing row edges from 0 to H, and column edges from 0 to W.
        """
        sides = zip(self.image_size, self.input_size, self.padded_size, self.map_size, strict=True)
        rows, columns = (_image_edges(partition_edges(side[-1], parts), *side) for side in sides)
        return rows, columns


def enlarged(
    maps: Tensor,
    image_size: tuple[int, int],
    input_size: tuple[int, int],
    padded_size: tuple[int, int],
    *,
    align_corners: bool,
) -> Tensor:
    """Enlarge maps [B, C, h, w] to the image's size; see :meth:`MapGeometry.to_image`."""
    interpolate = partial(F.interpolate, mode="bilinear", align_corners=align_corners)
    if known_equal(padded_size, input_size):
        return interpolate(maps, image_size)
    # By way of the input, whose padding is cut off; directly where nothing is padded. Counted and not branched, since a
    # compiler keeps the sizes open.
    direct = 1 - torch.sym_min(sum(padded - side for padded, side in zip(padded_size, input_size, strict=True)), 1)
    first = [padded + direct * (side - padded) for side, padded in zip(image_size, padded_size, strict=True)]
    height, width = (shown + direct * (side - shown) for side, shown in zip(image_size, input_size, strict=True))
    shown = interpolate(maps, first)[..., :height, :width]
    return shown if known_equal(input_size, image_size) else interpolate(shown, image_size)


def known_equal(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are equal. Where a compiler keeps sizes open: whether they are for every photo, so that what
    follows holds for all of them; to interpolate to the same size changes no bit."""
    if not torch.compiler.is_compiling():
        return size == other
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return all(statically_known_true(a == b) for a, b in zip(size, other, strict=True))


def _image_edges(map_edges: list[int], image: int, resized: int, padded: int, pixels: int) -> list[int]:
    """Edges along one side of the map in pixels of the image, each once."""
    return sorted({min(round(edge * image * padded / (pixels * resized)), image) for edge in map_edges})
