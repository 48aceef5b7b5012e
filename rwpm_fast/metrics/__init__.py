"""Metrics of anomaly segmentation: exact over pooled pixels, and in the binned form of the SMIYC benchmark."""

from .pixel import FPR_RULES, PixelMetrics, PixelResult
from .smiyc import BinnedPixelMetrics, BinnedPixelResult

__all__ = ["FPR_RULES", "BinnedPixelMetrics", "BinnedPixelResult", "PixelMetrics", "PixelResult"]
