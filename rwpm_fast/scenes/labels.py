"""Train ids of Cityscapes by name, the two more that the painters use, and the three of a ground truth."""

from __future__ import annotations

ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN = range(10)
SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(10, 19)
UNKNOWN, EGO = 255, 254  # what no class is for, and our own car at the lower edge

INLIER, ANOMALY, VOID = 0, 1, 255
