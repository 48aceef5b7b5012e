"""Who and what is on the road: traffic, parked vehicles, people, and in half of the scenes things without a class."""

from __future__ import annotations

import numpy as np

from .anomalies import draw_oddity
from .builder import Stage
from .people import cyclist, motorcyclist, pedestrian
from .vehicles import bicycle, bus, car, motorcycle, tram, truck, two_wheeler

FAR = 75  # meters to the last thing that is drawn for itself


def place_traffic(stage: Stage) -> None:
    """Vehicles in each lane and on the crossing, and parked ones."""
    rng, road = stage.rng, stage.road
    makers = (car, truck, bus, motorcyclist, cyclist)
    shares = {
        "city": (0.56, 0.12, 0.12, 0.08, 0.12),
        "suburb": (0.66, 0.10, 0.08, 0.06, 0.10),
        "country": (0.60, 0.16, 0.04, 0.08, 0.12),
        "motorway": (0.58, 0.32, 0.06, 0.04, 0.0),
    }[road.kind]
    busy = rng.uniform(0.2, 1.0)
    for side in (-1, 1):
        for x in road.lane_middles(side):
            on_rails = any(abs(x - rail) < 1.0 for rail in road.rails)
            z = rng.uniform(9, 26) if abs(x - stage.own) < 1.5 else rng.uniform(5, 22)
            while z < FAR:
                if rng.random() < busy:
                    maker = tram if on_rails and rng.random() < 0.55 else makers[rng.choice(5, p=shares)]
                    solid = maker(rng)
                    middle = z + solid.size[2] / 2
                    place = side * (abs(x) + road.lane * 0.25) if maker is cyclist else x + rng.normal(0, 0.15)
                    yaw = rng.normal(0, 0.03) + (np.pi if side < 0 else 0.0)
                    if not road.crossed(np.linspace(z, middle + solid.size[2] / 2, 4), 0).any() or maker is not tram:
                        stage.solid(solid, place, middle, yaw, lamps=True)
                    z += solid.size[2]
                z += rng.uniform(4, 14) * (1 + 0.04 * z)
        if road.parking[int(side > 0)] > 1.5 and (road.kind != "motorway" or rng.random() < 0.2):
            _parked(stage, side)
        if road.walk and rng.random() < 0.55:
            _parked_two_wheelers(stage, side)
    if road.crossing is not None:
        for _ in range(rng.poisson(1.3)):
            maker = (*makers, tram)[rng.choice(6, p=(0.5, 0.1, 0.14, 0.07, 0.12, 0.07))]
            away = int(rng.choice([-1, 1]))
            stage.solid(maker(rng), rng.uniform(-16, 16), road.crossing + away * 1.7, away * np.pi / 2)


def _parked(stage: Stage, side: int) -> None:
    rng, road = stage.rng, stage.road
    x = road.edges[int(side > 0)] - side * 1.05
    z, full = rng.uniform(3, 14), rng.uniform(0.3, 0.95)
    while z < 65:
        solid = car(rng) if rng.random() < 0.9 else truck(rng)
        long = solid.size[2]
        taken = np.array([z, z + long])
        blocked = road.crossed(taken, 5).any() or (road.zebra is not None and abs(taken - road.zebra - 2).min() < 4)
        if rng.random() < full and not blocked:
            backwards = np.pi * (rng.random() < (0.15 if side > 0 else 0.85))
            stage.solid(solid, x, z + long / 2, backwards + rng.normal(0, 0.03))
        z += long + rng.uniform(0.6, 2.0)


def _parked_two_wheelers(stage: Stage, side: int) -> None:
    rng, road = stage.rng, stage.road
    motor = rng.random() < 0.45
    x = road.edges[int(side > 0)] + side * rng.uniform(0.5, max(0.6, road.walk - 0.6))
    z, yaw = rng.uniform(6, 30), rng.uniform(-np.pi, np.pi)
    for _ in range(int(rng.integers(1, 6))):
        if not road.crossed(z, 2):
            parts = motorcycle(rng) if motor else bicycle(rng)
            stage.solid(two_wheeler(parts), x + rng.normal(0, 0.1), z, yaw + rng.normal(0, 0.12))
        z += rng.uniform(0.7, 1.6)


def place_people(stage: Stage) -> None:
    """People on the sidewalks, some on the road, and cyclists."""
    rng, road = stage.rng, stage.road
    groups = rng.poisson({"city": 3.5, "suburb": 1.4, "country": 0.25, "motorway": 0.05}[road.kind])
    for _ in range(groups):
        side = int(rng.choice([-1, 1]))
        z = 4 + 46 * rng.random() ** 1.3
        x = road.edges[int(side > 0)] + side * rng.uniform(0.3, max(0.5, road.walk - 0.3))
        yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.3)
        if rng.random() < 0.15:
            x, yaw = rng.uniform(*road.edges), rng.choice([-1, 1]) * np.pi / 2
            z = max(z, 8)
        for _ in range(1 + rng.poisson(0.6)):
            stage.solid(pedestrian(rng), x, z, yaw + rng.normal(0, 0.15))
            x, z = x + side * rng.uniform(0.3, 0.7), z + rng.normal(0, 0.5)
    if road.zebra is not None:
        for _ in range(rng.poisson(1.2)):
            x, z = rng.uniform(road.edges[0] - 1, road.edges[1] + 1), road.zebra + rng.uniform(0.4, 3.2)
            stage.solid(pedestrian(rng), x, z, rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.2))
    if road.walk and rng.random() < 0.2:
        side = int(rng.choice([-1, 1]))
        x = road.edges[int(side > 0)] + side * rng.uniform(0.4, max(0.5, road.walk - 0.5))
        stage.solid(cyclist(rng), x, rng.uniform(7, 30), rng.choice([0, np.pi]) + rng.normal(0, 0.1))


def place_oddities(stage: Stage) -> None:
    """In half of the scenes one to three things that no class is for."""
    rng, road = stage.rng, stage.road
    if rng.random() > 0.5:
        return
    for _ in range(int(rng.integers(1, 4))):
        z = 5.5 + 26 * rng.random() ** 1.6
        left, right = road.edges
        x = stage.own + rng.normal(0, 1.8) if rng.random() < 0.7 else rng.uniform(left - 2, right + 2)
        flat = rng.random()
        if flat < 0.2:
            stage.add(z, lambda x=x, z=z, kind=flat < 0.1: _flat_oddity(stage, x, z, kind))
        else:
            stage.solid(draw_oddity(rng, stage.noise), x, z, rng.uniform(-np.pi, np.pi))


def _flat_oddity(stage: Stage, x: float, z: float, boxy: bool) -> None:
    things = stage.things(x, z)
    draw = things.crate if boxy else things.animal
    draw(stage.rng, stage.world(x, z), z, things.light.sunlit)
