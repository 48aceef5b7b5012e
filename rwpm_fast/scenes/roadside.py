"""Flat objects along a road: walls, fences, hedges, guard rails, poles, signs and traffic lights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Patch
from .labels import FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, WALL
from .noise import Noise

SIGN_KINDS = ("ban", "warning", "blue", "stop", "yield", "board", "town")
RED, BLUE, YELLOW, WHITE = (0.72, 0.08, 0.08), (0.06, 0.20, 0.58), (0.88, 0.72, 0.10), (0.93, 0.93, 0.91)

BORDERS = {  # range of the height in meters, and colors to choose from
    "wall": ((0.7, 2.4), [(0.50, 0.28, 0.22), (0.60, 0.58, 0.54), (0.72, 0.66, 0.56), (0.45, 0.42, 0.38)]),
    "noise barrier": ((2.5, 4.5), [(0.45, 0.50, 0.44), (0.58, 0.56, 0.52), (0.42, 0.34, 0.26), (0.40, 0.48, 0.55)]),
    "barrier": ((0.8, 1.0), [(0.62, 0.61, 0.58)]),
    "fence": ((0.9, 2.0), [(0.12, 0.13, 0.13), (0.16, 0.26, 0.18), (0.50, 0.51, 0.52)]),
    "picket fence": ((0.8, 1.4), [(0.85, 0.84, 0.80), (0.40, 0.28, 0.18), (0.30, 0.24, 0.20)]),
    "rail": ((0.75, 0.8), [(0.60, 0.62, 0.64)]),
    "hedge": ((0.7, 2.2), [(0.16, 0.24, 0.09)]),
}


@dataclass(frozen=True)
class Border:
    """A wall, fence, hedge or guard rail along the road, which looks the same over its whole length.

    Attributes:
        kind: "wall", "noise barrier", "barrier", "fence", "picket fence", "rail" or "hedge".
        height: meters.
        color: [3].
        seed: any number; another one gives another texture.
    """

    kind: str
    height: float
    color: NDArray
    seed: float

    @classmethod
    def draw(cls, rng: np.random.Generator, kind: str) -> Border:
        """Draw height, color and texture of a border of a kind."""
        heights, colors = BORDERS[kind]
        color = np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.8, 1.15)
        return cls(kind, rng.uniform(*heights), color, rng.uniform(0, 99))

    def paint(self, canvas: Canvas, noise: Noise, start: NDArray, stop: NDArray, offset: float, light: NDArray) -> None:
        """Paint a piece of the border.

        Args:
            canvas: to paint on.
            noise: texture of the border.
            start: [3] lower near corner of the piece in the world, meters.
            stop: [3] lower far corner, meters.
            offset: meters from the start of the border to the start of the piece.
            light: [3] on the piece.
        """
        p = canvas.patch(start, stop - start, (0, 1.15 * self.height, 0))
        u, v = p.u + np.float32(offset), p.v
        strip = v < self.height
        if self.kind == "hedge":
            leaves = noise(u * 3 + self.seed, v * 3, octaves=3)
            edge = v < self.height * (0.92 + 0.25 * (noise(u * 1.5 + self.seed, 0.5 + 0 * v, octaves=2) - 0.5))
            canvas.paint(p, edge, self.color * (0.35 + 1.5 * leaves)[..., None] * light, VEGETATION)
        elif self.kind in ("wall", "noise barrier", "barrier"):
            if self.kind == "wall":
                course = np.floor(v / 0.25)
                brick = u / 0.5 + 0.5 * np.mod(course, 2)
                joint = (np.mod(v, 0.25) < 0.03) | (np.mod(brick, 1) < 0.05)
                stone = noise(np.floor(brick) + self.seed, course, octaves=1) - 0.5
            else:
                joint, stone = (np.mod(u, 4.0) < 0.12) | (np.mod(v, 0.5) < 0.03), np.zeros_like(u)
            rough = 0.85 + 0.3 * noise(u + self.seed, v * 1.3, octaves=3) + 0.3 * stone - 0.2 * joint
            cap = (v > self.height - 0.12) & (self.kind == "wall")
            foot = 0.8 + 0.2 * np.clip(v / 0.6, 0, 1)
            color = np.where(cap[..., None], 0.6, self.color) * (rough * foot)[..., None]
            canvas.paint(p, strip, color * light, WALL)
        elif self.kind == "rail":
            canvas.label(p, strip, FENCE)
            canvas.paint(p, (np.mod(u, 2.0) < 0.12) & (v < 0.7), self.color * 0.7 * light, FENCE)
            wave = 0.75 + 0.35 * np.cos((v - 0.6) * 2 * np.pi / 0.16)
            canvas.paint(p, abs(v - 0.6) < 0.16, self.color * wave[..., None] * light, FENCE)
        else:
            canvas.label(p, strip, FENCE)
            if self.kind == "picket fence":
                rails = (abs(v - 0.25 * self.height) < 0.05) | (abs(v - 0.75 * self.height) < 0.05)
                opacity = ((np.mod(u, 0.22) < 0.13) | rails).astype(float)
            else:
                mesh = (np.mod(u + v, 0.16) < 0.03) | (np.mod(u - v, 0.16) < 0.03)
                mesh = mesh if self.seed < 50 else np.mod(u, 0.14) < 0.03
                frame = (np.mod(u, 2.5) < 0.07) | (abs(v - self.height + 0.04) < 0.04) | (abs(v - 0.1) < 0.04)
                far = np.clip(p.depth / 12, 0, 1)  # a mesh fades to its mean with distance
                opacity = np.where(frame, 1.0, mesh * (1 - far) + 0.3 * far)
            shade = 0.85 + 0.3 * noise(u * 4 + self.seed, v, octaves=2)
            canvas.paint(p, strip * opacity, self.color * shade[..., None] * light, None)


def paint_traffic_light(
    rng: np.random.Generator, canvas: Canvas, x: float, z: float, arm: float, light: NDArray, lamp_brightness: float
) -> None:
    """Paint a traffic light: a pole with a head at the eye level of a driver, and perhaps one over the road.

    Args:
        rng: source of its height and of the light that is on.
        canvas: to paint on.
        x: of the pole in the world, meters.
        z: of the pole, meters.
        arm: length of the arm over the road in meters, < 0 to the left; 0 for none.
        light: [3] on the pole.
        lamp_brightness: of the weather.
    """
    height = 5.6 if arm else rng.uniform(3.0, 3.6)
    lit_index = int(rng.integers(3))
    pole = canvas.upright(x, z, 0.4, height)
    canvas.paint(pole, abs(pole.u - 0.2) < 0.075, np.array([0.34, 0.36, 0.37]) * light, POLE)
    if arm:
        p = canvas.patch((min(x, x + arm), height - 0.25, z), (abs(arm), 0, 0), (0, 0.16, 0))
        canvas.paint(p, 1, np.array([0.34, 0.36, 0.37]) * light, POLE)
        _paint_traffic_light_head(canvas, x + arm, height - 1.15, z - 0.05, lit_index, light, lamp_brightness, True)
    y, board = 2.1 if arm else height - 1.0, rng.random() < 0.3
    _paint_traffic_light_head(canvas, x, y, z - 0.05, lit_index, light, lamp_brightness, board)


def _paint_traffic_light_head(
    canvas: Canvas, x: float, y: float, z: float, lit_index: int, light: NDArray, lamp_brightness: float, board: bool
) -> None:
    """Paint the three lenses of a traffic light with the lower edge of their case at (x, y, z), on a board or not."""
    p = canvas.patch((x - 0.4, y - 0.15, z), (0.8, 0, 0), (0, 1.3, 0))
    u, v = p.u - 0.4, p.v - 0.15
    case = (abs(u) < 0.17) & (v > 0) & (v < 1.0)
    if board:
        plate = (abs(u) < 0.3) & (v > -0.12) & (v < 1.12)
        canvas.paint(p, plate, np.array([0.05, 0.05, 0.05]) * light, TRAFFIC_LIGHT)
        rim = plate & ((abs(u) > 0.26) | (v < -0.07) | (v > 1.07))
        canvas.paint(p, rim, np.array(WHITE) * light, TRAFFIC_LIGHT)
    canvas.paint(p, case, np.array([0.07, 0.08, 0.07]) * light, TRAFFIC_LIGHT)
    for index, color in enumerate([(0.15, 1.0, 0.55), (1.0, 0.72, 0.10), (1.0, 0.14, 0.08)]):
        on = index == lit_index
        lens = np.hypot(u, v - 0.18 - 0.32 * index) < 0.125
        glass = np.array(color) if on else np.array(color) * 0.16 * np.mean(light)
        canvas.paint(p, lens, glass, TRAFFIC_LIGHT)
        if on:
            halo = np.exp(-6 * np.hypot(u, v - 0.18 - 0.32 * index)) * (0.35 + lamp_brightness)
            canvas.paint(p, 0.5 * halo, glass, None)


def paint_sign(rng: np.random.Generator, canvas: Canvas, noise: Noise, x: float, z: float, light: NDArray) -> None:
    """Paint a traffic sign of any kind on one or two poles.

    Args:
        rng: source of kind, size and colors.
        canvas: to paint on.
        noise: what is written on the sign.
        x: center in the world, meters.
        z: of the sign, meters.
        light: [3] on the sign.
    """
    kind = str(rng.choice(SIGN_KINDS, p=[0.24, 0.17, 0.20, 0.06, 0.10, 0.15, 0.08]))
    size = rng.uniform(0.32, 0.5)
    center_height = rng.uniform(1.9, 2.7)
    width = {"board": rng.uniform(0.7, 1.8), "town": rng.uniform(0.5, 0.8)}.get(kind, size)
    height = {"board": rng.uniform(0.4, 1.1), "town": 0.35}.get(kind, size)
    p = canvas.upright(x, z, 2 * width + 0.2, center_height + height + 0.05)
    u, v = p.u - width - 0.1, p.v - center_height
    poles = abs(u) < 0.04 if width < 0.6 else abs(abs(u) - 0.7 * width) < 0.045
    canvas.paint(p, poles & (v < height * 0.9), np.array([0.50, 0.51, 0.53]) * light, POLE)
    plates = [(u, v, kind)]
    if kind not in ("board", "town") and rng.random() < 0.25:
        plates.append((u, v + 2.05 * size, str(rng.choice(["ban", "blue", "town"]))))
    blue = bool(rng.random() < 0.5)
    glyph = noise(u * 6 / size + rng.uniform(0, 99), v * 6 / size, octaves=1)
    for a, b, name in plates:
        plate = (width, height) if name == kind else (size, 0.3 if name == "town" else size)
        _paint_plate(canvas, p, (a / plate[0], b / plate[1]), name, blue, glyph, light)


def _paint_plate(
    canvas: Canvas, p: Patch, position: tuple[NDArray, NDArray], kind: str, blue: bool, glyph: NDArray, light: NDArray
) -> None:
    """Paint a plate on a patch; ``position`` runs from -1 to 1 over the plate in both directions."""
    a, b = position
    if kind in ("warning", "yield"):
        b = b if kind == "warning" else -b
        shape, inner = np.maximum(abs(a) + 0.5 * b - 0.5, -b - 0.75) + 1, 0.78
    elif kind == "stop":
        shape, inner = np.maximum(np.maximum(abs(a), abs(b)), (abs(a) + abs(b)) / 1.35), 0.92
    elif kind in ("board", "town"):
        shape, inner = np.maximum(abs(a), abs(b)), 0.93
    else:
        shape, inner = np.hypot(a, b), 0.76 if kind == "ban" else 0.93
    rim, face, ink = {
        "ban": (RED, WHITE, (0.08, 0.08, 0.08)),
        "warning": (RED, WHITE, (0.08, 0.08, 0.08)),
        "yield": (RED, WHITE, WHITE),
        "stop": (WHITE, RED, WHITE),
        "blue": (WHITE, BLUE, WHITE),
        "board": (WHITE, BLUE if blue else (0.05, 0.36, 0.20), WHITE),
        "town": ((0.1, 0.1, 0.1), YELLOW if blue else WHITE, (0.1, 0.1, 0.1)),
    }[kind]
    canvas.paint(p, shape < 1, np.array(rim) * light, TRAFFIC_SIGN)
    canvas.paint(p, shape < inner, np.array(face) * light, TRAFFIC_SIGN)
    if kind == "stop":
        mark = (abs(b) < 0.2) & (np.mod(a * 3, 1) < 0.6) & (abs(a) < 0.75)
    elif kind in ("board", "town"):
        mark = (np.mod(b * 2.2, 1) < 0.45) & (glyph > 0.42) & (shape < 0.8)
    else:
        mark = (glyph > 0.55) & (shape < 0.55)
    canvas.paint(p, mark, np.array(ink) * light, TRAFFIC_SIGN)


def paint_gantry(
    canvas: Canvas,
    edges: tuple[float, float],
    z: float,
    bend_offset: float,
    boards: list[tuple[float, float]],
    light: NDArray,
) -> None:
    """Paint direction signs over a highway.

    Args:
        canvas: to paint on.
        edges: x of the poles, left and right, in road coordinates.
        z: of the signs, meters.
        bend_offset: meters by which the bend has moved the road there.
        boards: x and half width of each sign.
        light: [3] on the signs.
    """
    left, right = edges
    steel = np.array([0.55, 0.56, 0.57]) * light
    for x in (left, right):
        p = canvas.upright(x + bend_offset, z, 0.4, 7.4)
        canvas.paint(p, 1, steel, POLE)
    p = canvas.patch((left + bend_offset, 6.6, z), (right - left, 0, 0), (0, 0.7, 0))
    truss = (np.mod(p.u, 1.0) < 0.12) | (p.v < 0.14) | (p.v > 0.56)
    canvas.paint(p, truss, steel, POLE)
    for x, half in boards:
        p = canvas.patch((x - half + bend_offset, 5.4, z - 0.2), (2 * half, 0, 0), (0, 2.2, 0))
        u, v = p.u, p.v
        canvas.paint(p, 1, np.array(WHITE) * light, TRAFFIC_SIGN)
        face = (u > 0.08) & (u < 2 * half - 0.08) & (v > 0.08) & (v < 2.12)
        canvas.paint(p, face, np.array(BLUE) * light, TRAFFIC_SIGN)
        text = (np.mod(v, 0.55) > 0.3) & (np.mod(u * 2.6, 1) < 0.62) & (u > 0.4) & (u < 1.3 * half) & (v > 0.3) & face
        canvas.paint(p, text, np.array(WHITE) * light, TRAFFIC_SIGN)
