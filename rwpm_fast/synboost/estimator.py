"""The estimator that Fishyscapes' evaluation calls: one photo in, one anomaly map out.

Source: the evaluation code of Fishyscapes (Blum et al., IJCV 2021), whose estimators SynBoost's released code follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ..io.arrays import as_array
from .pipeline import SynBoost


def fishyscapes_estimator(pipeline: SynBoost) -> Callable[[Any], Tensor]:
    """Make the function ``estimator_worker`` of a pipeline.

    Args:
        pipeline: scores the photos.

    Returns:
        A function from a photo, [H, W, 3] uint8 RGB, an array or what NumPy converts to one, to its anomaly map,
        [H, W] float32 on the CPU, higher is more anomalous. It raises TypeError for other numbers than uint8,
        ValueError for another shape, and what the pipeline raises.

    Example:
        >>> estimator_worker = fishyscapes_estimator(pipeline)
        >>> estimator_worker(np.zeros((1024, 2048, 3), np.uint8)).shape
        torch.Size([1024, 2048])
    """

    def estimator_worker(image: Any) -> Tensor:
        pixels = as_array("image", image)
        if pixels.dtype != np.uint8:
            raise TypeError(f"image: expected uint8, got {pixels.dtype}")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"image: expected shape [H, W, 3] with at least one pixel, got {list(pixels.shape)}")
        return pipeline(pixels).score.cpu()

    return estimator_worker
