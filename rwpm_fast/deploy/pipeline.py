"""A scorer as a module from photo to score, traced by compilers and exporters into one graph for photos of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..scoring.scorer import Scorer


class Unmeasured:
    """A watch that reads nothing, for code that is traced: times taken while tracing say nothing of a run."""

    def lap(self) -> float:
        """Return 0."""
        return 0.0


def check_classes(scorer: Scorer) -> None:
    """Raise ValueError if a scorer has more classes than uint8 has numbers."""
    if (classes := len(scorer.network.classes)) > 256:
        raise ValueError(f"scorer: expected up to 256 classes for uint8, got {classes}")


class Pipeline(nn.Module):
    """Photo to anomaly score and segmentation: pre-processing, network, walk, head, up-sampling, score.

    It computes what the scorer does, by the same code, but checks nothing: neither the photo nor whether the score is
    finite nor whether the network is in evaluation mode, since a traced graph cannot. Whoever runs it checks, as
    :class:`rwpm_fast.Predictor` does.

    Args:
        scorer: of a network and, if any, a walk; its network is put to use as it is, not copied.
        one_pass: compute score and segmentation by the operator ``rwpm::score_map`` where it serves, several times
            faster than the separate steps; within rounding of the scorer.

    Raises:
        TypeError: another kind of scorer, such as SynBoost's.
        ValueError: what the scorer does depends on the photo's size: it calibrates scores across sub-maps, or leaves
            padding out of the graph; or it has more than 256 classes.

    Example:
        >>> pipeline = Pipeline(Scorer(networks.load("compact"), walk=Walk()))
        >>> score, segmentation = pipeline(torch.from_numpy(read_image("street.jpg")))
    """

    def __init__(self, scorer: Scorer, *, one_pass: bool = False) -> None:
        super().__init__()
        if type(scorer) is not Scorer:
            raise TypeError(
                f"scorer: expected a rwpm_fast.Scorer of a network and a walk, got {type(scorer).__name__}, which is "
                "more than one graph; run it by rwpm_fast.Predictor(scorer)"
            )
        if scorer.calibrated and scorer.walk is not None and scorer.walk.parts > 1:
            raise ValueError("scorer: calibrated scores depend on the photo's size; give calibrated=False, or parts=1")
        if scorer.walk is not None and not scorer.walk_padding and scorer.network.padded_to > 1:
            raise ValueError("scorer: which padding is left out depends on the photo's size; give walk_padding=True")
        check_classes(scorer)
        self.network = scorer.network
        self.scorer = scorer
        self.one_pass = one_pass

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Score one photo.

        Args:
            photo: [H, W, 3] uint8, RGB, contiguous, see :func:`rwpm_fast.deploy.photos.check_photo`.

        Returns:
            Score [H, W] float32, higher is more anomalous, and index of the likeliest class [H, W] uint8.
        """
        scorer = self.scorer
        with torch.no_grad():
            prediction, _, _ = scorer.decode(scorer.encode(photo, None, Unmeasured()), Unmeasured())
            return prediction.score_and_segmentation(scorer.score, one_pass=self.one_pass)
