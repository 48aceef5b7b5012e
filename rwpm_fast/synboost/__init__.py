"""SynBoost and Image Resynthesis++: anomaly scores from how a photo differs from a synthesis of its segmentation.

``uncertainty`` (maps of the segmentation, and of a photo against its synthesis, by the ``features`` of ``vgg`` or of
another network) -> ``synthesis`` (an image from a segmentation, by ``ccfpse`` or by ``light_generator``, which
``generator_training`` trains) -> ``dissimilarity`` (network that compares the two) -> ``ensemble`` (one score of four
maps); ``labels`` makes the labels to train on.
``pipeline`` is the chain from a photo to its score, ``methods`` loads it, ``scorer`` makes it a scorer like any other,
with or without the walk, and ``estimator`` the function that Fishyscapes' evaluation calls.

>>> from rwpm_fast import Scorer, networks, synboost
>>> pipeline = synboost.load("synboost", Scorer(networks.load("compact")))
>>> scorer = synboost.SynBoostScorer(pipeline)

Source: Pixel-wise Anomaly Detection in Complex Driving Scenes (Di Biase et al., CVPR 2021, arXiv 2103.05445).
"""

from __future__ import annotations

from .dissimilarity import DissimilarityNet
from .estimator import fishyscapes_estimator
from .features import NetworkFeatures
from .light_generator import LightSynthesis
from .methods import METHODS, load
from .pipeline import Comparison, Seconds, SynBoost, SynBoostResult
from .scorer import SynBoostPrediction, SynBoostScorer
from .synthesis import CCFPSESynthesis
from .vgg import VGG19

__all__ = [
    "METHODS",
    "VGG19",
    "CCFPSESynthesis",
    "Comparison",
    "DissimilarityNet",
    "LightSynthesis",
    "NetworkFeatures",
    "Seconds",
    "SynBoost",
    "SynBoostPrediction",
    "SynBoostResult",
    "SynBoostScorer",
    "fishyscapes_estimator",
    "load",
]
