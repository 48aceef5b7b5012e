"""The plan of a road: how wide it is, what it is made of, where it bends and what borders it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = {"city": 0.52, "suburb": 0.18, "country": 0.15, "motorway": 0.15}


@dataclass(frozen=True)
class Road:
    """A road; x runs to the right of the middle line, z along the road, in meters.

    Attributes:
        kind: a key of ``KINDS``.
        lane: width of a lane.
        lanes: number of lanes to the left of the middle line, which come towards us, and to the right.
        parking: width of the strip for parked cars on each side, 0 for none.
        walk: width of the sidewalks, 0 for none.
        yard: meters from the sidewalk to the houses.
        surface: "asphalt", "concrete", "cobbles", "gravel" or "dirt".
        bend: curvature in 1 / meters, > 0 to the right.
        bend_from: z where the bend starts.
        crossing: z where another road crosses, or None.
        crossing_width: its width.
        zebra: z of a zebra crossing, or None.
        rails: x of the middles of tram tracks.
    """

    kind: str
    lane: float
    lanes: tuple[int, int]
    parking: tuple[float, float]
    walk: float
    yard: float
    surface: str
    bend: float
    bend_from: float
    crossing: float | None
    crossing_width: float
    zebra: float | None
    rails: tuple[float, ...]

    @property
    def edges(self) -> tuple[float, float]:
        """x of the road's left and right edge."""
        left, right = (lanes * self.lane + parking for lanes, parking in zip(self.lanes, self.parking, strict=True))
        return -left, right

    @property
    def facades(self) -> tuple[float, float]:
        """x where houses stand."""
        left, right = self.edges
        return left - self.walk - self.yard, right + self.walk + self.yard

    def shift(self, z: ArrayLike) -> NDArray:
        """Meters by which the bend has moved the middle line to the right at z; straight again after 150 m of bend."""
        within = np.clip(np.asarray(z) - self.bend_from, 0, 150)
        return self.bend * within * (np.maximum(np.asarray(z) - self.bend_from, 0) - within / 2)

    def beside(self, x: ArrayLike) -> NDArray:
        """Meters from the road's edge, negative on the road."""
        left, right = self.edges
        return np.maximum(left - np.asarray(x), np.asarray(x) - right)

    def crossed(self, z: ArrayLike, margin: float = 0.0) -> NDArray:
        """Whether z lies on the crossing road, or within ``margin`` meters of it."""
        if self.crossing is None:
            return np.zeros(np.shape(z), bool)
        return abs(np.asarray(z) - self.crossing) < self.crossing_width / 2 + margin

    def lane_middles(self, side: int) -> NDArray:
        """x of the middles of the lanes on a side, the innermost first."""
        return side * (np.arange(self.lanes[side > 0]) + 0.5) * self.lane


def draw_road(rng: np.random.Generator) -> Road:
    """Draw a road."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    parking, walk, yard = (0.0, 0.0), 0.0, 0.0
    crossing, zebra, rails = None, None, ()
    surface = "asphalt"
    if kind == "city":
        lanes = int(rng.choice([1, 2], p=[0.7, 0.3])), int(rng.choice([1, 2], p=[0.7, 0.3]))
        lane, walk = rng.uniform(2.8, 3.6), rng.uniform(1.6, 5.0)
        yard = 0.0 if rng.random() < 0.7 else rng.uniform(1, 5)
        parking = tuple(rng.choice([0.0, 2.2], 2, p=[0.4, 0.6]))
        surface = str(rng.choice(["asphalt", "cobbles", "concrete"], p=[0.8, 0.14, 0.06]))
        if rng.random() < 0.30:
            rails = ((-lane / 2, lane / 2), (lane / 2,), (-lane / 2,))[rng.integers(3)]
    elif kind == "suburb":
        lanes, lane, walk = (1, 1), rng.uniform(2.6, 3.4), rng.uniform(1.2, 2.8)
        yard, parking = rng.uniform(3, 9), tuple(rng.choice([0.0, 2.1], 2))
        surface = str(rng.choice(["asphalt", "cobbles", "concrete"], p=[0.8, 0.1, 0.1]))
    elif kind == "country":
        lanes, lane, yard = (1, 1), rng.uniform(2.1, 3.5), rng.uniform(5, 15)
        surface = str(rng.choice(["asphalt", "gravel", "dirt", "cobbles", "concrete"], p=[0.5, 0.18, 0.18, 0.08, 0.06]))
    else:
        count = int(rng.choice([2, 3], p=[0.65, 0.35]))
        lanes, lane, yard = (count, count), rng.uniform(3.5, 3.8), 14.0
        parking = (rng.uniform(0.5, 3.0),) * 2  # the hard shoulder
        surface = str(rng.choice(["asphalt", "concrete"], p=[0.75, 0.25]))
    if kind in ("city", "suburb"):
        if rng.random() < 0.45:
            crossing = rng.uniform(22, 60)
        if rng.random() < 0.5:
            zebra = crossing - 10 if crossing is not None and rng.random() < 0.8 else rng.uniform(9, 40)
    bend = rng.normal(0, {"city": 0.0015, "suburb": 0.004, "country": 0.005, "motorway": 0.0012}[kind])
    return Road(
        kind,
        lane,
        lanes,
        parking,
        walk,
        yard,
        surface,
        float(np.clip(bend, -0.012, 0.012)),
        rng.uniform(0, 40),
        crossing,
        rng.uniform(6, 11),
        zebra,
        rails,
    )
