"""Houses along a road, in rows or each in its garden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Canvas, Patch
from .labels import BUILDING
from .lighting import ROOF_SPACING, Light, Lighting
from .noise import Noise
from .road import Road

HOUSES_END = 170  # meters of road with houses
WALL_COLORS = ((0.74, 0.56, 0.42), (0.80, 0.72, 0.58), (0.62, 0.36, 0.29), (0.70, 0.70, 0.68), (0.78, 0.64, 0.47))

Color = tuple[float, float, float]


@dataclass(frozen=True)
class FacadeStyle:
    """How the walls of a house look.

    Attributes:
        wall_colors: colors [3] to choose from.
        story_height: range in meters.
        bay_width: range of the distance from window to window in meters.
        pane_half_size: half width and half height of a window pane, as shares of bay and story.
        frame_half_size: half width and half height of a window frame, as shares of bay and story.
        shop_windows: whether the ground floor has large windows.
        glass_color: what the windows reflect.
        lit_window_color: color of a lit window.
        lit_share: share of the windows that are lit.
        gloss: light that frames and ledges add to the wall's, in [0, 1].
    """

    wall_colors: tuple[Color, ...]
    story_height: tuple[float, float]
    bay_width: tuple[float, float]
    pane_half_size: tuple[float, float]
    frame_half_size: tuple[float, float]
    shop_windows: bool
    glass_color: Color
    lit_window_color: Color
    lit_share: float
    gloss: float


@dataclass(frozen=True)
class House:
    """A house; lengths in meters.

    Attributes:
        side: of the road, -1 left and 1 right.
        start: z of its near end.
        stop: z of its far end.
        height: up to the eaves.
        depth: from its front to its back.
        roof_height: height of the pitched roof, 0 for a flat one.
        row_offset: distance that it stands behind the row of houses.
        seed: of the random choices of its walls and windows.
        style: of its walls and windows.
    """

    side: int
    start: float
    stop: float
    height: float
    depth: float
    roof_height: float
    row_offset: float
    seed: int
    style: FacadeStyle


def draw_houses(rng: np.random.Generator, road: Road, lamp_brightness: float, glass: NDArray) -> list[House]:
    """Draw the houses of a road.

    Args:
        rng: source of everything that differs between two rows of houses.
        road: along which they stand.
        lamp_brightness: of the weather; decides how many windows are lit.
        glass: what windows reflect, [3].
    """
    houses = []
    density = {"city": 1.0, "suburb": 0.9, "country": 0.12, "highway": 0.08}[road.kind]
    base = rng.uniform(6, 20) if road.kind == "city" else rng.uniform(4, 6.5)
    for side in (-1, 1):
        z = rng.uniform(-4, 9) if road.kind == "city" else rng.uniform(0, 25)
        open_side = road.kind == "city" and rng.random() < 0.15  # a park, a river
        while z < HOUSES_END:
            length = rng.uniform(9, 24) if road.kind == "city" else rng.uniform(8, 15)
            at_intersection = road.in_intersection(np.linspace(z, z + length, 5), 3).any()
            if rng.random() < density and not at_intersection and not open_side:
                detached = road.kind != "city"
                height = base * rng.uniform(0.65, 1.4) if not detached else base * rng.uniform(0.8, 1.3)
                row_offset = rng.uniform(0, 40) if road.kind in ("country", "highway") else 0.0
                roof_height = rng.uniform(1.5, 4) if detached or rng.random() < 0.3 else 0.0
                style = _draw_style(rng, lamp_brightness, glass, detached)
                seed = int(rng.integers(2**31))
                houses.append(
                    House(
                        side=side,
                        start=z,
                        stop=z + length,
                        height=height,
                        depth=rng.uniform(8, 14),
                        roof_height=roof_height,
                        row_offset=row_offset,
                        seed=seed,
                        style=style,
                    )
                )
            z += length
            z += rng.choice([0.0, 0.4, 5.0]) if road.kind == "city" else rng.uniform(3, 14)
    return houses


def _draw_style(rng: np.random.Generator, lamp_brightness: float, glass: NDArray, detached: bool) -> FacadeStyle:
    colors = tuple(tuple(np.clip(rng.uniform(0.25, 0.85) * rng.uniform((1, 0.8, 0.6), 1, 3), 0, 1)) for _ in range(3))
    if rng.random() < 0.5:
        colors = WALL_COLORS
    pane = rng.uniform(0.14, 0.46), rng.uniform(0.2, 0.42)
    frame = min(0.48, pane[0] + rng.uniform(0.02, 0.08)), min(0.48, pane[1] + rng.uniform(0.02, 0.06))
    bay = rng.uniform(1.4, 3.4)
    # arguments are evaluated in this order, and so are the draws
    return FacadeStyle(
        wall_colors=colors,
        story_height=(2.7, 3.8),
        bay_width=(bay, bay + 0.4),
        pane_half_size=pane,
        frame_half_size=frame,
        shop_windows=not detached and rng.random() < 0.6,
        glass_color=tuple(glass),
        lit_share=0.35 * lamp_brightness + (0.05 if rng.random() < 0.3 else 0.0),
        lit_window_color=tuple(np.array([1.0, 0.80, 0.46]) * rng.uniform(0.5, 1.1)),
        gloss=min(float(glass.mean() / 0.43), 1.0),
    )


def roof_heights(houses: list[House]) -> NDArray:
    """Return the heights [2, n] of the left and the right row of houses, one every ``ROOF_SPACING`` m from z = 0."""
    heights = np.zeros((2, int(HOUSES_END / ROOF_SPACING) + 100), np.float32)
    for house in houses:
        if house.row_offset < 2:
            stretch = slice(max(0, int(house.start / ROOF_SPACING)), max(0, int(house.stop / ROOF_SPACING)))
            heights[int(house.side > 0), stretch] = house.height + house.roof_height
    return heights


def paint_house(canvas: Canvas, noise: Noise, light: Light, road: Road, house: House, lighting: Lighting) -> None:
    """Paint a house that follows the bend of its road.

    Args:
        canvas: to paint on.
        noise: texture of walls and roof.
        light: on the house.
        road: along which it stands.
        house: what is painted.
        lighting: direction of the sun, and snow on the roof.
    """
    side = house.side
    x = road.facades[int(side > 0)] + side * house.row_offset
    start, stop = (np.array([x + road.bend_offset(z), 0, z]) for z in (house.start, house.stop))
    along, up = stop - start, np.array([0, house.height, 0])
    outward = side * np.array([along[2], 0, -along[0]]) / np.linalg.norm(along)  # a patch's edges are at right angles
    depth = house.depth * outward
    sun = light.sunlit - light.shadow
    right, _, ahead = lighting.weather.sun_direction
    front_light = light.shadow + sun * np.clip(-side * right * 1.2, 0, 1)
    gable_light = light.shadow * 0.95 + sun * np.clip(-ahead * 1.2, 0, 1)
    if house.start < 0.5:  # next to the place where a drive ends: only what lies ahead of it is seen
        start = start + along * (0.5 - house.start) / (house.stop - house.start)
        along = stop - start
    gable_seen = house.start >= 0.5 or canvas.camera.position[2] < 0
    walls = [(canvas.patch(start, depth, up), gable_light)] if gable_seen else []
    walls.append((canvas.patch(start, along, up), front_light))
    snow = lighting.weather.snow_cover > 0.5
    tile = np.array([0.92, 0.94, 0.97]) if snow else np.array([0.42, 0.24, 0.19]) * (0.7 + 0.6 * (house.seed % 7) / 7)
    if house.roof_height and gable_seen:
        p = canvas.patch(start + up, depth, (0, house.roof_height, 0))
        gable = p.v < house.roof_height * (1 - abs(2 * p.u / house.depth - 1))
        canvas.paint(p, gable, np.array(house.style.wall_colors[0]) * gable_light, BUILDING)
    if house.roof_height:
        eave = start + up - 0.4 * outward - np.array([0, 0.2, 0])
        p = canvas.patch(eave, along, depth / 2 + np.array([0, house.roof_height, 0]))
        rows = 0.85 + 0.15 * (np.mod(p.v, 0.35) < 0.25) + 0.25 * (noise(p.u, p.v * 2, octaves=2) - 0.5)
        canvas.paint(p, 1, tile * rows[..., None] * (light.shadow + 0.7 * sun), BUILDING)
    _paint_facades(canvas, noise, walls, house)


def _paint_facades(canvas: Canvas, noise: Noise, walls: list[tuple[Patch, ArrayLike]], house: House) -> None:
    """Paint the walls of a house, each a patch whose second edge points up, with the light [3] on it."""
    rng = np.random.default_rng(house.seed)
    style, height = house.style, house.height
    colors = np.array(style.wall_colors)
    wall = colors[rng.integers(len(colors))] * rng.uniform(0.88, 1.05)
    story_height, bay_width = rng.uniform(*style.story_height), rng.uniform(*style.bay_width)
    brightness = rng.random((64, 64))
    (pane_u, pane_v), (frame_u, frame_v) = style.pane_half_size, style.frame_half_size
    for p, light in walls:
        texture = 0.10 * (noise(p.u * 0.7, p.v * 0.7, octaves=5) - 0.5)
        foot = 0.75 + 0.25 * np.clip(p.v / 2.5, 0, 1)
        canvas.paint(p, 1, ((1 + texture) * foot)[..., None] * wall * light, BUILDING)
        u, v = np.mod(p.u, bay_width) / bay_width - 0.5, np.mod(p.v, story_height) / story_height - 0.5
        shop = (p.v < story_height) & style.shop_windows
        frame = (abs(u) < np.where(shop, 0.42, frame_u)) & (abs(v) < np.where(shop, 0.38, frame_v))
        pane = (abs(u) < np.where(shop, 0.38, pane_u)) & (abs(v) < np.where(shop, 0.34, pane_v)) & (abs(u) > 0.015)
        roof = p.v > height - 0.7
        canvas.paint(p, frame & ~roof, 0.72 * wall * light + 0.16 * style.gloss, None)
        story, bay = np.floor_divide(p.v, story_height).astype(int), np.floor_divide(p.u, bay_width).astype(int)
        window = brightness[story % 64, bay % 64]
        sky = np.array(style.glass_color) * (0.55 + 0.8 * window + 0.5 * v)[..., None]
        glass = np.where((window > 1 - style.lit_share)[..., None], np.array(style.lit_window_color), sky)
        canvas.paint(p, pane & ~roof, glass, None)
        ledge = (abs(v + 0.47) < 0.035) & (p.v > 1)
        canvas.paint(p, ledge | roof, wall * light * 0.86 + 0.07 * style.gloss, None)
        canvas.paint(p, abs(p.v - height + 0.75) < 0.10, wall * light * 0.5, None)
