"""The ground: road, sidewalk and terrain, with markings, snow and puddles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Patch
from .labels import ROAD, SIDEWALK, TERRAIN
from .lighting import Lighting
from .noise import Noise
from .road import Road

WHITE, YELLOW = np.array([0.93, 0.92, 0.88]), np.array([0.85, 0.65, 0.16])
GROUND_HALF_WIDTH = 2000  # meters of ground to either side
TERRAIN_COLORS = (  # of the terrain next to a road: a base color, and what is added where it is bright
    ((0.20, 0.27, 0.10), (0.24, 0.24, 0.10)),
    ((0.24, 0.32, 0.12), (0.20, 0.22, 0.10)),
    ((0.42, 0.38, 0.20), (0.26, 0.22, 0.12)),
    ((0.30, 0.22, 0.15), (0.16, 0.13, 0.10)),
    ((0.55, 0.48, 0.28), (0.22, 0.20, 0.12)),
)


def paint_ground(rng: np.random.Generator, canvas: Canvas, noise: Noise, road: Road, lighting: Lighting) -> NDArray:
    """Paint everything below the horizon.

    Args:
        rng: source of everything that differs between two grounds.
        canvas: to paint on.
        noise: texture of the ground.
        road: layout of the road.
        lighting: light on the ground, and its snow and water.

    Returns:
        [H, W] float32 in [0, 1], how much of what stands above it the ground reflects.
    """
    start = canvas.camera.position[2] + 0.6
    patch = canvas.patch((-GROUND_HALF_WIDTH, 0, start), (2 * GROUND_HALF_WIDTH, 0, 0), (0, 0, 1500))
    z = patch.v + np.float32(start)
    x = patch.u - np.float32(GROUND_HALF_WIDTH) - road.bend_offset(z).astype(np.float32)
    return _Ground(rng, canvas, noise, road, lighting, patch, x, z).paint()


class _Ground:
    """The patch of the ground, with what its layers share: x and z on the road, distance to its edge, grain, stains.

    Layers change colors [h, w, 3] and train ids [h, w] in place.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        canvas: Canvas,
        noise: Noise,
        road: Road,
        lighting: Lighting,
        patch: Patch,
        x: NDArray,
        z: NDArray,
    ) -> None:
        self.rng, self.canvas, self.noise, self.road, self.lighting = rng, canvas, noise, road, lighting
        self.patch, self.x, self.z = patch, x, z
        self.ahead = z - np.float32(canvas.camera.position[2])  # meters from the camera
        self.detail = np.clip(14 * canvas.camera.focal / self.ahead, 0, 1)  # fine grain fades to its mean with distance
        self.grain = (noise(x * 22, z * 22, octaves=2) - np.float32(0.5)) * self.detail
        self.stains = noise(x * 0.9 + 50, z * 0.15, octaves=2) - np.float32(0.5)
        self.edge_distance = road.edge_distance(x).astype(np.float32)

    def paint(self) -> NDArray:
        rng, road = self.rng, self.road
        color, ids = self._terrain_colors(), np.full(self.x.shape, TERRAIN, np.uint8)
        if road.sidewalk:
            sidewalk = self.edge_distance < road.sidewalk + (0 if road.kind == "suburb" or road.front_yard > 1 else 30)
            verge = rng.uniform(0.8, 1.6) if rng.random() < 0.25 and road.sidewalk > 2.5 else 0.0
            sidewalk &= (self.edge_distance > verge) | road.in_intersection(self.z, 4)
            _paint_layer(color, ids, sidewalk, self._sidewalk_colors(), SIDEWALK)
            curb = np.full(self.x.shape, rng.uniform(0.5, 0.75), np.float32) + 0.1 * self.grain
            curb = curb[..., None] * np.ones(3, np.float32)
            _paint_layer(color, ids, (self.edge_distance > 0) & (self.edge_distance < 0.2), curb, SIDEWALK)
        elif road.kind != "highway" and road.surface != "dirt":
            gravel = (0.45 + 0.3 * self.grain + 0.1 * self.stains)[..., None] * np.array([1, 0.93, 0.82], np.float32)
            ragged = 0.5 * self.noise(self.x * 0.8, self.z * 0.8, octaves=2)
            _paint_layer(color, ids, self.edge_distance < rng.uniform(0.1, 0.6) + ragged, gravel, TERRAIN)
        surface = self._road_colors(road.surface)
        _paint_layer(color, ids, self.edge_distance < 0, surface, ROAD)
        if road.intersection is not None:
            _paint_layer(color, ids, road.in_intersection(self.z), surface, ROAD)
        if min(road.parking) > 0 and road.kind != "highway" and rng.random() < 0.4:
            strip = (self.edge_distance < 0) & (self.edge_distance > -2.1)
            _paint_layer(color, ids, strip, self._road_colors("cobblestone"), ROAD)
        self._paint_tram_tracks(color)
        if road.surface in ("asphalt", "concrete", "cobblestone"):
            self._paint_markings(color)
        self._paint_snow(color, ids)
        reflectance = self._darken_wet(color, ids)
        color *= self.lighting.ground(self.x, self.z)
        self.canvas.paint(self.patch, 1, color, ids)
        image = np.zeros(self.canvas.size, np.float32)
        image[self.patch.window] = reflectance * self.patch.inside
        return image

    def _terrain_colors(self) -> NDArray:
        """Draw colors [h, w, 3] of grass, earth or sand."""
        index = self.rng.choice(len(TERRAIN_COLORS), p=[0.35, 0.3, 0.15, 0.1, 0.1])
        dark, bright = np.array(TERRAIN_COLORS, np.float32)[index]
        growth = self.noise(self.x * 1.2, self.z * 0.6, octaves=3) + self.noise(self.x * 0.05, self.z * 0.04, 2) - 0.5
        return dark + growth[..., None] * bright + (0.14 * self.grain)[..., None]

    def _sidewalk_colors(self) -> NDArray:
        """Draw colors [h, w, 3] of slabs, bricks or asphalt."""
        rng, x, z = self.rng, self.x, self.z
        tone = rng.uniform(0.42, 0.66)
        if rng.random() < 0.3:  # asphalt like that of the road, slightly brighter
            gray = tone - 0.05 + 0.12 * self.grain + 0.12 * self.stains
        else:
            width, length = rng.uniform(0.25, 1.2), rng.uniform(0.3, 1.4)
            joints = (np.mod(x, width) < 0.04) | (np.mod(z, length) < 0.05)
            slabs = self.noise(np.floor(x / width), np.floor(z / length), octaves=1) - 0.5
            gray = tone + 0.10 * self.stains + (0.10 * self.grain + (0.10 * slabs - 0.10 * joints) * self.detail)
        tint = np.array([1.0, rng.uniform(0.90, 1.0), rng.uniform(0.82, 1.0)], np.float32)
        if rng.random() < 0.12:
            tint = np.array([1.0, 0.72, 0.62], np.float32)  # brick
        return gray[..., None] * tint

    def _road_colors(self, name: str) -> NDArray:
        """Draw colors [h, w, 3] of a surface."""
        rng, x, z = self.rng, self.x, self.z
        if name == "cobblestone":
            width, length = rng.uniform(0.10, 0.22), rng.uniform(0.10, 0.22)
            row = np.floor(z / length)
            u, v = np.mod(x / width + 0.5 * np.mod(row, 2), 1), np.mod(z / length, 1)
            stone = self.noise(np.floor(x / width + 0.5 * np.mod(row, 2)), row, octaves=1) - 0.5
            joint = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.12
            detail = np.clip(6 * self.canvas.camera.focal / self.ahead, 0, 1)
            gray = rng.uniform(0.34, 0.48) + 0.10 * self.stains + (0.20 * stone - 0.14 * joint) * detail + 0.03
            return gray[..., None] * np.array([1.0, 0.97, 0.93], np.float32)
        if name in ("gravel", "dirt"):
            tone = np.array([0.52, 0.47, 0.40] if name == "gravel" else [0.42, 0.32, 0.23], np.float32)
            tone = tone * np.float32(rng.uniform(0.8, 1.15))
            wheel_tracks = np.exp(-(((abs(x) - 0.85 * self.road.lane_width / 2.4) / 0.35) ** 2))
            ruts = 0.12 * (wheel_tracks - 0.3) * rng.uniform(0.2, 1.2)
            out = (1 + 0.75 * self.grain + 0.5 * self.stains + ruts)[..., None] * tone
            if name == "dirt" and rng.random() < 0.6:
                tuft = np.clip(self.noise(x * 2, z * 1.2, octaves=2) * 3 - 0.9, 0, 1) * (abs(x) < 0.5)
                out += 0.7 * tuft[..., None] * (np.array([0.27, 0.33, 0.14], np.float32) - out)
            return out
        dark = rng.uniform(0.22, 0.46) if name == "asphalt" else rng.uniform(0.48, 0.6)
        ruts = np.cos((abs(x) - self.road.lane_width / 2) * 2 * np.pi / 1.8)
        gray = dark + 0.14 * dark / 0.4 * self.grain + 0.14 * dark * self.stains - 0.02 * ruts
        if name == "concrete":
            joint = (np.mod(z, 5.0) < 0.06) | (np.mod(x, self.road.lane_width) < 0.05)
            gray = gray - 0.12 * joint * self.detail
        else:
            if rng.random() < 0.5:  # repaired rectangles
                cell = self.noise(np.floor(x / 1.7), np.floor(z / rng.uniform(3, 9)), octaves=1)
                gray = gray * np.where(cell > 0.86, rng.uniform(0.7, 1.2), 1)
            if rng.random() < 0.6:  # cracks along the contour lines of the noise
                crack = abs(self.noise(x * 0.5 + 9, z * 0.3 + 3, octaves=3) - 0.5) < 0.006
                gray = gray - 0.10 * crack * self.detail
        tint = np.array([rng.uniform(0.92, 1.02), 0.98, rng.uniform(0.96, 1.08)], np.float32)
        return gray.astype(np.float32)[..., None] * tint

    def _paint_tram_tracks(self, color: NDArray) -> None:
        for center in self.road.tram_tracks:
            rail_distance = abs(abs(self.x - center) - 0.72)
            _blend(color, (rail_distance < 0.11) * 0.6, np.array([0.30, 0.29, 0.28]))
            _blend(color, (rail_distance < 0.045) * 0.9, np.array([0.55, 0.54, 0.52]))

    def _paint_markings(self, color: NDArray) -> None:
        rng, road, x, z = self.rng, self.road, self.x, self.z
        opacity = np.clip(self.noise(x * 6, z * 3, octaves=2) * 3 - rng.uniform(0.1, 1.1), 0.15, 0.95)
        left, right = road.edges
        tone = YELLOW if rng.random() < 0.12 else WHITE
        free = ~road.in_intersection(z, 5)
        half = rng.uniform(0.05, 0.10)
        dash, gap = rng.uniform(1.5, 6), rng.uniform(1.5, 9)
        dashes = np.mod(z, dash + gap) < dash
        lines = np.zeros(x.shape, bool)
        if road.kind != "highway" and rng.random() < 0.8:
            style = rng.choice(["dashes", "line", "double"], p=[0.65, 0.2, 0.15])
            if style == "double":
                lines |= abs(abs(x) - 0.14) < half
            else:
                lines |= (abs(x) < half) & (dashes if style == "dashes" else True)
        for side in (-1, 1):
            for number in range(1, road.lanes[side > 0]):
                lines |= (abs(x - side * number * road.lane_width) < half) & dashes
        if road.kind in ("country", "highway") or rng.random() < 0.3:
            for lanes, side in zip(road.lanes, (-1, 1), strict=True):
                inset = 0.0 if road.kind == "highway" else -0.25
                lines |= abs(side * x - (lanes * road.lane_width + inset)) < 1.5 * half
        if road.kind == "highway":
            lines |= abs(abs(x) - 0.9) < 1.5 * half
        _blend(color, (lines & free & (self.edge_distance < 0)) * opacity, tone)
        if road.crosswalk is not None:
            across = (z > road.crosswalk) & (z < road.crosswalk + 3.5) & (self.edge_distance < -0.2)
            _blend(color, (across & (np.mod(x, 1.0) < 0.5)) * opacity, WHITE)
        if road.intersection is not None:
            stop = road.intersection - road.intersection_width / 2 - 1.2
            _blend(color, ((abs(z - stop) < 0.2) & (x > 0) & (x < right)) * opacity, WHITE)
        if rng.random() < 0.2:  # an arrow in our lane
            center, start = float(road.lane_centers(1)[0]), rng.uniform(7, 25)
            u, v = abs(x - center), z - start
            head = (v > 2.2) & (v < 3.8) & (u < 0.45 * (3.8 - v) / 1.6)
            _blend(color, (head | ((u < 0.09) & (v > 0) & (v < 2.3))) * opacity, WHITE)
        if rng.random() < 0.3:  # a manhole
            center_x, center_z = rng.uniform(left, right), rng.uniform(5, 20)
            radius = np.hypot(x - center_x, z - center_z)
            _blend(color, (radius < 0.34) * 0.7, np.array([0.22, 0.21, 0.20]))

    def _paint_snow(self, color: NDArray, ids: NDArray) -> None:
        amount = self.lighting.weather.snow_cover
        if not amount:
            return
        lumps = self.noise(self.x * 0.8 + 21, self.z * 0.5, octaves=3)
        cover = np.clip((lumps - 0.75 + 0.75 * amount) * 6, 0, 1)
        tracks = np.clip(1.6 * np.cos((abs(self.x) - self.road.lane_width / 2) * 2 * np.pi / 1.7) + 0.2, 0, 1)
        cleared = np.where(ids == ROAD, self.rng.uniform(0, 0.9) * (1 - 0.8 * tracks), 1.0)
        cleared = np.where(ids == SIDEWALK, self.rng.uniform(0.2, 1), cleared)
        white = 0.88 + 0.10 * self.grain + 0.08 * self.stains
        _blend(color, cover * cleared, white[..., None] * np.array([0.97, 0.98, 1.02]))

    def _darken_wet(self, color: NDArray, ids: NDArray) -> NDArray:
        """Darken wet ground, and return how much of what stands above it it reflects, [h, w]."""
        amount = self.lighting.weather.wetness
        if not amount:
            return np.zeros(self.x.shape, np.float32)
        puddle = np.clip((self.noise(self.x * 0.5 + 33, self.z * 0.2, octaves=3) - 0.45) * 5, 0, 1)
        paved = np.where(ids == TERRAIN, 0.15, 1.0)
        color *= (1 - 0.35 * amount * paved)[..., None]
        grazing = np.clip(self.ahead / 30, 0.15, 1)
        return (amount * paved * (0.25 + 0.6 * puddle) * grazing).astype(np.float32)


def _paint_layer(color: NDArray, ids: NDArray, mask: NDArray, layer: NDArray, train_id: int) -> None:
    np.copyto(color, layer, where=mask[..., None], casting="same_kind")
    ids[mask] = train_id


def _blend(color: NDArray, opacity: NDArray, layer: NDArray) -> None:
    color += opacity.astype(np.float32)[..., None] * (layer.astype(np.float32) - color)
