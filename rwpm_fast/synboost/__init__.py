"""SynBoost and Image Resynthesis++: anomaly scores from how a photo differs from a synthesis of its segmentation.

``uncertainty`` (maps of the segmentation, and of a photo against its synthesis, by the ``features`` of ``vgg`` or of
another network) -> ``synthesis`` (an image from a segmentation, by ``ccfpse`` or by ``light_generator``, which
``generator_training`` trains) -> ``dissimilarity`` (network that compares the two) -> ``ensemble`` (one score of four
maps, whose weights ``tuning`` finds); ``labels`` makes the labels to train on.
``pipeline`` is the chain from a photo to its score, ``methods`` loads it, of released files or of what ``training_run``
left in a folder (``trained``), ``scorer`` makes it a scorer like any other, with or without the walk, ``timing``
measures its modules, and ``estimator`` is the function that Fishyscapes' evaluation calls.

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
from .timing import measure_chains, untrained_chain
from .tuning import EnsembleRow, compare_ensembles, ensemble_maps, learned_weights, tuned_weights
from .vgg import VGG19

__all__ = [
    "METHODS",
    "VGG19",
    "CCFPSESynthesis",
    "Comparison",
    "DissimilarityNet",
    "EnsembleRow",
    "LightSynthesis",
    "NetworkFeatures",
    "Seconds",
    "SynBoost",
    "SynBoostPrediction",
    "SynBoostResult",
    "SynBoostScorer",
    "compare_ensembles",
    "ensemble_maps",
    "fishyscapes_estimator",
    "learned_weights",
    "load",
    "measure_chains",
    "tuned_weights",
    "untrained_chain",
]
