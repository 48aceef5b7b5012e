"""Houses along a road, in rows or each in its garden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .labels import BUILDING
from .lighting import STEP, Lighting
from .props import Facade, Things
from .road import Road

REACH = 170  # meters of road with houses


@dataclass(frozen=True)
class House:
    """A house; lengths in meters.

    Attributes:
        side: of the road, -1 left and 1 right.
        start: z of its near end.
        stop: z of its far end.
        height: up to the eaves.
        deep: from its front to its back.
        roof: height of the pitched roof, 0 for a flat one.
        back: how far it stands behind the row.
        seed: of its walls and windows.
        style: of its walls and windows.
    """

    side: int
    start: float
    stop: float
    height: float
    deep: float
    roof: float
    back: float
    seed: int
    style: Facade


def draw_houses(rng: np.random.Generator, road: Road, lit: float, glass: NDArray) -> list[House]:
    """Draw the houses of a road.

    Args:
        lit: brightness of lamps; decides how many windows are lit.
        glass: what windows reflect, [3].
    """
    houses = []
    crowded = {"city": 1.0, "suburb": 0.9, "country": 0.12, "motorway": 0.08}[road.kind]
    base = rng.uniform(6, 20) if road.kind == "city" else rng.uniform(4, 6.5)
    for side in (-1, 1):
        z = rng.uniform(-4, 9) if road.kind == "city" else rng.uniform(0, 25)
        open_side = road.kind == "city" and rng.random() < 0.15  # a park, a river
        while z < REACH:
            length = rng.uniform(9, 24) if road.kind == "city" else rng.uniform(8, 15)
            crossing = road.crossed(np.linspace(z, z + length, 5), 3).any()
            if rng.random() < crowded and not crossing and not open_side:
                detached = road.kind != "city"
                height = base * rng.uniform(0.65, 1.4) if not detached else base * rng.uniform(0.8, 1.3)
                back = rng.uniform(0, 40) if road.kind in ("country", "motorway") else 0.0
                roof = rng.uniform(1.5, 4) if detached or rng.random() < 0.3 else 0.0
                style = _style(rng, lit, glass, detached)
                seed = int(rng.integers(2**31))
                houses.append(House(side, z, z + length, height, rng.uniform(8, 14), roof, back, seed, style))
            z += length
            z += rng.choice([0.0, 0.4, 5.0]) if road.kind == "city" else rng.uniform(3, 14)
    return houses


def _style(rng: np.random.Generator, lit: float, glass: NDArray, detached: bool) -> Facade:
    walls = tuple(tuple(np.clip(rng.uniform(0.25, 0.85) * rng.uniform((1, 0.8, 0.6), 1, 3), 0, 1)) for _ in range(3))
    if rng.random() < 0.5:
        walls = Facade.walls
    pane = rng.uniform(0.14, 0.46), rng.uniform(0.2, 0.42)
    frame = min(0.48, pane[0] + rng.uniform(0.02, 0.08)), min(0.48, pane[1] + rng.uniform(0.02, 0.06))
    bay = rng.uniform(1.4, 3.4)
    shop = not detached and rng.random() < 0.6
    gloss = float(glass.mean() / 0.43)
    share = 0.35 * lit + (0.05 if rng.random() < 0.3 else 0.0)
    lamp = np.array([1.0, 0.80, 0.46]) * rng.uniform(0.5, 1.1)
    return Facade(
        walls, (2.7, 3.8), (bay, bay + 0.4), pane, frame, shop, tuple(glass), tuple(lamp), share, min(gloss, 1.0)
    )


def roofs(houses: list[House]) -> NDArray:
    """Heights [2, n] of the two rows, one each ``STEP`` meters from z = 0."""
    heights = np.zeros((2, int(REACH / STEP) + 100), np.float32)
    for house in houses:
        if house.back < 2:
            stretch = slice(max(0, int(house.start / STEP)), max(0, int(house.stop / STEP)))
            heights[int(house.side > 0), stretch] = house.height + house.roof
    return heights


def paint_house(canvas: Canvas, things: Things, road: Road, house: House, lighting: Lighting) -> None:
    """Paint a house that follows the bend of its road."""
    side = house.side
    x = road.facades[int(side > 0)] + side * house.back
    begin, end = (np.array([x + road.shift(z), 0, z]) for z in (house.start, house.stop))
    along, up = end - begin, np.array([0, house.height, 0])
    outward = side * np.array([along[2], 0, -along[0]]) / np.linalg.norm(along)  # a patch's edges are at right angles
    deep = house.deep * outward
    light = things.light
    sun = light.sunlit - light.shadow
    right, _, ahead = lighting.weather.towards
    front_light = light.shadow + sun * np.clip(-side * right * 1.2, 0, 1)
    gable_light = light.shadow * 0.95 + sun * np.clip(-ahead * 1.2, 0, 1)
    if house.start < 0.5:  # we stand beside it: only what lies ahead is seen
        begin = begin + along * (0.5 - house.start) / (house.stop - house.start)
        along = end - begin
        walls = [(canvas.patch(begin, along, up), front_light)]
    else:
        walls = [(canvas.patch(begin, deep, up), gable_light), (canvas.patch(begin, along, up), front_light)]
    snow = lighting.weather.snow > 0.5
    tile = np.array([0.92, 0.94, 0.97]) if snow else np.array([0.42, 0.24, 0.19]) * (0.7 + 0.6 * (house.seed % 7) / 7)
    if house.roof and house.start >= 0.5:
        p = canvas.patch(begin + up, deep, (0, house.roof, 0))
        gable = p.b < house.roof * (1 - abs(2 * p.a / house.deep - 1))
        canvas.paint(p, gable, np.array(house.style.walls[0]) * gable_light, BUILDING)
    if house.roof:
        eave = begin + up - 0.4 * outward - np.array([0, 0.2, 0])
        p = canvas.patch(eave, along, deep / 2 + np.array([0, house.roof, 0]))
        rows = 0.85 + 0.15 * (np.mod(p.b, 0.35) < 0.25) + 0.25 * (things.noise(p.a, p.b * 2, octaves=2) - 0.5)
        canvas.paint(p, 1, tile * rows[..., None] * (light.shadow + 0.7 * sun), BUILDING)
    things.house(walls, house.height, house.seed, house.style)
