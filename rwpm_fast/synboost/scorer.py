"""SynBoost and Image Resynthesis++ as a scorer like any other, alone or with the walk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks import MaskLogits
from ..ops.stopwatch import Stopwatch
from ..scoring.prediction import Prediction, average_views
from ..scoring.scorer import Analysis, Embedded, MapWalk, Scorer
from .identity import part_identity
from .methods import DISSIMILARITY, score_names
from .pipeline import SynBoost, SynBoostResult


@dataclass(frozen=True, eq=False)
class SynBoostPrediction(Prediction):
    """Prediction of a segmentation network, and what the chain made of it.

    Attributes:
        method: name of the chain's score.
        segmented: prediction of the segmentation network, whose scores are there too.
        result: what the chain made of it; ``result.seconds.network`` is 0.
        walked_score: [H, W] in 0..1, the chain's score after its walk; None without one.
    """

    method: str
    segmented: Prediction
    result: SynBoostResult
    walked_score: Tensor | None = None

    @property
    def value_map(self) -> Tensor:
        return self.segmented.value_map

    @property
    def full_logits(self) -> Tensor:
        return self.segmented.full_logits

    @property
    def segmentation(self) -> Tensor:
        return self.result.segmentation

    def unchecked_score(self, name: str) -> Tensor:
        if name == self.method:
            return self.result.score if self.walked_score is None else self.walked_score
        if name == DISSIMILARITY:
            probability = self.result.probability[None, None]
            return F.interpolate(probability, self.size, mode="bilinear", align_corners=False)[0, 0].float()
        return self.segmented.score(name)


class SynBoostScorer(Scorer):
    """Score photos by the chain of :class:`rwpm_fast.synboost.SynBoost`, without the walk as published or with it.

    Its scores are the method's own, ``"synboost"`` of a dissimilarity network that reads dispersion maps and
    ``"resynthesis"`` of one without; ``"dissimilarity"``, that network's probability of an anomaly; and all of
    :data:`rwpm_fast.scores.SCORES`, of the segmentation.

    The walk combines with the chain in two ways. Where embeddings, logits or masks walk, segmentation and maps are
    those of the walked logits. With ``walk_values="score"`` the chain's score walks after all else: averaged over the
    area of each pixel of the embedding map, walked as a map of one channel on the graph of the embeddings, and enlarged
    by bilinear interpolation. Rows of the walk's matrix are averages, so that a map in [0, 1] stays there. The other
    scores are those without a walk then.

    The chain runs once for each photo and walk, whatever the number of scores; scorers of one pipeline that start from
    one :class:`rwpm_fast.scoring.scorer.Embedded` share that of the segmentation without a walk.

    Args:
        pipeline: the chain; its segmentation scorer gives the network, and has no walk of its own.
        score: one of :attr:`score_names`; None for the method's.
        walk: see :class:`rwpm_fast.Scorer`; None scores as published.
        walk_values: see :class:`rwpm_fast.Scorer`, or ``"score"``.
        calibrated: see :class:`rwpm_fast.Scorer`; it is about the scores of the segmentation. The chain's are
            probabilities, and stay as they are.
        walk_padding: see :class:`rwpm_fast.Scorer`.

    Raises:
        TypeError: the pipeline is no SynBoost.
        ValueError: its segmentation has a walk, or see :class:`rwpm_fast.Scorer`.

    Source: SynBoost (Di Biase et al., CVPR 2021) for the chain; no publication has its combination with the walk.

    Example:
        >>> segmentation = Scorer(networks.load("compact"))
        >>> scorer = SynBoostScorer(synboost.load("synboost", segmentation))
        >>> scorer(read_image("street.jpg")).score  # [H, W] in 0..1
    """

    WALK_VALUES = (*Scorer.WALK_VALUES, "score")

    def __init__(
        self,
        pipeline: SynBoost,
        score: str | None = None,
        walk: MapWalk | None = None,
        *,
        walk_values: str = "auto",
        calibrated: bool = False,
        walk_padding: bool = True,
    ) -> None:
        if not isinstance(pipeline, SynBoost):
            raise TypeError(
                f"pipeline: expected a SynBoost, got {type(pipeline).__name__}; make one by rwpm_fast.synboost.load"
            )
        if pipeline.segmentation.walk is not None:
            raise ValueError("pipeline: expected a segmentation without a walk; give the walk to the SynBoostScorer")
        self.pipeline = pipeline
        settings: dict[str, Any] = {"calibrated": calibrated, "walk_padding": walk_padding}
        network = pipeline.segmentation.network
        super().__init__(network, score or self.method, walk, walk_values=walk_values, **settings)

    @property
    def method(self) -> str:
        """The method's name, which is that of its score: ``"synboost"`` or ``"resynthesis"``."""
        return "resynthesis" if self.pipeline.dissimilarity.dispersion_encoder is None else "synboost"

    @property
    def score_names(self) -> tuple[str, ...]:
        return score_names(self.method)

    def identity(self) -> dict[str, Any]:
        pipeline = self.pipeline
        parts = {name: getattr(pipeline, name) for name in ("synthesis", "dissimilarity", "features")}
        return {
            "method": self.method,
            "chain": {
                **{name: part_identity(part) for name, part in parts.items()},
                "weights": list(pipeline.weights),
                "minmax": pipeline.minmax,
                "quantized": pipeline.quantized,
                "size": list(pipeline.size),
                "precision": pipeline.precision,
            },
        }

    @torch.inference_mode()
    def analyze_embedded(self, embedded: Embedded) -> Analysis:
        analysis = super().analyze_embedded(embedded)
        prediction = analysis.walked
        assert isinstance(prediction, SynBoostPrediction)
        analysis = replace(analysis, chain_seconds=sum(prediction.result.seconds))
        if self.walk is None or self._walks_segmentation:
            return analysis
        watch = Stopwatch(embedded.embedding_map.device)
        walked = replace(prediction, walked_score=self._walked(prediction.result.score, embedded))
        return replace(analysis, walked=walked, walk_seconds=watch.lap())

    def predict(self, logits: Tensor | MaskLogits, embedded: Embedded, *, walked: bool) -> Prediction:
        segmented = super().predict(logits, embedded, walked=walked)
        result = None if walked else embedded.shared.get(self.pipeline)
        if result is None:
            analysis = Analysis(self, embedded, segmented, network_seconds=0.0, walk_seconds=0.0)
            result = self.pipeline.judge(self.pipeline.compare(embedded.photo.numpy(), analysis))
            if not walked:
                embedded.shared[self.pipeline] = result
        return SynBoostPrediction(segmented.size, segmented.edges, self.method, segmented, result)

    def _walked(self, score: Tensor, embedded: Embedded) -> Tensor:
        """Walk a score map [H, W] in 0..1 on the photo's graph."""
        walk = self._walk_on(embedded)
        assert walk is not None
        geometry = embedded.geometry
        views = [score, score.flip(-1)] if geometry.mirrored else [score]
        walked = walk(geometry.to_map(torch.stack(views)[:, None]))
        # The rows' sums are 1 but for rounding.
        return average_views(geometry.to_image(walked.clamp(0, 1))[:, 0]).float()

    @property
    def _walks_segmentation(self) -> bool:
        return super()._walks_segmentation and self._walks != "score"
