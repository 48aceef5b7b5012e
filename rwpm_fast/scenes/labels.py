"""Class ids of a rendered scene: the Cityscapes train ids, and two more; and the labels of anomalies that they mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.frames import ANOMALY, INLIER, VOID

ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN = range(10)
SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(10, 19)
UNKNOWN, EGO = 255, 254  # an object of none of these classes, and the hood of the ego vehicle


def anomaly_labels(class_map: NDArray) -> NDArray:
    """Return labels [H, W] uint8 of a class map [H, W]: 1 unknown objects, 255 the ego vehicle's hood, else 0."""
    labels = np.full(class_map.shape, INLIER, np.uint8)
    labels[class_map == UNKNOWN] = ANOMALY
    labels[class_map == EGO] = VOID
    return labels
