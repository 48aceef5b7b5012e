"""Traffic: vehicles in the lanes and parked ones, people, and in half of the scenes unknown objects."""

from __future__ import annotations

from functools import partial

import numpy as np

from .anomalies import draw_anomaly
from .builder import SceneBuilder
from .people import cyclist, motorcyclist, pedestrian
from .vehicles import bicycle_parts, bus, car, motorcycle_parts, parked_two_wheeler, tram, truck

MAX_DISTANCE = 75  # meters up to which lanes have vehicles


def place_traffic(scene: SceneBuilder) -> None:
    """Queue vehicles in each lane and in the intersection, and parked ones."""
    rng, road = scene.rng, scene.road
    kinds = (car, truck, bus, motorcyclist, cyclist)
    shares = {
        "city": (0.56, 0.12, 0.12, 0.08, 0.12),
        "suburb": (0.66, 0.10, 0.08, 0.06, 0.10),
        "country": (0.60, 0.16, 0.04, 0.08, 0.12),
        "highway": (0.58, 0.32, 0.06, 0.04, 0.0),
    }[road.kind]
    density = rng.uniform(0.2, 1.0)
    for side in (-1, 1):
        for x in road.lane_centers(side):
            on_tracks = any(abs(x - track) < 1.0 for track in road.tram_tracks)
            z = rng.uniform(9, 26) if abs(x - scene.ego_x) < 1.5 else rng.uniform(5, 22)
            while z < MAX_DISTANCE:
                if rng.random() < density:
                    kind = tram if on_tracks and rng.random() < 0.55 else kinds[rng.choice(5, p=shares)]
                    solid = kind(rng)
                    center = z + solid.size[2] / 2
                    lane_x = side * (abs(x) + road.lane_width * 0.25) if kind is cyclist else x + rng.normal(0, 0.15)
                    yaw = rng.normal(0, 0.03) + (np.pi if side < 0 else 0.0)
                    crosses = road.in_intersection(np.linspace(z, center + solid.size[2] / 2, 4), 0).any()
                    if kind is not tram or not crosses:
                        scene.add_solid(solid, lane_x, center, yaw, lights=True)
                    z += solid.size[2]
                z += rng.uniform(4, 14) * (1 + 0.04 * z)
        if road.parking[int(side > 0)] > 1.5 and (road.kind != "highway" or rng.random() < 0.2):
            _place_parked_vehicles(scene, side)
        if road.sidewalk and rng.random() < 0.55:
            _place_parked_two_wheelers(scene, side)
    if road.intersection is not None:
        for _ in range(rng.poisson(1.3)):
            kind = (*kinds, tram)[rng.choice(6, p=(0.5, 0.1, 0.14, 0.07, 0.12, 0.07))]
            direction = int(rng.choice([-1, 1]))
            scene.add_solid(kind(rng), rng.uniform(-16, 16), road.intersection + direction * 1.7, direction * np.pi / 2)


def _place_parked_vehicles(scene: SceneBuilder, side: int) -> None:
    rng, road = scene.rng, scene.road
    x = road.edges[int(side > 0)] - side * 1.05
    z, occupancy = rng.uniform(3, 14), rng.uniform(0.3, 0.95)
    while z < 65:
        solid = car(rng) if rng.random() < 0.9 else truck(rng)
        length = solid.size[2]
        ends = np.array([z, z + length])
        at_crosswalk = road.crosswalk is not None and abs(ends - road.crosswalk - 2).min() < 4
        blocked = road.in_intersection(ends, 5).any() or at_crosswalk
        if rng.random() < occupancy and not blocked:
            backwards = np.pi * (rng.random() < (0.15 if side > 0 else 0.85))
            scene.add_solid(solid, x, z + length / 2, backwards + rng.normal(0, 0.03))
        z += length + rng.uniform(0.6, 2.0)


def _place_parked_two_wheelers(scene: SceneBuilder, side: int) -> None:
    rng, road = scene.rng, scene.road
    motor = rng.random() < 0.45
    x = road.edges[int(side > 0)] + side * rng.uniform(0.5, max(0.6, road.sidewalk - 0.6))
    z, yaw = rng.uniform(6, 30), rng.uniform(-np.pi, np.pi)
    for _ in range(int(rng.integers(1, 6))):
        if not road.in_intersection(z, 2):
            parts = motorcycle_parts(rng) if motor else bicycle_parts(rng)
            scene.add_solid(parked_two_wheeler(parts), x + rng.normal(0, 0.1), z, yaw + rng.normal(0, 0.12))
        z += rng.uniform(0.7, 1.6)


def place_people(scene: SceneBuilder) -> None:
    """Queue people on the sidewalks and on the road, and cyclists."""
    rng, road = scene.rng, scene.road
    groups = rng.poisson({"city": 3.5, "suburb": 1.4, "country": 0.25, "highway": 0.05}[road.kind])
    for _ in range(groups):
        side = int(rng.choice([-1, 1]))
        z = 4 + 46 * rng.random() ** 1.3
        x = road.edges[int(side > 0)] + side * rng.uniform(0.3, max(0.5, road.sidewalk - 0.3))
        yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.3)
        if rng.random() < 0.15:
            x, yaw = rng.uniform(*road.edges), rng.choice([-1, 1]) * np.pi / 2
            z = max(z, 8)
        for _ in range(1 + rng.poisson(0.6)):
            scene.add_solid(pedestrian(rng), x, z, yaw + rng.normal(0, 0.15))
            x, z = x + side * rng.uniform(0.3, 0.7), z + rng.normal(0, 0.5)
    if road.crosswalk is not None:
        for _ in range(rng.poisson(1.2)):
            x, z = rng.uniform(road.edges[0] - 1, road.edges[1] + 1), road.crosswalk + rng.uniform(0.4, 3.2)
            scene.add_solid(pedestrian(rng), x, z, rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.2))
    if road.sidewalk and rng.random() < 0.2:
        side = int(rng.choice([-1, 1]))
        x = road.edges[int(side > 0)] + side * rng.uniform(0.4, max(0.5, road.sidewalk - 0.5))
        scene.add_solid(cyclist(rng), x, rng.uniform(7, 30), rng.choice([0, np.pi]) + rng.normal(0, 0.1))


def place_anomalies(scene: SceneBuilder) -> None:
    """Queue one to three unknown objects in half of the scenes."""
    rng, road = scene.rng, scene.road
    if rng.random() > 0.5:
        return
    for _ in range(int(rng.integers(1, 4))):
        z = 5.5 + 26 * rng.random() ** 1.6
        left, right = road.edges
        x = scene.ego_x + rng.normal(0, 1.8) if rng.random() < 0.7 else rng.uniform(left - 2, right + 2)
        form = rng.random()
        if form < 0.2:
            scene.add(z, partial(_paint_flat_anomaly, scene, x, z, "crate" if form < 0.1 else "animal"))
        else:
            scene.add_solid(draw_anomaly(rng, scene.noise), x, z, rng.uniform(-np.pi, np.pi))


def _paint_flat_anomaly(scene: SceneBuilder, x: float, z: float, kind: str) -> None:
    props = scene.props(x, z)
    paint = {"crate": props.crate, "animal": props.animal}[kind]
    paint(scene.rng, scene.world_x(x, z), z, props.light.sunlit)
