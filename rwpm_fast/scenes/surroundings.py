"""The setting of a scene: what lies behind it, and what stands along its road."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .builder import Stage
from .houses import paint_house
from .labels import BUILDING
from .lighting import LAMP, glow
from .props import Things, Tree
from .roadside import Border, paint_gantry, paint_sign, paint_traffic_light
from .sky import paint_ridge

TREES = (
    Tree(),
    Tree(crown=(1.9, 3.6), middle=5.0),
    Tree(crown=(3.2, 2.2), middle=5.0, bright=(0.42, 0.40, 0.10)),
    Tree(crown=(2.0, 3.9), middle=4.6, cone=True, dark=(0.05, 0.11, 0.07), bright=(0.20, 0.26, 0.12)),
    Tree(crown=(1.2, 3.9), middle=4.7, dark=(0.09, 0.15, 0.07)),
    Tree(crown=(2.0, 1.3), middle=1.1, dense=1.0),
    Tree(dark=(0.22, 0.12, 0.05), bright=(0.62, 0.38, 0.08)),
    Tree(dense=0.62, dark=(0.16, 0.13, 0.10), bright=(0.24, 0.21, 0.17)),
)


def paint_backdrop(stage: Stage) -> None:
    """Sky, and mountains, trees or roofs along the horizon."""
    rng, c, w = stage.rng, stage.canvas, stage.weather
    w.sky.paint(c, stage.noise, octaves=4)
    scale = c.camera.focal
    day = np.clip(w.ambient + w.sun, 0, 1.1)
    if rng.random() < 0.5:
        mountain = 0.6 * w.haze + 0.4 * np.array([0.40, 0.46, 0.52]) * day
        paint_ridge(c, stage.noise, rng.uniform(0.03, 0.10) * scale, mountain, rng.uniform(0, 99), 1.6)
    near = np.array([0.22, 0.30, 0.16]) * day * 0.7 + 0.3 * w.haze
    fog = 1 - np.exp(-120 / w.visibility)
    near = near * (1 - fog) + w.haze * fog
    trees = rng.uniform(0.012, 0.05) * scale
    paint_ridge(c, stage.noise, trees, near, rng.uniform(0, 99), rng.uniform(3, 9))
    if rng.random() < {"city": 0.8, "suburb": 0.5, "country": 0.1, "motorway": 0.25}[stage.road.kind]:
        tone = rng.uniform(0.3, 0.6) * np.array([1.0, 0.95, 0.9]) * day
        tone = tone * (1 - fog) + w.haze * fog
        top, blocks = rng.uniform(0.02, 0.10) * scale, rng.uniform(12, 40) / scale
        paint_ridge(c, stage.noise, top, tone, rng.uniform(0, 99), 20.0, BUILDING, (2, 0.2), blocks)


def place_houses(stage: Stage) -> None:
    for house in stage.houses:
        middle = (house.start + house.stop) / 2
        # the sun reaches a facade over the road, whatever stands behind it
        light = stage.lighting.at(stage.road.facades[int(house.side > 0)], middle)
        light = replace(light, sunlit=light.shadow + stage.weather.sun)
        things = Things(stage.canvas, stage.noise, light)
        draw = lambda h=house, t=things: paint_house(stage.canvas, t, stage.road, h, stage.lighting)  # noqa: E731
        stage.add(max(house.start, 0.5), draw, inside=False)


def place_lamps(stage: Stage) -> None:
    """Street lamps, and their light on everything."""
    rng, road = stage.rng, stage.road
    if rng.random() > {"city": 0.85, "suburb": 0.75, "country": 0.15, "motorway": 0.3}[road.kind]:
        return
    places = []
    for side in rng.permutation([-1, 1])[: int(rng.integers(1, 3))]:
        x = road.edges[int(side > 0)] + side * rng.uniform(0.4, 0.9)
        for z in np.arange(rng.uniform(5, 22), 90, rng.uniform(18, 32)):
            if not road.crossed(z, 1):
                places.append((x, z, int(side)))
    stage.lighting.lamps = np.array([(x - 1.3 * side, z) for x, z, side in places if z < 70]).reshape(-1, 2)
    for x, z, side in places:
        stage.add(z, lambda x=x, z=z, side=side: _lamp(stage, x, z, side))


def _lamp(stage: Stage, x: float, z: float, side: int) -> None:
    things = stage.things(x, z)
    things.lamp(stage.world(x, z), z, side, things.light.sunlit)
    if stage.weather.lamps:
        place = stage.world(x, z) - 1.25 * side, 6.75, z
        glow(stage.canvas, place, 1.1, 1.6 * stage.weather.lamps * LAMP)


def place_borders(stage: Stage) -> None:
    """Walls, fences, hedges and guard rails along the road, in pieces that things stand before or behind."""
    rng, road = stage.rng, stage.road
    for side in (-1, 1):
        edge, facade = road.edges[int(side > 0)], road.facades[int(side > 0)]
        if road.kind == "motorway":
            if rng.random() < 0.75:
                _border(stage, Border.draw(rng, "rail"), edge + 0.8 * side, 3, 110)
            if rng.random() < 0.5:
                _border(stage, Border.draw(rng, str(rng.choice(["noise wall", "fence"]))), edge + 5 * side, 3, 130)
        elif road.yard > 0.8 or rng.random() < 0.12:
            share = {"city": 0.75, "suburb": 0.9, "country": 0.4}[road.kind]
            x = (edge + side * (road.walk + 0.15)) if road.walk else edge + side * rng.uniform(1.5, 4)
            z = rng.uniform(1.5, 10)
            while z < 80 and abs(facade - x) > 0.3:
                stop = z + rng.uniform(8, 40)
                if rng.random() < share:
                    _border(stage, Border.draw(rng, str(rng.choice(["wall", "fence", "pickets", "hedge"]))), x, z, stop)
                z = stop
        if road.kind == "country" and rng.random() < 0.25:
            _border(stage, Border.draw(rng, "rail"), edge + 0.7 * side, 3, 90)
        elif road.kind == "city" and rng.random() < 0.15:
            _border(stage, Border.draw(rng, "fence"), edge + 0.3 * side, rng.uniform(4, 15), rng.uniform(25, 60))
    if road.kind == "motorway":
        _border(stage, Border.draw(rng, str(rng.choice(["rail", "barrier"]))), 0.0, 2, 130)


def _border(stage: Stage, border: Border, x: float, start: float, stop: float) -> None:
    z = start
    while z < stop:
        piece = min(4 + 0.08 * z, stop - z)
        if not stage.road.crossed(np.array([z, z + piece]), 1.5).any():
            ends = [np.array([stage.world(x, at), 0, at]) for at in (z, z + piece)]
            light = stage.lighting.at(x, z).sunlit * 0.92
            stage.add(z + piece, lambda e=ends, o=z, at=light: border.paint(stage.canvas, stage.noise, *e, o, at))
        z += piece


def place_trees(stage: Stage) -> None:
    rng, road = stage.rng, stage.road
    kinds = [TREES[i] for i in rng.choice(len(TREES) - 2, 2)]
    if stage.weather.snow:
        kinds = [TREES[-1], TREES[3]]
    elif rng.random() < 0.2:
        kinds = [TREES[-2 + int(rng.integers(2))]] * 2
    gap = {"city": 11, "suburb": 9, "country": 8, "motorway": 12}[road.kind] * rng.uniform(0.7, 2.5)
    for side in (-1, 1):
        if rng.random() < 0.25:
            continue
        z = rng.uniform(6, 16)
        while z < 85:
            away = {"city": min(0.7 * road.walk, 1.6), "suburb": rng.uniform(0.5, 7)}.get(
                road.kind, rng.uniform(2.5, 16)
            )
            x = road.edges[int(side > 0)] + side * (away + 0.6)
            if not road.crossed(z, 2):
                kind, scale, seed = kinds[int(rng.integers(2))], rng.uniform(0.6, 1.25), rng.uniform(0, 200)
                if road.kind == "city":
                    scale *= 0.85
                stage.add(z, lambda x=x, z=z, s=scale, e=seed, k=kind: _tree(stage, x, z, s, e, k))
            z += gap * rng.uniform(0.5, 1.5)


def _tree(stage: Stage, x: float, z: float, scale: float, seed: float, kind: Tree) -> None:
    things = stage.things(x, z)
    light = things.light
    lit = light.sunlit if light.side * (x - stage.own) <= 0 else 0.45 * light.sunlit + 0.65 * light.shadow
    things.tree(stage.world(x, z), z, scale, seed, lit * (1.5 if stage.weather.snow else 1.0), kind)


def place_signs(stage: Stage) -> None:
    rng, road = stage.rng, stage.road
    count = rng.poisson({"city": 3.0, "suburb": 1.6, "country": 1.2, "motorway": 1.0}[road.kind])
    for _ in range(count):
        side = int(rng.choice([-1, 1], p=[0.35, 0.65]))
        x, z = road.edges[int(side > 0)] + side * rng.uniform(0.5, 1.6), rng.uniform(7, 50)
        if not road.crossed(z, 0.5):
            light = stage.lighting.at(x, z).sunlit * rng.uniform(0.75, 1.05)
            place = stage.world(x, z), z, light
            stage.add(z, lambda p=place: paint_sign(rng, stage.canvas, stage.noise, *p))
    if road.kind == "motorway" and rng.random() < 0.5:
        z = rng.uniform(28, 70)
        light, shift = stage.lighting.at(0, z).sunlit, float(road.shift(z))
        boards = [(float(x), 1.6) for x in road.lane_middles(1) if rng.random() < 0.8]
        span = (-0.5, road.edges[1] + 1.5)
        stage.add(z, lambda: paint_gantry(stage.canvas, span, z, shift, boards, light))
    if road.kind in ("city", "suburb") and (road.crossing or road.zebra) and rng.random() < 0.75:
        z = road.zebra - 0.8 if road.zebra else road.crossing - road.crossing_width / 2 - 1
        for side, behind in [(1, 0.0), (-1, 0.0), *([(1, road.crossing_width + 14)] if road.crossing else [])]:
            x, arm = road.edges[int(side > 0)] + 0.5 * side, 0.0
            if side > 0 and rng.random() < 0.4:
                arm = -rng.uniform(2.0, 4.5)
            place = stage.world(x, z + behind), z + behind, arm, stage.lighting.at(x, z + behind).sunlit
            stage.add(z + behind, lambda p=place: paint_traffic_light(rng, stage.canvas, *p, stage.weather.lamps))
