"""Metrics of anomaly segmentation: exact over pooled pixels, binned as SMIYC does it, its component metrics, and the
average precision of objects as OoDIS computes it.

Of embeddings: how tight each class is, and how far it is from the others. Of sequences: how steady maps are along the
motion, and how accurate they are at the time at which they arrive.
"""

from .components import TRACKS, ComponentMetrics, ComponentResult, component_metrics
from .consistency import ConsistencyResult, TemporalConsistency
from .flow import optical_flow, warp
from .instances import InstanceMetrics, InstanceResult
from .pixel import FPR_RULES, Curve, PixelMetrics, PixelResult, pixel_metrics
from .smiyc import BinnedPixelMetrics, BinnedPixelResult
from .streaming import StreamingAccuracy, StreamingResult, one_worker
from .tightness import Tightness, class_tightness

__all__ = [
    "FPR_RULES",
    "TRACKS",
    "BinnedPixelMetrics",
    "BinnedPixelResult",
    "ComponentMetrics",
    "ComponentResult",
    "ConsistencyResult",
    "Curve",
    "InstanceMetrics",
    "InstanceResult",
    "PixelMetrics",
    "PixelResult",
    "StreamingAccuracy",
    "StreamingResult",
    "TemporalConsistency",
    "Tightness",
    "class_tightness",
    "component_metrics",
    "one_worker",
    "optical_flow",
    "pixel_metrics",
    "warp",
]
