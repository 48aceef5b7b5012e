"""From a photo to an anomaly map: network, walk, head, up-sampling, score."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import scores
from .calibration import calibrate
from .images import as_photo
from .maps import partition_edges
from .networks import Network


class MapWalk(Protocol):
    """A walk on maps, such as ``rwpm_fast.Walk``, in ``parts`` x ``parts`` sub-maps."""

    parts: int

    def __call__(self, embedding_map: Tensor, value_map: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Embedding map [B, D, h, w], value map [B, C, h, w] or None for the embeddings, mask [B, h, w] bool or None to
        walked values [B, C, h, w]."""
        ...


@dataclass(frozen=True, eq=False)
class Scored:
    """The anomaly map of a photo.

    Attributes:
        score: [H, W] float32, higher is more anomalous.
        segmentation: [H, W] int64, index of the likeliest class.
        map_size: height and width of the embedding map.
        network_seconds: time of pre-processing, network and head.
        walk_seconds: time of the walk, 0 without one.
        score_seconds: time of up-sampling, segmentation and score.
    """

    score: Tensor
    segmentation: Tensor
    map_size: tuple[int, int]
    network_seconds: float
    walk_seconds: float
    score_seconds: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class logits of a photo, and the maps that are made of them on demand.

    Attributes:
        logits: [K, h, w], as the head gives them.
        size: height and width of the photo.
        align_corners: how to up-sample.
        edges: edges of the sub-maps in rows and columns of the photo, for scores to be calibrated across them; None
            for scores as they are.
    """

    logits: Tensor
    size: tuple[int, int]
    align_corners: bool
    edges: tuple[list[int], list[int]] | None = None

    @cached_property
    def full_logits(self) -> Tensor:
        """Logits up-sampled to the photo, [K, H, W] float32; kept, since every map starts from them."""
        logits = self.logits.float()
        # Up-sampling comes before the score: the two do not commute.
        return F.interpolate(logits[None], self.size, mode="bilinear", align_corners=self.align_corners)[0]

    @cached_property
    def segmentation(self) -> Tensor:
        """Index of the likeliest class, [H, W] int64."""
        return self.full_logits.max(0).indices  # argmax takes several times as long on a CPU

    def score(self, name: str) -> Tensor:
        """Anomaly score by its name in ``rwpm_fast.scores``, [H, W] float32, higher is more anomalous."""
        score = scores.get(name)(self.full_logits)
        return score if self.edges is None else calibrate(score, *self.edges)


@dataclass(frozen=True, eq=False)
class Embedded:
    """A photo as the network embeds it, before any walk; all scorers of that network may start from it.

    Attributes:
        embedding_map: [1, D, h, w].
        mask: [1, h, w] bool, pixels that belong to the graph; None for all.
        size: height and width of the photo.
        seconds: time of pre-processing and network.
    """

    embedding_map: Tensor
    mask: Tensor | None
    size: tuple[int, int]
    seconds: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """One network pass over a photo, seen without and with the walk.

    Attributes:
        network: the network that ran.
        embedding_map: [D, h, w], before the walk.
        walked: prediction after the walk, or without one if the scorer has none.
        network_seconds: time of pre-processing, network and one head.
        walk_seconds: time of the walk, 0 without one.
    """

    network: Network
    embedding_map: Tensor
    walked: Prediction
    network_seconds: float
    walk_seconds: float

    @cached_property
    def plain(self) -> Prediction:
        """Prediction without the walk."""
        with torch.inference_mode():
            logits = self.network.head(self.embedding_map[None])[0]
        return Prediction(logits, self.walked.size, self.walked.align_corners)


class Scorer:
    """Anomaly scores of photos by a network whose pixels walk on their manifold before they are classified.

    Source: Random Walk on Pixel Manifolds (Zeng & Tomite, ECCV 2024). With a linear head the walk may act on the K
    logits in place of the D embedding channels, on the graph of the embeddings: it mixes pixels, the head mixes
    channels, and rows that sum to 1 leave a bias alone, so both give one map and the logits are fewer.

    Args:
        network: put into evaluation mode; photos go to the device it is on.
        score: name in ``rwpm_fast.scores``.
        walk: ``rwpm_fast.Walk`` or alike; None scores without a walk.
        walk_values: what walks: ``"logits"`` (linear heads only), ``"embeddings"``, or ``"auto"``, which takes the
            logits where the head is linear.
        calibrated: calibrate scores across the sub-maps of a walk with ``parts`` > 1, as the paper does for n > 2.

    Raises:
        ValueError: unknown score or ``walk_values``, or logits that are to walk behind a head that is not linear.

    Example:
        >>> scorer = Scorer(networks.load("dabnet", "dabnet_cityscapes.npz"), walk=Walk(steps=20))
        >>> scorer(read_photo("street.jpg")).score  # [H, W]
    """

    def __init__(
        self,
        network: Network,
        score: str = "energy",
        walk: MapWalk | None = None,
        *,
        walk_values: Literal["auto", "logits", "embeddings"] = "auto",
        calibrated: bool = False,
    ) -> None:
        scores.get(score)
        if walk_values not in ("auto", "logits", "embeddings"):
            raise ValueError(f"walk_values: expected auto, logits or embeddings, got {walk_values!r}")
        if walk_values == "logits" and not network.linear_head:
            raise ValueError(
                f"walk_values: logits may walk only behind a linear head, which {network.name} has not; "
                "use embeddings or auto"
            )
        self.network = network.eval()
        self.score = score
        self.walk = walk
        self.walk_values = walk_values
        self.calibrated = calibrated

    @torch.inference_mode()
    def __call__(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Scored:
        """Score one photo; the arguments are those of ``analyse``."""
        analysis = self.analyse(photo, mask)
        watch = _Stopwatch(analysis.embedding_map.device)
        prediction = analysis.walked
        return Scored(
            score=prediction.score(self.score),
            segmentation=prediction.segmentation,
            map_size=tuple(analysis.embedding_map.shape[-2:]),
            network_seconds=analysis.network_seconds,
            walk_seconds=analysis.walk_seconds,
            score_seconds=watch.lap(),
        )

    def analyse(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Analysis:
        """Run network and walk once; any number of scores, without and with the walk, follow from the result.

        Args:
            photo: anything ``rwpm_fast.images.as_photo`` takes.
            mask: [H, W] bool, True for photo pixels that belong to the graph; None for all. A pixel of the embedding
                map belongs if any photo pixel under it does. The others keep their values and are scored all the same.

        Raises:
            TypeError: a photo or mask of another type.
            ValueError: a photo that ``as_photo`` refuses, or a mask of another size.
        """
        return self.analyse_embedded(self.embed(photo, mask))

    @torch.inference_mode()
    def embed(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Embedded:
        """Run the network up to the embedding map, for ``analyse_embedded`` of this and other scorers of the network.

        Arguments and errors are those of ``analyse``.
        """
        network = self.network
        pixels = torch.tensor(as_photo(photo))  # [H, W, 3]
        size = tuple(pixels.shape[:2])
        device = device_of(network)
        if mask is not None:
            mask = _check_mask(mask, size).to(device)

        watch = _Stopwatch(device)
        embedding_map = network.embed(network.preprocess(pixels.to(device).permute(2, 0, 1)[None]))  # [1, D, h, w]
        seconds = watch.lap()
        if mask is not None:
            mask = _reduce_mask(mask, embedding_map.shape[-2:])
        return Embedded(embedding_map, mask, size, seconds)

    @torch.inference_mode()
    def analyse_embedded(self, embedded: Embedded) -> Analysis:
        """Walk and classify what ``embed`` gave, of this scorer or of another one with the same network."""
        network, walk, embedding_map = self.network, self.walk, embedded.embedding_map
        watch = _Stopwatch(embedding_map.device)
        walk_seconds = 0.0
        if walk is None or self._walks_logits:
            logits = network.head(embedding_map)  # [1, K, h, w]
            head_seconds = watch.lap()
            if walk is not None:
                logits = walk(embedding_map, value_map=logits, mask=embedded.mask)
                walk_seconds = watch.lap()
        else:
            walked_map = walk(embedding_map, mask=embedded.mask)  # [1, D, h, w]
            walk_seconds = watch.lap()
            logits = network.head(walked_map)
            head_seconds = watch.lap()
        edges = self._edges(tuple(embedding_map.shape[-2:]), embedded.size)
        prediction = Prediction(logits[0], embedded.size, network.align_corners, edges)
        return Analysis(network, embedding_map[0], prediction, embedded.seconds + head_seconds, walk_seconds)

    def _edges(self, map_size: tuple[int, int], size: tuple[int, int]) -> tuple[list[int], list[int]] | None:
        """Edges of the sub-maps that walked by themselves, in rows and columns of the photo."""
        if not self.calibrated or self.walk is None:
            return None
        rows, columns = (
            [round(edge * full / small) for edge in partition_edges(small, self.walk.parts)]
            for small, full in zip(map_size, size, strict=True)
        )
        return rows, columns

    @property
    def _walks_logits(self) -> bool:
        return self.walk_values == "logits" or (self.walk_values == "auto" and self.network.linear_head)


def device_of(network: Network) -> torch.device:
    """The device that a network's parameters are on; the CPU for a network without any."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


class _Stopwatch:
    """Seconds between laps, with the device's queued work done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started = self._now()

    def lap(self) -> float:
        started, self.started = self.started, self._now()
        return self.started - started

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _check_mask(mask: np.ndarray | Tensor, size: tuple[int, int]) -> Tensor:
    mask = mask if isinstance(mask, Tensor) else torch.tensor(mask)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: expected bool, got {mask.dtype}")
    if tuple(mask.shape) != size:
        raise ValueError(f"mask: expected shape {list(size)} to match the photo, got {list(mask.shape)}")
    return mask


def _reduce_mask(mask: Tensor, map_size: torch.Size) -> Tensor:
    """Photo mask [H, W] to map mask [1, h, w]: True where any pixel of the cell is."""
    return F.adaptive_max_pool2d(mask.float()[None], tuple(map_size)) > 0
