"""Metrics of anomaly segmentation: exact over pooled pixels, binned as SMIYC does it, and its component metrics.

Of embeddings: how tight each class is, and how far it is from the others.
"""

from .components import TRACKS, ComponentMetrics, ComponentResult, component_metrics
from .pixel import FPR_RULES, Curve, PixelMetrics, PixelResult, pixel_metrics
from .smiyc import BinnedPixelMetrics, BinnedPixelResult
from .tightness import Tightness, class_tightness

__all__ = [
    "FPR_RULES",
    "TRACKS",
    "BinnedPixelMetrics",
    "BinnedPixelResult",
    "ComponentMetrics",
    "ComponentResult",
    "Curve",
    "PixelMetrics",
    "PixelResult",
    "Tightness",
    "class_tightness",
    "component_metrics",
    "pixel_metrics",
]
