"""From a photo to an anomaly map: network, walk, head, up-sampling, score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import scores
from ..io.images import as_image
from ..networks import MaskLogits, Network
from .padding import graph_mask, photo_edges
from .prediction import DensePrediction, MaskPrediction, Prediction


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
class Embedded:
    """A photo as the network embeds it, before any walk; all scorers of that network may start from it.

    Attributes:
        embedding_map: [V, D, h, w]; V is 2 for a network that also sees the mirror image, else 1.
        context: what else the network's decoder reads.
        mask: [H, W] bool, photo pixels that belong to the graph; None for all.
        size: height and width of the photo.
        seconds: time of pre-processing and network.
    """

    embedding_map: Tensor
    context: Any
    mask: Tensor | None
    size: tuple[int, int]
    seconds: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """One network pass over a photo, seen without and with the walk.

    Attributes:
        scorer: the scorer that ran.
        embedded: the photo before the walk.
        walked: prediction after the walk, or without one if the scorer has none.
        network_seconds: time of pre-processing, network and one head.
        walk_seconds: time of the walk, 0 without one.
    """

    scorer: Scorer
    embedded: Embedded
    walked: Prediction
    network_seconds: float
    walk_seconds: float

    @property
    def embedding_map(self) -> Tensor:
        """The photo's embedding map before the walk, [D, h, w]."""
        return self.embedded.embedding_map[0]

    @cached_property
    def plain(self) -> Prediction:
        """Prediction without the walk."""
        with torch.inference_mode():
            logits = self.scorer.network.decode(self.embedded.embedding_map, self.embedded.context)
        return self.scorer.predict(logits, self.embedded.size, edges=None)


class Scorer:
    """Anomaly scores of photos by a network whose pixels walk on their manifold before they are classified.

    Source: Random Walk on Pixel Manifolds (Zeng & Tomite, ECCV 2024). With a linear head the walk may act on the K
    logits in place of the D embedding channels, on the graph of the embeddings: it mixes pixels, the head mixes
    channels, and rows that sum to 1 leave a bias alone, so both give one map and the logits are fewer.

    A mask head is linear in the map only at its end: inside, the map also makes the attention masks of the decoder.
    Walking the embeddings, as the released code does, moves queries and classes too; walking the masks leaves both.

    Args:
        network: put into evaluation mode; photos go to the device it is on.
        score: name in ``rwpm_fast.scores``; None for the one of the network's authors.
        walk: ``rwpm_fast.Walk`` or alike; None scores without a walk. It computes in at least float32, whatever the
            network's dtype.
        walk_values: what walks: ``"embeddings"``; ``"logits"``, linear heads only; ``"masks"``, the final mask logits
            of mask heads; or ``"auto"``, which takes the logits where the head is linear and else the embeddings, as
            the published code does.
        calibrated: calibrate scores across the sub-maps of a walk with ``parts`` > 1, as the paper does for n > 2.
        walk_padding: pixels of the embedding map that show nothing but padding belong to the graph, as in the released
            code.

    Raises:
        ValueError: unknown score or ``walk_values``, or values that the network's head does not give.

    Example:
        >>> scorer = Scorer(networks.load("dabnet", "dabnet_cityscapes.npz"), walk=Walk(steps=20))
        >>> scorer(read_image("street.jpg")).score  # [H, W]
    """

    def __init__(
        self,
        network: Network,
        score: str | None = None,
        walk: MapWalk | None = None,
        *,
        walk_values: Literal["auto", "embeddings", "logits", "masks"] = "auto",
        calibrated: bool = False,
        walk_padding: bool = True,
    ) -> None:
        score = network.default_score if score is None else score
        scores.get(score)
        if walk_values not in ("auto", "embeddings", "logits", "masks"):
            raise ValueError(f"walk_values: expected auto, embeddings, logits or masks, got {walk_values!r}")
        if walk_values == "logits" and not network.linear_head:
            raise ValueError(
                f"walk_values: logits may walk only behind a linear head, which {network.name} has not; "
                "use embeddings or auto"
            )
        if walk_values == "masks" and not network.mask_head:
            raise ValueError(
                f"walk_values: masks may walk only behind a mask head, which {network.name} has not; "
                "use embeddings or auto"
            )
        self.network = network.eval()
        self.score = score
        self.walk = walk
        self.walk_values = walk_values
        self.calibrated = calibrated
        self.walk_padding = walk_padding

    @torch.inference_mode()
    def __call__(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Scored:
        """Score one photo; the arguments are those of ``analyze``."""
        analysis = self.analyze(photo, mask)
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

    def analyze(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Analysis:
        """Run network and walk once; any number of scores, without and with the walk, follow from the result.

        Args:
            photo: anything ``rwpm_fast.io.images.as_image`` takes.
            mask: [H, W] bool, True for photo pixels that belong to the graph; None for all. A pixel of the embedding
                map belongs if any photo pixel under it does. The others keep their values and are scored all the same.

        Raises:
            TypeError: a photo or mask of another type.
            ValueError: a photo that ``as_image`` refuses, or a mask of another size.
        """
        return self.analyze_embedded(self.embed(photo, mask))

    @torch.inference_mode()
    def embed(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Embedded:
        """Run the network up to the embedding map, for ``analyze_embedded`` of this and other scorers of the network.

        Arguments and errors are those of ``analyze``.
        """
        network = self.network
        pixels = torch.tensor(as_image(photo))  # [H, W, 3]
        size = tuple(pixels.shape[:2])
        device = device_of(network)
        if mask is not None:
            mask = _check_mask(mask, size).to(device)

        watch = _Stopwatch(device)
        photos = pixels.to(device).permute(2, 0, 1)[None]
        if network.mirrored:
            photos = torch.cat([photos, photos.flip(-1)])
        embedding_map, context = network.encode(network.preprocess(photos))
        return Embedded(embedding_map, context, mask, size, watch.lap())

    @torch.inference_mode()
    def analyze_embedded(self, embedded: Embedded) -> Analysis:
        """Walk and classify what ``embed`` gave, of this scorer or of another one with the same network."""
        network, embedding_map = self.network, embedded.embedding_map
        walk = None if self.walk is None else self._walk_of(embedded)
        watch = _Stopwatch(embedding_map.device)
        walk_seconds = 0.0
        if walk is not None and self._walks == "embeddings":
            embedding_map = walk(None).to(embedding_map.dtype)
            walk_seconds = watch.lap()
        logits = network.decode(embedding_map, embedded.context)
        head_seconds = watch.lap()
        if walk is not None and self._walks == "logits":
            logits = walk(logits)
        elif walk is not None and self._walks == "masks":
            logits = logits._replace(mask_logits=walk(logits.mask_logits))
        walk_seconds += watch.lap()
        edges = None
        if self.calibrated and self.walk is not None:
            edges = photo_edges(network, embedded.size, tuple(embedding_map.shape[-2:]), self.walk.settings.parts)
        prediction = self.predict(logits, embedded.size, edges=edges)
        return Analysis(self, embedded, prediction, embedded.seconds + head_seconds, walk_seconds if walk else 0.0)

    def predict(
        self, logits: Tensor | MaskLogits, size: tuple[int, int], *, edges: tuple[list[int], list[int]] | None
    ) -> Prediction:
        """The prediction for a photo of that size from what the network's decoder gives; ``edges`` as of it."""
        network = self.network
        if isinstance(logits, MaskLogits):
            return MaskPrediction(size, edges, logits, network.padded_size(size), network.input_size(size))
        return DensePrediction(size, edges, logits[0], network.align_corners)

    def _walk_of(self, embedded: Embedded) -> Callable[[Tensor | None], Tensor]:
        """The walk on the photo's graph: values [V, C, h, w], or None for the embeddings, to walked values."""
        embeddings = _at_least_float32(embedded.embedding_map)
        mask = graph_mask(
            self.network, embedded.size, tuple(embeddings.shape[-2:]), embedded.mask, padding=self.walk_padding
        )
        mask = None if mask is None else mask.to(embeddings.device)
        return lambda values: self.walk(
            embeddings, value_map=None if values is None else _at_least_float32(values), mask=mask
        )

    @property
    def _walks(self) -> str:
        """What walks: embeddings, logits or masks."""
        if self.walk_values != "auto":
            return self.walk_values
        return "logits" if self.network.linear_head else "embeddings"


def device_of(network: Network) -> torch.device:
    """The device that a network's parameters are on; the CPU for a network without any."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


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
