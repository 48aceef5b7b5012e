"""The surroundings of a road: the background, and houses, lamps, borders, trees and signs along it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from .builder import SceneBuilder
from .houses import paint_house
from .labels import BUILDING
from .lighting import LAMP_COLOR, add_glow
from .props import TreeStyle
from .roadside import Border, paint_gantry, paint_sign, paint_traffic_light
from .sky import paint_ridge

TREE_STYLES = (
    TreeStyle(),
    TreeStyle(crown_half_size=(1.9, 3.6), crown_center=5.0),
    TreeStyle(crown_half_size=(3.2, 2.2), crown_center=5.0, lit_color=(0.42, 0.40, 0.10)),
    TreeStyle(
        crown_half_size=(2.0, 3.9),
        crown_center=4.6,
        conical=True,
        dark_color=(0.05, 0.11, 0.07),
        lit_color=(0.20, 0.26, 0.12),
    ),
    TreeStyle(crown_half_size=(1.2, 3.9), crown_center=4.7, dark_color=(0.09, 0.15, 0.07)),
    TreeStyle(crown_half_size=(2.0, 1.3), crown_center=1.1, density=1.0),
    TreeStyle(dark_color=(0.22, 0.12, 0.05), lit_color=(0.62, 0.38, 0.08)),
    TreeStyle(density=0.62, dark_color=(0.16, 0.13, 0.10), lit_color=(0.24, 0.21, 0.17)),
)


def paint_backdrop(scene: SceneBuilder) -> None:
    """Paint the sky, and mountains, trees or roofs along the horizon."""
    rng, c, w = scene.rng, scene.canvas, scene.weather
    w.sky.paint(c, scene.noise)
    scale = c.camera.focal
    day = np.clip(w.ambient + w.sun, 0, 1.1)
    if rng.random() < 0.5:
        mountain = 0.6 * w.haze + 0.4 * np.array([0.40, 0.46, 0.52]) * day
        paint_ridge(c, scene.noise, rng.uniform(0.03, 0.10) * scale, mountain, rng.uniform(0, 99), 1.6)
    near = np.array([0.22, 0.30, 0.16]) * day * 0.7 + 0.3 * w.haze
    fog = 1 - np.exp(-120 / w.visibility)
    near = near * (1 - fog) + w.haze * fog
    trees = rng.uniform(0.012, 0.05) * scale
    paint_ridge(c, scene.noise, trees, near, rng.uniform(0, 99), rng.uniform(3, 9))
    if rng.random() < {"city": 0.8, "suburb": 0.5, "country": 0.1, "highway": 0.25}[scene.road.kind]:
        tone = rng.uniform(0.3, 0.6) * np.array([1.0, 0.95, 0.9]) * day
        tone = tone * (1 - fog) + w.haze * fog
        top, blocks = rng.uniform(0.02, 0.10) * scale, rng.uniform(12, 40) / scale
        paint_ridge(c, scene.noise, top, tone, rng.uniform(0, 99), 20.0, BUILDING, (2, 0.2), blocks)


def place_houses(scene: SceneBuilder) -> None:
    """Queue the houses of the scene."""
    for house in scene.houses:
        middle = (house.start + house.stop) / 2
        # the sun reaches a facade across the road, whatever stands behind the house
        light = scene.lighting.at(scene.road.facades[int(house.side > 0)], middle)
        light = replace(light, sunlit=light.shadow + scene.weather.sun)
        paint = partial(paint_house, scene.canvas, scene.noise, light, scene.road, house, scene.lighting)
        scene.add(max(house.start, 0.5), paint, between_facades=False)


def place_lamps(scene: SceneBuilder) -> None:
    """Queue street lamps, and let them light the scene."""
    rng, road = scene.rng, scene.road
    if rng.random() > {"city": 0.85, "suburb": 0.75, "country": 0.15, "highway": 0.3}[road.kind]:
        return
    places = []
    for side in rng.permutation([-1, 1])[: int(rng.integers(1, 3))]:
        x = road.edges[int(side > 0)] + side * rng.uniform(0.4, 0.9)
        for z in np.arange(rng.uniform(5, 22), 90, rng.uniform(18, 32)):
            if not road.in_intersection(z, 1):
                places.append((x, z, int(side)))
    scene.lighting.lamp_positions = np.array([(x - 1.3 * side, z) for x, z, side in places if z < 70]).reshape(-1, 2)
    for x, z, side in places:
        scene.add(z, partial(_paint_lamp, scene, x, z, side))


def _paint_lamp(scene: SceneBuilder, x: float, z: float, side: int) -> None:
    props = scene.props(x, z)
    props.street_lamp(scene.world_x(x, z), z, side, props.light.sunlit)
    if scene.weather.lamp_brightness:
        position = scene.world_x(x, z) - 1.25 * side, 6.75, z
        add_glow(scene.canvas, position, 1.1, 1.6 * scene.weather.lamp_brightness * LAMP_COLOR)


def place_borders(scene: SceneBuilder) -> None:
    """Queue walls, fences, hedges and guard rails, in pieces that other objects stand in front of or behind."""
    rng, road = scene.rng, scene.road
    for side in (-1, 1):
        edge, facade = road.edges[int(side > 0)], road.facades[int(side > 0)]
        if road.kind == "highway":
            if rng.random() < 0.75:
                _place_border(scene, Border.draw(rng, "rail"), edge + 0.8 * side, 3, 110)
            if rng.random() < 0.5:
                _place_border(
                    scene, Border.draw(rng, str(rng.choice(["noise barrier", "fence"]))), edge + 5 * side, 3, 130
                )
        elif road.front_yard > 0.8 or rng.random() < 0.12:
            share = {"city": 0.75, "suburb": 0.9, "country": 0.4}[road.kind]
            x = (edge + side * (road.sidewalk + 0.15)) if road.sidewalk else edge + side * rng.uniform(1.5, 4)
            z = rng.uniform(1.5, 10)
            while z < 80 and abs(facade - x) > 0.3:
                stop = z + rng.uniform(8, 40)
                if rng.random() < share:
                    _place_border(
                        scene, Border.draw(rng, str(rng.choice(["wall", "fence", "picket fence", "hedge"]))), x, z, stop
                    )
                z = stop
        if road.kind == "country" and rng.random() < 0.25:
            _place_border(scene, Border.draw(rng, "rail"), edge + 0.7 * side, 3, 90)
        elif road.kind == "city" and rng.random() < 0.15:
            _place_border(scene, Border.draw(rng, "fence"), edge + 0.3 * side, rng.uniform(4, 15), rng.uniform(25, 60))
    if road.kind == "highway":
        _place_border(scene, Border.draw(rng, str(rng.choice(["rail", "barrier"]))), 0.0, 2, 130)


def _place_border(scene: SceneBuilder, border: Border, x: float, start: float, stop: float) -> None:
    z = start
    while z < stop:
        piece = min(4 + 0.08 * z, stop - z)
        if not scene.road.in_intersection(np.array([z, z + piece]), 1.5).any():
            near, far = (np.array([scene.world_x(x, at), 0, at]) for at in (z, z + piece))
            light = scene.lighting.at(x, z).sunlit * 0.92
            scene.add(z + piece, partial(border.paint, scene.canvas, scene.noise, near, far, z, light))
        z += piece


def place_trees(scene: SceneBuilder) -> None:
    """Queue trees on both sides of the road, of two kinds at most."""
    rng, road = scene.rng, scene.road
    styles = [TREE_STYLES[i] for i in rng.choice(len(TREE_STYLES) - 2, 2)]
    if scene.weather.snow_cover:
        styles = [TREE_STYLES[-1], TREE_STYLES[3]]
    elif rng.random() < 0.2:
        styles = [TREE_STYLES[-2 + int(rng.integers(2))]] * 2
    gap = {"city": 11, "suburb": 9, "country": 8, "highway": 12}[road.kind] * rng.uniform(0.7, 2.5)
    for side in (-1, 1):
        if rng.random() < 0.25:
            continue
        z = rng.uniform(6, 16)
        while z < 85:
            away = {"city": min(0.7 * road.sidewalk, 1.6), "suburb": rng.uniform(0.5, 7)}.get(
                road.kind, rng.uniform(2.5, 16)
            )
            x = road.edges[int(side > 0)] + side * (away + 0.6)
            if not road.in_intersection(z, 2):
                style, scale, seed = styles[int(rng.integers(2))], rng.uniform(0.6, 1.25), rng.uniform(0, 200)
                if road.kind == "city":
                    scale *= 0.85
                scene.add(z, partial(_paint_tree, scene, x, z, scale, seed, style))
            z += gap * rng.uniform(0.5, 1.5)


def _paint_tree(scene: SceneBuilder, x: float, z: float, scale: float, seed: float, style: TreeStyle) -> None:
    props = scene.props(x, z)
    sunlit, shadow = props.light.sunlit, props.light.shadow
    light = sunlit if props.light.sun_side * (x - scene.ego_x) <= 0 else 0.45 * sunlit + 0.65 * shadow
    props.tree(scene.world_x(x, z), z, scale, seed, light * (1.5 if scene.weather.snow_cover else 1.0), style)


def place_signs(scene: SceneBuilder) -> None:
    """Queue traffic signs, direction signs over a highway, and traffic lights."""
    rng, road = scene.rng, scene.road
    count = rng.poisson({"city": 3.0, "suburb": 1.6, "country": 1.2, "highway": 1.0}[road.kind])
    for _ in range(count):
        side = int(rng.choice([-1, 1], p=[0.35, 0.65]))
        x, z = road.edges[int(side > 0)] + side * rng.uniform(0.5, 1.6), rng.uniform(7, 50)
        if not road.in_intersection(z, 0.5):
            light = scene.lighting.at(x, z).sunlit * rng.uniform(0.75, 1.05)
            position = scene.world_x(x, z), z, light
            scene.add(z, partial(paint_sign, rng, scene.canvas, scene.noise, *position))
    if road.kind == "highway" and rng.random() < 0.5:
        z = rng.uniform(28, 70)
        light, bend_offset = scene.lighting.at(0, z).sunlit, float(road.bend_offset(z))
        boards = [(float(x), 1.6) for x in road.lane_centers(1) if rng.random() < 0.8]
        span = (-0.5, road.edges[1] + 1.5)
        scene.add(z, partial(paint_gantry, scene.canvas, span, z, bend_offset, boards, light))
    stop = None
    if road.crosswalk is not None:
        stop = road.crosswalk - 0.8
    elif road.intersection is not None:
        stop = road.intersection - road.intersection_width / 2 - 1
    if road.kind in ("city", "suburb") and stop is not None and rng.random() < 0.75:
        for side, behind in [(1, 0.0), (-1, 0.0), *([(1, road.intersection_width + 14)] if road.intersection else [])]:
            x, arm = road.edges[int(side > 0)] + 0.5 * side, 0.0
            if side > 0 and rng.random() < 0.4:
                arm = -rng.uniform(2.0, 4.5)
            at = stop + behind
            light, lamps = scene.lighting.at(x, at).sunlit, scene.weather.lamp_brightness
            scene.add(at, partial(paint_traffic_light, rng, scene.canvas, scene.world_x(x, at), at, arm, light, lamps))
