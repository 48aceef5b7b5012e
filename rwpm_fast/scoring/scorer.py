"""Compute the anomaly map of a photo: network, walk, head, up-sampling, score."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import scores
from ..io.arrays import as_array
from ..io.images import as_image
from ..networks import MaskLogits, Network
from ..networks.base import device_of
from ..networks.evaluation_mode import check_evaluation, enter_evaluation
from ..networks.map_size import check_map, image_size
from ..networks.precision import at_least_float32
from ..ops.maps import Walk
from ..ops.settings import is_anchored
from ..ops.stopwatch import Stopwatch
from .geometry import MapGeometry
from .prediction import DensePrediction, MaskPrediction, Prediction


class MapWalk(Protocol):
    """A walk on maps, such as :class:`rwpm_fast.Walk`."""

    @property
    def parts(self) -> int:
        """n of the paper: the map is cut into n x n sub-maps; 1: uncut."""
        ...

    def __call__(self, embedding_map: Tensor, value_map: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Walk values on the graph of an embedding map.

        Args:
            embedding_map: [B, D, h, w].
            value_map: [B, C, h, w]; the embeddings when None.
            mask: [B, h, w] bool, True for pixels of the graph; all when None.

        Returns:
            Walked values, [B, C, h, w].
        """
        ...


class Watch(Protocol):
    """A clock, such as :class:`rwpm_fast.ops.stopwatch.Stopwatch`."""

    def lap(self) -> float:
        """Return the seconds since the last lap."""
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
        score_seconds: time of up-sampling, segmentation and score, with the chain of SynBoost where there is one.
    """

    score: Tensor
    segmentation: Tensor
    map_size: tuple[int, int]
    network_seconds: float
    walk_seconds: float
    score_seconds: float


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embedding map of a photo before any walk, from which all scorers of the same network may start.

    Attributes:
        embedding_map: [V, D, h, w]; V is 2 for a network that also reads the mirror image, else 1.
        context: what else the network's decoder reads.
        mask: [H, W] bool, photo pixels that belong to the graph; None for all.
        geometry: sizes of the photo, of the network's input and of the map.
        seconds: time of pre-processing and network.
        photo: [H, W, 3] uint8, RGB, on the CPU.
        shared: what scorers computed of the photo without a walk and others may use, by what computed it.
    """

    embedding_map: Tensor
    context: Any
    mask: Tensor | None
    geometry: MapGeometry
    seconds: float
    photo: Tensor
    shared: dict[Any, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Analysis:
    """Predictions of a photo without and with the walk, from one pass of the network.

    Attributes:
        scorer: the scorer that ran.
        embedded: the photo before the walk.
        walked: prediction after the walk, or without one if the scorer has none.
        network_seconds: time of pre-processing, network and one head.
        walk_seconds: time of the walk, 0 without one.
        chain_seconds: time of what follows the head in the chain of SynBoost; 0 for other scorers.
    """

    scorer: Scorer
    embedded: Embedded
    walked: Prediction
    network_seconds: float
    walk_seconds: float
    chain_seconds: float = 0.0

    @property
    def embedding_map(self) -> Tensor:
        """The photo's embedding map before the walk, [D, h, w]."""
        return self.embedded.embedding_map[0]

    @cached_property
    def plain(self) -> Prediction:
        """Prediction without the walk."""
        self.scorer.check()
        with torch.inference_mode():
            logits = self.scorer.network.decode(self.embedded.embedding_map, self.embedded.context)
        return self.scorer.predict(logits, self.embedded, walked=False)

    @cached_property
    def own_weights(self) -> Tensor | None:
        """Weight r of every map pixel's own value in the anchored walk, [h, w] in [0, 1]; None without an anchor.

        Of a network that also reads the mirror image, that of the photo itself. It takes about as long as the walk.
        """
        walk = self.scorer.walk
        if not (isinstance(walk, Walk) and is_anchored(walk.settings.anchor, walk.settings.anchor_share)):
            return None
        with torch.inference_mode():
            return walk.own_weights(*self.scorer.graph_of(self.embedded))[0]


class Scorer:
    """Score photos with a network whose pixels walk on their manifold before they are classified.

    Source: Random Walk on Pixel Manifolds (Zeng & Tomite, ECCV 2024). With a linear head the walk may act on the K
    logits in place of the D embedding channels, on the graph of the embeddings: the walk mixes pixels, the head mixes
    channels, and rows that sum to 1 leave a bias as it is, so both give the same map and the logits have fewer
    channels.

    A mask head is linear in the map only in its last layer: the decoder also computes its attention masks from the map.
    Walking the embeddings, as the released code does, changes queries and classes too; walking the masks leaves both.

    A scorer keeps nothing of a photo, so that several threads may use one.

    Args:
        network: put into evaluation mode, in which it must be at each call; photos are moved to its device.
        score: name in :data:`rwpm_fast.scores.SCORES`; None for the score of the network's authors.
        walk: a walk on maps, such as :class:`rwpm_fast.Walk`; None scores without a walk. It computes in at least
            float32, whatever the network's dtype.
        walk_values: what walks: ``"embeddings"``; ``"logits"``, linear heads only; ``"masks"``, the final mask logits
            of mask heads; or ``"auto"``, the logits where the head is linear and else the embeddings, as the published
            code does.
        calibrated: calibrate scores across the sub-maps of a walk with ``parts`` > 1, as the paper does for n > 2.
        walk_padding: whether pixels of the embedding map that cover nothing but padding belong to the graph, as in the
            released code.

    Raises:
        ValueError: unknown score or ``walk_values``, or values that the network's head does not give; also at a call,
            after network or scorer changed.

    Example:
        >>> scorer = Scorer(networks.load("dabnet", "dabnet_cityscapes.npz"), walk=Walk(steps=20))
        >>> scorer(read_image("street.jpg")).score  # [H, W]
    """

    # What ``walk_values`` may be; a subclass may have more.
    WALK_VALUES: tuple[str, ...] = ("auto", "embeddings", "logits", "masks")

    def __init__(
        self,
        network: Network,
        score: str | None = None,
        walk: MapWalk | None = None,
        *,
        walk_values: str = "auto",
        calibrated: bool = False,
        walk_padding: bool = True,
    ) -> None:
        self._always_training = enter_evaluation(network)
        self.network = network
        self.score = network.default_score if score is None else score
        self.walk = walk
        self.walk_values = walk_values
        self.calibrated = calibrated
        self.walk_padding = walk_padding
        self.check()

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that the scorer's predictions compute."""
        return tuple(scores.SCORES)

    def check_score(self, name: str) -> None:
        """Raise ValueError unless a name is one of :attr:`score_names`."""
        scores.check_name(name, self.score_names)

    def identity(self) -> dict[str, Any]:
        """Return what else the scores depend on besides network, score and walk, JSON-ready: for records of results."""
        return {}

    def with_walk(self, walk: MapWalk | None, **settings: Any) -> Scorer:
        """Return a scorer that differs in its walk only.

        Args:
            walk: see :class:`Scorer`; None scores without a walk.
            settings: ``walk_values``, ``calibrated`` and ``walk_padding``, where they are to differ too.

        Raises:
            TypeError: another setting.
            ValueError: see :class:`Scorer`.

        Example:
            >>> plain = scorer.with_walk(None)
        """
        if unknown := settings.keys() - {"walk_values", "calibrated", "walk_padding"}:
            raise TypeError(f"with_walk: expected walk_values, calibrated or walk_padding, got {min(unknown)}")
        other = copy(self)
        vars(other).update(walk=walk, **settings)
        other.check()
        return other

    def check(self) -> None:
        """Check what settings and network promise, at each call, since both may have changed since the last.

        Raises:
            ValueError: a setting is wrong, or does not fit the network.
            RuntimeError: a module of the network is in training mode.
        """
        network, walk_values = self.network, self.walk_values
        self.check_score(self.score)
        if walk_values not in self.WALK_VALUES:
            *others, last = self.WALK_VALUES
            raise ValueError(f"walk_values: expected {', '.join(others)} or {last}, got {walk_values!r}")
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
        check_evaluation("network", network, network.name, self._always_training)

    @torch.inference_mode()
    def __call__(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Scored:
        """Score one photo.

        Args:
            photo: see :meth:`analyze`.
            mask: see :meth:`analyze`.

        Raises:
            TypeError: see :meth:`analyze`.
            ValueError: see :meth:`analyze`.
        """
        analysis = self.analyze(photo, mask)
        watch = Stopwatch(analysis.embedding_map.device)
        prediction = analysis.walked
        return Scored(
            score=prediction.score(self.score),
            segmentation=prediction.segmentation,
            map_size=analysis.embedded.geometry.map_size,
            network_seconds=analysis.network_seconds,
            walk_seconds=analysis.walk_seconds,
            score_seconds=analysis.chain_seconds + watch.lap(),
        )

    def analyze(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Analysis:
        """Run network and walk once; any number of scores, without and with the walk, follow from the result.

        Args:
            photo: a PIL image, an array [H, W, 3] or a tensor [3, H, W] of values in 0..255; see
                :func:`rwpm_fast.io.images.as_image`.
            mask: [H, W] bool, True for photo pixels that belong to the graph; None for all. A pixel of the embedding
                map belongs if any photo pixel under it does. The others keep their values and are scored all the same.

        Raises:
            TypeError: a photo or mask of another type.
            ValueError: a photo of another shape or range, a mask of another size, or a network whose embedding map does
                not follow from the photo's size and its stride.
            RuntimeError: a module of the network is in training mode.
        """
        return self.analyze_embedded(self.embed(photo, mask))

    @torch.inference_mode()
    def embed(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> Embedded:
        """Run the network up to the embedding map, for :meth:`analyze_embedded` of this and other scorers.

        Args:
            photo: see :meth:`analyze`.
            mask: see :meth:`analyze`.

        Raises:
            TypeError: see :meth:`analyze`.
            ValueError: see :meth:`analyze`.
            RuntimeError: see :meth:`analyze`.
        """
        self.check()
        pixels = torch.tensor(as_image(photo))  # [H, W, 3]
        size = (pixels.shape[0], pixels.shape[1])
        device = device_of(self.network)
        if mask is not None:
            mask = _check_mask(mask, size).to(device)
        return self.encode(pixels, mask, Stopwatch(device))

    def encode(self, pixels: Tensor, mask: Tensor | None, watch: Watch) -> Embedded:
        """Run the network up to the embedding map, on a photo that is checked.

        With :meth:`decode` it is what a compiler or an exporter traces: no branch depends on a size or on a value.

        Args:
            pixels: [H, W, 3] uint8.
            mask: [H, W] bool, on the network's device, or None.
            watch: started before.
        """
        network = self.network
        photos = pixels.to(device_of(network)).permute(2, 0, 1)[None]
        if network.mirrored:
            photos = torch.cat([photos, photos.flip(-1)])
        images = network.preprocess(photos)
        embedding_map, context = network.encode(images)
        size = (pixels.shape[0], pixels.shape[1])
        if not torch.compiler.is_compiling():
            check_map(image_size(images) or network.padded_size(size), embedding_map, network.stride)
        geometry = MapGeometry.from_network(network, size, (embedding_map.shape[-2], embedding_map.shape[-1]))
        return Embedded(embedding_map, context, mask, geometry, watch.lap(), pixels)

    @torch.inference_mode()
    def analyze_embedded(self, embedded: Embedded) -> Analysis:
        """Walk and classify an embedded photo.

        Args:
            embedded: result of :meth:`embed` of this scorer, or of another one with the same network.

        Raises:
            RuntimeError: a module of the network is in training mode.
        """
        self.check()
        prediction, head_seconds, walk_seconds = self.decode(embedded, Stopwatch(embedded.embedding_map.device))
        return Analysis(self, embedded, prediction, embedded.seconds + head_seconds, walk_seconds)

    def decode(self, embedded: Embedded, watch: Watch) -> tuple[Prediction, float, float]:
        """Walk and classify an embedded photo; see :meth:`encode`.

        Args:
            embedded: result of :meth:`encode`.
            watch: started before.

        Returns:
            The prediction, the seconds of the head and those of the walk.
        """
        network, embedding_map = self.network, embedded.embedding_map
        walk = self._walk_on(embedded) if self._walks_segmentation else None
        walk_seconds = 0.0
        if walk is not None and self._walks == "embeddings":
            embedding_map = walk(None).to(embedding_map.dtype)
            walk_seconds = watch.lap()
        logits = network.decode(embedding_map, embedded.context)
        head_seconds = watch.lap()
        if walk is not None and self._walks != "embeddings":
            if isinstance(logits, MaskLogits):
                logits = logits._replace(mask_logits=walk(logits.mask_logits))
            else:
                logits = walk(logits)
            walk_seconds = watch.lap()
        return self.predict(logits, embedded, walked=walk is not None), head_seconds, walk_seconds

    def predict(self, logits: Tensor | MaskLogits, embedded: Embedded, *, walked: bool) -> Prediction:
        """Wrap the output of the network's decoder as the prediction of a photo.

        Args:
            logits: class logits [1, K, h, w], or the masks of a mask head.
            embedded: the photo.
            walked: whether they, or the embeddings behind them, were walked; then scores are calibrated across the
                sub-maps if so set.
        """
        geometry = embedded.geometry
        edges = geometry.image_edges(self.walk.parts) if walked and self.calibrated and self.walk is not None else None
        if isinstance(logits, MaskLogits):
            return MaskPrediction(geometry.image_size, edges, logits, geometry.padded_size, geometry.input_size)
        align_corners = self.network.align_corners
        return DensePrediction(
            geometry.image_size, edges, logits[0], align_corners, geometry.padded_size, geometry.input_size
        )

    def graph_of(self, embedded: Embedded) -> tuple[Tensor, Tensor | None]:
        """Return what a photo's graph is made of: embeddings [V, D, h, w], and mask [V, h, w] bool or None for all."""
        embeddings = at_least_float32(embedded.embedding_map)
        mask = embedded.geometry.graph_mask(embedded.mask, padding=self.walk_padding)
        return embeddings, None if mask is None else mask.to(embeddings.device)

    def _walk_on(self, embedded: Embedded) -> Callable[[Tensor | None], Tensor] | None:
        """Function that walks values [V, C, h, w], or the embeddings for None, on the photo's graph; None without a
        walk."""
        walk = self.walk
        if walk is None:
            return None
        embeddings, mask = self.graph_of(embedded)
        return lambda values: walk(
            embeddings, value_map=None if values is None else at_least_float32(values), mask=mask
        )

    @property
    def _walks_segmentation(self) -> bool:
        """Whether there is a walk of what the segmentation is computed of."""
        return self.walk is not None

    @property
    def _walks(self) -> str:
        """What walks: embeddings, logits or masks."""
        if self.walk_values != "auto":
            return self.walk_values
        return "logits" if self.network.linear_head else "embeddings"


def _check_mask(mask: np.ndarray | Tensor, size: tuple[int, int]) -> Tensor:
    # Copied, since torch takes neither negative strides nor, without a warning, arrays that cannot be written to.
    mask = mask if isinstance(mask, Tensor) else torch.from_numpy(as_array("mask", mask).copy())
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: expected bool, got {mask.dtype}")
    if tuple(mask.shape) != size:
        raise ValueError(f"mask: expected shape {list(size)} to match the photo, got {list(mask.shape)}")
    return mask
