"""Class ids of a rendered scene: the Cityscapes train ids, and two more."""

from __future__ import annotations

ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN = range(10)
SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(10, 19)
UNKNOWN, EGO = 255, 254  # an object of none of these classes, and the hood of the ego vehicle
