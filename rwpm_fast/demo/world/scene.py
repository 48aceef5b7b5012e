"""Puts a scene together: where things stand, and the order they are painted in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..backdrop import paint_ridge
from ..canvas import Camera, Canvas, Noise
from ..labels import BUILDING, EGO, UNKNOWN
from ..things import Things, Tree
from .ground import paint_ground
from .houses import draw_houses, paint_house, roofs
from .lighting import LAMP, Lighting, glow
from .oddities import draw_oddity
from .people import cyclist, motorcyclist, pedestrian
from .road import Road, draw_road
from .roadside import Border, paint_gantry, paint_sign, paint_traffic_light
from .solids import Solid
from .vehicles import bicycle, bus, car, motorcycle, tram, truck, two_wheeler
from .weather import Weather, draw_weather

FAR = 75  # metres to the last thing that is drawn for itself
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


class Painter:
    """Paints one scene; everything that differs between two scenes comes from ``rng``."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.noise = Noise(rng)
        self.weather: Weather = draw_weather(rng)
        self.road: Road = draw_road(rng)
        self.own = float(self.road.lane_middles(1)[rng.integers(self.road.lanes[1])]) + rng.normal(0, 0.3)
        if rng.random() < 0.06 and self.road.walk:
            self.own = self.road.edges[1] + self.road.walk / 2  # from the sidewalk
        camera = Camera(
            place=(self.own, rng.uniform(1.1, 2.1), 0.0),
            focal=float(np.exp(rng.uniform(np.log(0.85), np.log(2.1)))),
            horizon=rng.uniform(0.30, 0.54),
            shift=rng.uniform(-0.16, 0.16),
        )
        self.canvas = Canvas(size, camera, self.weather.haze, self.weather.visibility)
        glass = np.array(self.weather.sky.high) * 0.5 + 0.25 * self.weather.ambient
        self.houses = draw_houses(rng, self.road, self.weather.lamps, glass)
        self.lighting = Lighting(self.weather, self.own, self.road.facades, roofs(self.houses))
        self.draws: list[tuple[bool, float, Callable[[], None]]] = []  # each with whether it stands inside, and how far
        self.mirror = np.zeros(size, np.float32)

    def paint(self) -> None:
        self._backdrop()
        self._lamps()
        self.mirror = paint_ground(self.rng, self.canvas, self.noise, self.road, self.lighting)
        for house in self.houses:
            middle = (house.start + house.stop) / 2
            # the sun reaches a facade over the road, whatever stands behind it
            light = self.lighting.at(self.road.facades[int(house.side > 0)], middle)
            light = replace(light, sunlit=light.shadow + self.weather.sun)
            things = Things(self.canvas, self.noise, light)
            draw = lambda h=house, t=things: paint_house(self.canvas, t, self.road, h, self.lighting)  # noqa: E731
            self._add(max(house.start, 0.5), draw, inside=False)
        self._borders()
        self._trees()
        self._signs()
        self._traffic()
        self._people()
        self._oddities()
        for _, _, draw in sorted(self.draws, key=lambda entry: (entry[0], -entry[1])):
            draw()

    def _add(self, z: float, draw: Callable[[], None], inside: bool = True) -> None:
        """Have something painted; ``inside`` the two rows of houses means before them, seen from the road."""
        self.draws.append((inside, z, draw))

    def _things(self, x: float, z: float) -> Things:
        return Things(self.canvas, self.noise, self.lighting.at(x, z))

    def _world(self, x: float, z: float) -> float:
        return x + float(self.road.shift(z))

    def _backdrop(self) -> None:
        rng, c, w = self.rng, self.canvas, self.weather
        w.sky.paint(c, self.noise, octaves=4)
        scale = c.camera.focal
        day = np.clip(w.ambient + w.sun, 0, 1.1)
        if rng.random() < 0.5:
            mountain = 0.6 * w.haze + 0.4 * np.array([0.40, 0.46, 0.52]) * day
            paint_ridge(c, self.noise, rng.uniform(0.03, 0.10) * scale, mountain, rng.uniform(0, 99), 1.6)
        near = np.array([0.22, 0.30, 0.16]) * day * 0.7 + 0.3 * w.haze
        fog = 1 - np.exp(-120 / w.visibility)
        near = near * (1 - fog) + w.haze * fog
        trees = rng.uniform(0.012, 0.05) * scale
        paint_ridge(c, self.noise, trees, near, rng.uniform(0, 99), rng.uniform(3, 9))
        if rng.random() < {"city": 0.8, "suburb": 0.5, "country": 0.1, "motorway": 0.25}[self.road.kind]:
            tone = rng.uniform(0.3, 0.6) * np.array([1.0, 0.95, 0.9]) * day
            tone = tone * (1 - fog) + w.haze * fog
            top, blocks = rng.uniform(0.02, 0.10) * scale, rng.uniform(12, 40) / scale
            paint_ridge(c, self.noise, top, tone, rng.uniform(0, 99), 20.0, BUILDING, (2, 0.2), blocks)

    def _lamps(self) -> None:
        rng, road = self.rng, self.road
        if rng.random() > {"city": 0.85, "suburb": 0.75, "country": 0.15, "motorway": 0.3}[road.kind]:
            return
        places = []
        for side in rng.permutation([-1, 1])[: int(rng.integers(1, 3))]:
            x = road.edges[int(side > 0)] + side * rng.uniform(0.4, 0.9)
            for z in np.arange(rng.uniform(5, 22), 90, rng.uniform(18, 32)):
                if not road.crossed(z, 1):
                    places.append((x, z, int(side)))
        self.lighting.lamps = np.array([(x - 1.3 * side, z) for x, z, side in places if z < 70]).reshape(-1, 2)
        for x, z, side in places:
            self._add(z, lambda x=x, z=z, side=side: self._lamp(x, z, side))

    def _lamp(self, x: float, z: float, side: int) -> None:
        things = self._things(x, z)
        things.lamp(self._world(x, z), z, side, things.light.sunlit)
        if self.weather.lamps:
            place = self._world(x, z) - 1.25 * side, 6.75, z
            glow(self.canvas, place, 1.1, 1.6 * self.weather.lamps * LAMP)

    def _borders(self) -> None:
        """Walls, fences, hedges and guard rails along the road, in pieces that things stand before or behind."""
        rng, road = self.rng, self.road
        for side in (-1, 1):
            edge, facade = road.edges[int(side > 0)], road.facades[int(side > 0)]
            if road.kind == "motorway":
                if rng.random() < 0.75:
                    self._border(Border.draw(rng, "rail"), edge + 0.8 * side, 3, 110)
                if rng.random() < 0.5:
                    self._border(Border.draw(rng, str(rng.choice(["noise wall", "fence"]))), edge + 5 * side, 3, 130)
            elif road.yard > 0.8 or rng.random() < 0.12:
                share = {"city": 0.75, "suburb": 0.9, "country": 0.4}[road.kind]
                x = (edge + side * (road.walk + 0.15)) if road.walk else edge + side * rng.uniform(1.5, 4)
                z = rng.uniform(1.5, 10)
                while z < 80 and abs(facade - x) > 0.3:
                    stop = z + rng.uniform(8, 40)
                    if rng.random() < share:
                        self._border(
                            Border.draw(rng, str(rng.choice(["wall", "fence", "pickets", "hedge"]))), x, z, stop
                        )
                    z = stop
            if road.kind == "country" and rng.random() < 0.25:
                self._border(Border.draw(rng, "rail"), edge + 0.7 * side, 3, 90)
            elif road.kind == "city" and rng.random() < 0.15:
                self._border(Border.draw(rng, "fence"), edge + 0.3 * side, rng.uniform(4, 15), rng.uniform(25, 60))
        if road.kind == "motorway":
            self._border(Border.draw(rng, str(rng.choice(["rail", "barrier"]))), 0.0, 2, 130)

    def _border(self, border: Border, x: float, start: float, stop: float) -> None:
        z = start
        while z < stop:
            piece = min(4 + 0.08 * z, stop - z)
            if not self.road.crossed(np.array([z, z + piece]), 1.5).any():
                ends = [np.array([self._world(x, at), 0, at]) for at in (z, z + piece)]
                light = self.lighting.at(x, z).sunlit * 0.92
                self._add(z + piece, lambda e=ends, o=z, at=light: border.paint(self.canvas, self.noise, *e, o, at))
            z += piece

    def _trees(self) -> None:
        rng, road = self.rng, self.road
        kinds = [TREES[i] for i in rng.choice(len(TREES) - 2, 2)]
        if self.weather.snow:
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
                    self._add(z, lambda x=x, z=z, s=scale, e=seed, k=kind: self._tree(x, z, s, e, k))
                z += gap * rng.uniform(0.5, 1.5)

    def _tree(self, x: float, z: float, scale: float, seed: float, kind: Tree) -> None:
        things = self._things(x, z)
        light = things.light
        lit = light.sunlit if light.side * (x - self.own) <= 0 else 0.45 * light.sunlit + 0.65 * light.shadow
        things.tree(self._world(x, z), z, scale, seed, lit * (1.5 if self.weather.snow else 1.0), kind)

    def _signs(self) -> None:
        rng, road = self.rng, self.road
        count = rng.poisson({"city": 3.0, "suburb": 1.6, "country": 1.2, "motorway": 1.0}[road.kind])
        for _ in range(count):
            side = int(rng.choice([-1, 1], p=[0.35, 0.65]))
            x, z = road.edges[int(side > 0)] + side * rng.uniform(0.5, 1.6), rng.uniform(7, 50)
            if not road.crossed(z, 0.5):
                light = self.lighting.at(x, z).sunlit * rng.uniform(0.75, 1.05)
                place = self._world(x, z), z, light
                self._add(z, lambda p=place: paint_sign(rng, self.canvas, self.noise, *p))
        if road.kind == "motorway" and rng.random() < 0.5:
            z = rng.uniform(28, 70)
            light, shift = self.lighting.at(0, z).sunlit, float(road.shift(z))
            boards = [(float(x), 1.6) for x in road.lane_middles(1) if rng.random() < 0.8]
            span = (-0.5, road.edges[1] + 1.5)
            self._add(z, lambda: paint_gantry(self.canvas, span, z, shift, boards, light))
        if road.kind in ("city", "suburb") and (road.crossing or road.zebra) and rng.random() < 0.75:
            z = road.zebra - 0.8 if road.zebra else road.crossing - road.crossing_width / 2 - 1
            for side, behind in [(1, 0.0), (-1, 0.0), *([(1, road.crossing_width + 14)] if road.crossing else [])]:
                x, arm = road.edges[int(side > 0)] + 0.5 * side, 0.0
                if side > 0 and rng.random() < 0.4:
                    arm = -rng.uniform(2.0, 4.5)
                place = self._world(x, z + behind), z + behind, arm, self.lighting.at(x, z + behind).sunlit
                self._add(z + behind, lambda p=place: paint_traffic_light(rng, self.canvas, *p, self.weather.lamps))

    def _solid(self, solid: Solid, x: float, z: float, yaw: float, lamps: bool = False) -> None:
        """A solid with its middle at (x, z), turned from the road's direction by ``yaw`` radians."""
        slope = float(self.road.shift(z + 0.5) - self.road.shift(z - 0.5))
        yaw = yaw + np.arctan(slope)
        reach = abs(np.cos(yaw)) * solid.size[2] / 2 + abs(np.sin(yaw)) * solid.size[0] / 2
        wide = abs(np.cos(yaw)) * solid.size[0] / 2 + abs(np.sin(yaw)) * solid.size[2] / 2
        if z - reach > 1.0:
            left, right = self.road.facades
            draw = lambda: self._paint_solid(solid, x, z, yaw, (wide, reach), lamps)  # noqa: E731
            self._add(z - reach, draw, inside=left < x < right)

    def _paint_solid(
        self, solid: Solid, x: float, z: float, yaw: float, extent: tuple[float, float], lamps: bool
    ) -> None:
        things, at = self._things(x, z), self._world(x, z)
        wide, reach = extent
        things.contact(at, z, 1.15 * wide + 0.12, 1.1 * reach + 0.12, 0.95)
        solid.paint(self.canvas, (at, 0.0, z), yaw, things.light, self.weather.towards)
        if lamps and self.weather.lamps:
            towards = np.cos(yaw) < 0
            for side in (-0.65, 0.65):
                colour = np.array([1.0, 0.98, 0.9]) * 1.5 if towards else np.array([0.9, 0.05, 0.03]) * 0.8
                place = at + side * np.cos(yaw), 0.72, z - reach - 0.05
                glow(self.canvas, place, 0.75 if towards else 0.3, self.weather.lamps * colour)

    def _traffic(self) -> None:
        rng, road = self.rng, self.road
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
                z = rng.uniform(9, 26) if abs(x - self.own) < 1.5 else rng.uniform(5, 22)
                while z < FAR:
                    if rng.random() < busy:
                        maker = tram if on_rails and rng.random() < 0.55 else makers[rng.choice(5, p=shares)]
                        solid = maker(rng)
                        middle = z + solid.size[2] / 2
                        place = side * (abs(x) + road.lane * 0.25) if maker is cyclist else x + rng.normal(0, 0.15)
                        yaw = rng.normal(0, 0.03) + (np.pi if side < 0 else 0.0)
                        if (
                            not road.crossed(np.linspace(z, middle + solid.size[2] / 2, 4), 0).any()
                            or maker is not tram
                        ):
                            self._solid(solid, place, middle, yaw, lamps=True)
                        z += solid.size[2]
                    z += rng.uniform(4, 14) * (1 + 0.04 * z)
            if road.parking[int(side > 0)] > 1.5 and (road.kind != "motorway" or rng.random() < 0.2):
                self._parked(side)
            if road.walk and rng.random() < 0.55:
                self._parked_two_wheelers(side)
        if road.crossing is not None:
            for _ in range(rng.poisson(1.3)):
                maker = (*makers, tram)[rng.choice(6, p=(0.5, 0.1, 0.14, 0.07, 0.12, 0.07))]
                away = int(rng.choice([-1, 1]))
                self._solid(maker(rng), rng.uniform(-16, 16), road.crossing + away * 1.7, away * np.pi / 2)

    def _parked(self, side: int) -> None:
        rng, road = self.rng, self.road
        x = road.edges[int(side > 0)] - side * 1.05
        z, full = rng.uniform(3, 14), rng.uniform(0.3, 0.95)
        while z < 65:
            solid = car(rng) if rng.random() < 0.9 else truck(rng)
            long = solid.size[2]
            taken = np.array([z, z + long])
            blocked = road.crossed(taken, 5).any() or (road.zebra is not None and abs(taken - road.zebra - 2).min() < 4)
            if rng.random() < full and not blocked:
                backwards = np.pi * (rng.random() < (0.15 if side > 0 else 0.85))
                self._solid(solid, x, z + long / 2, backwards + rng.normal(0, 0.03))
            z += long + rng.uniform(0.6, 2.0)

    def _parked_two_wheelers(self, side: int) -> None:
        rng, road = self.rng, self.road
        motor = rng.random() < 0.45
        x = road.edges[int(side > 0)] + side * rng.uniform(0.5, max(0.6, road.walk - 0.6))
        z, yaw = rng.uniform(6, 30), rng.uniform(-np.pi, np.pi)
        for _ in range(int(rng.integers(1, 6))):
            if not road.crossed(z, 2):
                parts = motorcycle(rng) if motor else bicycle(rng)
                self._solid(two_wheeler(parts), x + rng.normal(0, 0.1), z, yaw + rng.normal(0, 0.12))
            z += rng.uniform(0.7, 1.6)

    def _people(self) -> None:
        rng, road = self.rng, self.road
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
                self._solid(pedestrian(rng), x, z, yaw + rng.normal(0, 0.15))
                x, z = x + side * rng.uniform(0.3, 0.7), z + rng.normal(0, 0.5)
        if road.zebra is not None:
            for _ in range(rng.poisson(1.2)):
                x, z = rng.uniform(road.edges[0] - 1, road.edges[1] + 1), road.zebra + rng.uniform(0.4, 3.2)
                self._solid(pedestrian(rng), x, z, rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.2))
        if road.walk and rng.random() < 0.2:
            side = int(rng.choice([-1, 1]))
            x = road.edges[int(side > 0)] + side * rng.uniform(0.4, max(0.5, road.walk - 0.5))
            self._solid(cyclist(rng), x, rng.uniform(7, 30), rng.choice([0, np.pi]) + rng.normal(0, 0.1))

    def _oddities(self) -> None:
        rng, road = self.rng, self.road
        if rng.random() > 0.5:
            return
        for _ in range(int(rng.integers(1, 4))):
            z = 5.5 + 26 * rng.random() ** 1.6
            left, right = road.edges
            x = self.own + rng.normal(0, 1.8) if rng.random() < 0.7 else rng.uniform(left - 2, right + 2)
            flat = rng.random()
            if flat < 0.2:
                self._add(z, lambda x=x, z=z, kind=flat < 0.1: self._flat_oddity(x, z, kind))
            else:
                self._solid(draw_oddity(rng, self.noise), x, z, rng.uniform(-np.pi, np.pi))

    def _flat_oddity(self, x: float, z: float, boxy: bool) -> None:
        things = self._things(x, z)
        draw = things.crate if boxy else things.animal
        draw(self.rng, self._world(x, z), z, things.light.sunlit)


def compose(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Painter, NDArray]:
    """Paint a scene; the painter with its canvas, and classes [H, W] with 255 where there is none."""
    painter = Painter(rng, size)
    painter.paint()
    if rng.random() < 0.35:
        things = painter._things(painter.own, 1.0)
        colour = rng.uniform(0.02, 0.5, 3) * np.clip(painter.weather.ambient, 0.1, 1)
        things.bonnet(rng.uniform(0.86, 0.97), colour)
    ids = painter.canvas.class_map
    return painter, np.where(ids == EGO, UNKNOWN, ids)
