"""Metrics of anomaly segmentation: exact over pooled pixels, binned as SMIYC does it, and its component metrics."""

from .components import TRACKS, ComponentMetrics, ComponentResult, component_metrics
from .pixel import FPR_RULES, Curve, PixelMetrics, PixelResult, pixel_metrics
from .smiyc import BinnedPixelMetrics, BinnedPixelResult

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
    "component_metrics",
    "pixel_metrics",
]
