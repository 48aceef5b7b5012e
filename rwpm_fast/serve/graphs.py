"""The graphs of one photo, kept, so that a walk with other settings only walks again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import pairwise, product

import torch
from torch import Tensor

from ..ops.estimate import estimate_walk
from ..ops.graph import Transition, transition
from ..ops.maps import partition_edges
from ..ops.settings import WalkSettings
from ..ops.stopwatch import Stopwatch
from .limits import Limits, Refusal

Block = tuple[slice, slice]


class PhotoGraphs:
    """The graphs of a photo's embedding map, one for each sub-map and view, by temperature, tolerance and parts.

    Args:
        embeddings: [V, D, h, w], at least float32.
        mask: [V, h, w] bool, pixels of the graph; None for all.
        limits: of the server.
    """

    def __init__(self, embeddings: Tensor, mask: Tensor | None, limits: Limits) -> None:
        self.embeddings, self.mask = embeddings, mask
        self._limits = limits
        self._kept: OrderedDict[tuple[float, float, int], list[Transition]] = OrderedDict()

    def blocks(self, parts: int) -> list[Block]:
        """Return the rows and columns of every sub-map.

        Args:
            parts: n of the paper.

        Raises:
            ValueError: more parts than the map has pixels along a side.
        """
        edges = (pairwise(partition_edges(side, parts)) for side in self.embeddings.shape[-2:])
        return [(slice(top, bottom), slice(left, right)) for (top, bottom), (left, right) in product(*edges)]

    def get(self, settings: WalkSettings) -> list[Transition]:
        """Return the graphs, those of a view's sub-maps in the order of :meth:`blocks`, view after view.

        Args:
            settings: of the walk; the graphs depend on temperature, tolerance and parts.

        Raises:
            ValueError: see :meth:`blocks`.
            Refusal: to build or to walk them would take too long.
        """
        key = (settings.temperature, settings.tolerance, settings.parts)
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._check_time(replace(settings, steps=max(settings.steps, 1)))
            self._kept[key] = self._build(settings)
            while len(self._kept) > self._limits.graphs:
                self._kept.popitem(last=False)
        graphs = self._kept[key]
        if any(graph.path == "streaming" for graph in graphs):  # every step computes the weights again
            self._check_time(replace(settings, tolerance=0.0))
        return graphs

    def _build(self, settings: WalkSettings) -> list[Transition]:
        graphs = []
        for view in range(len(self.embeddings)):
            for rows, columns in self.blocks(settings.parts):
                pixels = self.embeddings[view, :, rows, columns].flatten(1).mT
                mask = None if self.mask is None else self.mask[view, rows, columns].flatten()
                graph = transition(pixels, mask=mask, temperature=settings.temperature, tolerance=settings.tolerance)
                graphs.append(graph)
        return graphs

    def _check_time(self, settings: WalkSettings) -> None:
        _, channels, height, width = self.embeddings.shape
        least, _ = estimate_walk((height, width), channels, channels, settings, self.embeddings.device)
        if least.seconds > self._limits.walk_seconds:
            way_out = "a tolerance above 0, a lower temperature, more parts or fewer steps"
            raise Refusal(422, f"this walk would take about {least.seconds:.0f} s on this machine; choose {way_out}")


class GraphWalk:
    """A walk on the graphs of one photo, in place of :class:`rwpm_fast.Walk`, whose maps it equals: bit for bit where
    graphs are sparse and nothing is anchored, else within rounding.

    Args:
        graphs: of the photo.
        settings: of the walk.

    Attributes:
        build_seconds: that the last call took to build graphs; 0 where they were kept.
    """

    def __init__(self, graphs: PhotoGraphs, settings: WalkSettings) -> None:
        self._graphs, self._settings = graphs, settings
        self.build_seconds = 0.0

    @property
    def parts(self) -> int:
        """n of the paper."""
        return self._settings.parts

    def __call__(self, embedding_map: Tensor, value_map: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Walk values; see :class:`rwpm_fast.scoring.scorer.MapWalk`. Embeddings and mask are those of the graphs."""
        s = self._settings
        values = embedding_map if value_map is None else value_map  # [V, C, h, w]
        watch = Stopwatch(values.device)
        graphs = self._graphs.get(s)
        self.build_seconds = watch.lap()
        walked = torch.empty_like(values, memory_format=torch.contiguous_format)
        anchor = {"anchor": s.anchor, "anchor_share": s.anchor_share}
        places = product(range(len(values)), self._graphs.blocks(s.parts))
        for graph, (view, (rows, columns)) in zip(graphs, places, strict=True):
            part = values[view, :, rows, columns]
            after = graph.walk(part.flatten(1).mT, alpha=s.alpha, steps=s.steps, **anchor)
            walked[view, :, rows, columns] = after.mT.unflatten(1, part.shape[1:])
        return walked
