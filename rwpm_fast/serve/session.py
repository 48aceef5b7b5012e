"""What is kept of a photo while visitors look at it: the network's output, its graphs, and no file."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops.settings import WalkSettings
from ..ops.stopwatch import Stopwatch
from ..scoring.prediction import Prediction, check_score_map
from ..scoring.scorer import Scorer
from .graphs import GraphWalk, PhotoGraphs
from .limits import Limits, Refusal
from .neighbors import Neighborhood, neighborhood
from .packing import pack_map
from .photos import encode_photo


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo to look at.

    Attributes:
        name: for the page.
        photo: [H, W, 3] uint8.
        labels: [H, W] uint8, 0 inlier, 1 anomaly, 255 void; None where they are not known.
        original_size: height and width of the file, upright.
    """

    name: str
    photo: np.ndarray
    labels: np.ndarray | None
    original_size: tuple[int, int]


class Session:
    """One photo, scored as often as settings change. Of one thread at a time.

    Args:
        scorer: its network runs once, at once; its walk is left aside.
        picture: the photo.
        limits: of the server.

    Attributes:
        id: secret name of the session.
        picture: the photo.
        graphs: its graphs.
    """

    def __init__(self, scorer: Scorer, picture: Picture, limits: Limits) -> None:
        self.id = secrets.token_urlsafe(16)
        self.picture = picture
        self._scorer = scorer
        self._embedded = scorer.embed(picture.photo)
        self.graphs = PhotoGraphs(*scorer.graph_of(self._embedded), limits)
        self._plain = scorer.with_walk(None).analyze_embedded(self._embedded)

    @cached_property
    def jpeg(self) -> bytes:
        """The photo as the page shows it."""
        return encode_photo(self.picture.photo)

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the embedding map."""
        return self._embedded.geometry.map_size

    @property
    def cell_size(self) -> tuple[float, float]:
        """Height and width of a pixel of the embedding map, in pixels of the photo."""
        g = self._embedded.geometry
        sides = zip(g.image_size, g.input_size, g.padded_size, g.map_size, strict=True)
        height, width = (image * padded / (resized * pixels) for image, resized, padded, pixels in sides)
        return height, width

    def about(self) -> dict[str, Any]:
        """Describe the photo, JSON-ready."""
        height, width = self.picture.photo.shape[:2]
        return {
            "id": self.id,
            "name": self.picture.name,
            "size": [height, width],
            "original_size": list(self.picture.original_size),
            "map_size": list(self.map_size),
            "cell_size": list(self.cell_size),
            "network_seconds": self._embedded.seconds,
        }

    @torch.inference_mode()
    def plain_map(self) -> bytes:
        """Score without the walk, packed."""
        return self._pack(self._plain.walked, {}, self.picture.labels)

    @torch.inference_mode()
    def walked_map(self, settings: WalkSettings) -> bytes:
        """Walk and score, packed.

        Args:
            settings: of the walk.

        Raises:
            ValueError: more parts than the map has pixels along a side, or a score that is not finite.
            Refusal: it would take too long.
        """
        walk = GraphWalk(self.graphs, settings)
        analysis = self._scorer.with_walk(walk).analyze_embedded(self._embedded)
        graphs = self.graphs.get(settings)
        head = {
            "graph_seconds": walk.build_seconds,
            "walk_seconds": analysis.walk_seconds - walk.build_seconds,
            "path": "sparse" if all(graph.path == "sparse" for graph in graphs) else "streaming",
        }
        return self._pack(analysis.walked, head)

    @torch.inference_mode()
    def neighbors(self, settings: WalkSettings, row: int, column: int) -> Neighborhood:
        """Find the strongest neighbors of a pixel of the embedding map; see
        :func:`rwpm_fast.serve.neighbors.neighborhood`.

        Args:
            settings: of the walk.
            row: of the pixel, from 0.
            column: of the pixel, from 0.

        Raises:
            Refusal: there is no such pixel.
            ValueError: see :meth:`walked_map`.
        """
        rows, columns = self.map_size
        if not (0 <= row < rows and 0 <= column < columns):
            raise Refusal(422, f"row, column: expected a pixel of the {rows}x{columns} map, got {row}, {column}")
        return neighborhood(self.graphs, settings, row, column)

    def _pack(self, prediction: Prediction, head: dict[str, Any], labels: np.ndarray | None = None) -> bytes:
        watch = Stopwatch(self._embedded.embedding_map.device)
        score, segmentation = prediction.score_and_segmentation(self._scorer.score, one_pass=True)
        check_score_map(self._scorer.score, score)
        classes = self._at_centers(segmentation)
        return pack_map(score.contiguous(), classes, {**head, "score_seconds": watch.lap()}, labels)

    def _at_centers(self, segmentation: Tensor) -> np.ndarray:
        """Class at the center of every pixel of the embedding map, [h, w] uint8; in the padding, at the border."""
        centers = (
            ((torch.arange(pixels) + 0.5) * cell).long().clamp_(max=side - 1)
            for pixels, cell, side in zip(self.map_size, self.cell_size, segmentation.shape, strict=True)
        )
        rows, columns = centers
        return segmentation[rows[:, None], columns].to(torch.uint8).cpu().numpy()


class Sessions:
    """The sessions of a server, by their id; the one used longest ago is forgotten first.

    Args:
        most: sessions that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, session: Session) -> None:
        """Keep a session."""
        self._kept[session.id] = session
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def get(self, name: str) -> Session:
        """Return a session.

        Args:
            name: its id.

        Raises:
            Refusal: there is none, or not any more.
        """
        if name not in self._kept:
            raise Refusal(404, f"this photo is not here any more: {self._most} are kept at a time; open it again")
        self._kept.move_to_end(name)
        return self._kept[name]
