"""The layout of a road: its width, surface, bend, sidewalks and intersections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROAD_KINDS = {"city": 0.52, "suburb": 0.18, "country": 0.15, "highway": 0.15}


@dataclass(frozen=True)
class Road:
    """A road; x runs to the right of the center line, z along the road, in meters.

    Attributes:
        kind: a key of ``ROAD_KINDS``.
        lane_width: of one lane.
        lanes: number of lanes to the left of the center line, for oncoming traffic, and to the right.
        parking: widths of the strips for parked cars, left and right; 0 for none.
        sidewalk: width of the sidewalks, 0 for none.
        front_yard: distance from the sidewalk to the houses.
        surface: "asphalt", "concrete", "cobblestone", "gravel" or "dirt".
        curvature: of the bend in 1 / meters, > 0 to the right.
        bend_start: z of the bend.
        intersection: z of the center of a crossing road, or None.
        intersection_width: width of the crossing road.
        crosswalk: z of the near edge of a crosswalk, or None.
        tram_tracks: x of the centers of tram tracks.
    """

    kind: str
    lane_width: float
    lanes: tuple[int, int]
    parking: tuple[float, float]
    sidewalk: float
    front_yard: float
    surface: str
    curvature: float
    bend_start: float
    intersection: float | None
    intersection_width: float
    crosswalk: float | None
    tram_tracks: tuple[float, ...]

    @property
    def edges(self) -> tuple[float, float]:
        """x of the left and of the right edge of the road."""
        (left, right), (left_parking, right_parking) = self.lanes, self.parking
        return -(left * self.lane_width + left_parking), right * self.lane_width + right_parking

    @property
    def facades(self) -> tuple[float, float]:
        """x of the facades of the houses, left and right."""
        left, right = self.edges
        return left - self.sidewalk - self.front_yard, right + self.sidewalk + self.front_yard

    def bend_offset(self, z: ArrayLike) -> NDArray:
        """Return how far right the bend has moved the center line at z, in meters; the bend is 150 m long."""
        within = np.clip(np.asarray(z) - self.bend_start, 0, 150)
        return self.curvature * within * (np.maximum(np.asarray(z) - self.bend_start, 0) - within / 2)

    def edge_distance(self, x: ArrayLike) -> NDArray:
        """Return the distance to the nearer edge of the road in meters, negative on the road."""
        left, right = self.edges
        return np.maximum(left - np.asarray(x), np.asarray(x) - right)

    def in_intersection(self, z: ArrayLike, margin: float = 0.0) -> NDArray:
        """Return whether z lies on the crossing road, or within ``margin`` meters of it."""
        if self.intersection is None:
            return np.zeros(np.shape(z), bool)
        return abs(np.asarray(z) - self.intersection) < self.intersection_width / 2 + margin

    def lane_centers(self, side: int) -> NDArray:
        """Return x of the centers of the lanes on a side (-1 left, 1 right), the innermost first."""
        return side * (np.arange(self.lanes[side > 0]) + 0.5) * self.lane_width


def draw_road(rng: np.random.Generator) -> Road:
    """Draw the road of a scene."""
    kind = str(rng.choice(list(ROAD_KINDS), p=list(ROAD_KINDS.values())))
    parking, sidewalk, front_yard = (0.0, 0.0), 0.0, 0.0
    intersection, crosswalk = None, None
    tram_tracks: tuple[float, ...] = ()
    surface = "asphalt"
    if kind == "city":
        lanes = int(rng.choice([1, 2], p=[0.7, 0.3])), int(rng.choice([1, 2], p=[0.7, 0.3]))
        lane_width, sidewalk = rng.uniform(2.8, 3.6), rng.uniform(1.6, 5.0)
        front_yard = 0.0 if rng.random() < 0.7 else rng.uniform(1, 5)
        parking = tuple(rng.choice([0.0, 2.2], 2, p=[0.4, 0.6]))
        surface = str(rng.choice(["asphalt", "cobblestone", "concrete"], p=[0.8, 0.14, 0.06]))
        if rng.random() < 0.30:
            tram_tracks = ((-lane_width / 2, lane_width / 2), (lane_width / 2,), (-lane_width / 2,))[rng.integers(3)]
    elif kind == "suburb":
        lanes, lane_width, sidewalk = (1, 1), rng.uniform(2.6, 3.4), rng.uniform(1.2, 2.8)
        front_yard, parking = rng.uniform(3, 9), tuple(rng.choice([0.0, 2.1], 2))
        surface = str(rng.choice(["asphalt", "cobblestone", "concrete"], p=[0.8, 0.1, 0.1]))
    elif kind == "country":
        lanes, lane_width, front_yard = (1, 1), rng.uniform(2.1, 3.5), rng.uniform(5, 15)
        surface = str(
            rng.choice(["asphalt", "gravel", "dirt", "cobblestone", "concrete"], p=[0.5, 0.18, 0.18, 0.08, 0.06])
        )
    else:
        count = int(rng.choice([2, 3], p=[0.65, 0.35]))
        lanes, lane_width, front_yard = (count, count), rng.uniform(3.5, 3.8), 14.0
        parking = (rng.uniform(0.5, 3.0),) * 2  # the shoulder
        surface = str(rng.choice(["asphalt", "concrete"], p=[0.75, 0.25]))
    if kind in ("city", "suburb"):
        if rng.random() < 0.45:
            intersection = rng.uniform(22, 60)
        if rng.random() < 0.5:
            crosswalk = intersection - 10 if intersection is not None and rng.random() < 0.8 else rng.uniform(9, 40)
    curvature = rng.normal(0, {"city": 0.0015, "suburb": 0.004, "country": 0.005, "highway": 0.0012}[kind])
    return Road(
        kind=kind,
        lane_width=lane_width,
        lanes=lanes,
        parking=parking,
        sidewalk=sidewalk,
        front_yard=front_yard,
        surface=surface,
        curvature=float(np.clip(curvature, -0.012, 0.012)),
        bend_start=rng.uniform(0, 40),
        intersection=intersection,
        intersection_width=rng.uniform(6, 11),
        crosswalk=crosswalk,
        tram_tracks=tram_tracks,
    )
