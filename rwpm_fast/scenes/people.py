"""People on foot and on two wheels as solids, in meters; they look ahead."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .labels import PERSON, RIDER
from .solids import Distance, Part, Solid, ball, both_sides, rod
from .vehicles import bicycle, motorcycle

SKIN = np.array([(0.72, 0.52, 0.42), (0.58, 0.40, 0.30), (0.36, 0.23, 0.16), (0.78, 0.60, 0.50)])
HAIR = np.array([(0.06, 0.05, 0.04), (0.22, 0.13, 0.07), (0.48, 0.36, 0.18), (0.45, 0.44, 0.43)])


def draw_cloth(rng: np.random.Generator) -> NDArray:
    """A color [3]: mostly dark or gray, sometimes bright."""
    if rng.random() < 0.55:
        return rng.uniform(0.04, 0.35) * rng.uniform(0.8, 1.2, 3)
    return np.clip(rng.uniform(0.05, 0.85, 3), 0, 1)


def _union(*shapes: Distance) -> Distance:
    return lambda p: np.min([shape(p) for shape in shapes], axis=0)


def _limb(start: ArrayLike, joint: ArrayLike, stop: ArrayLike, thick: float) -> Distance:
    return _union(rod(start, joint, thick), rod(joint, stop, 0.8 * thick))


def _head(rng: np.random.Generator, middle: ArrayLike, train_id: int, helmet: bool) -> list[Part]:
    x, y, z = middle
    hair = draw_cloth(rng) if helmet or rng.random() < 0.25 else rng.choice(HAIR)
    skin = rng.choice(SKIN)
    face, cap = ball((x, y, z + 0.02), (0.085, 0.125, 0.10)), ball((x, y + 0.035, z - 0.02), (0.105, 0.12, 0.115))
    return [Part(face, skin, train_id), Part(cap, hair, train_id)]


def pedestrian(rng: np.random.Generator) -> Solid:
    """Someone who walks or stands, 1.1 to 1.95 m tall."""
    scale = rng.uniform(0.62, 0.8) if rng.random() < 0.12 else rng.uniform(0.9, 1.08)
    stride = rng.uniform(0.15, 0.38) * rng.choice([-1, 1]) if rng.random() < 0.7 else rng.uniform(-0.05, 0.05)
    stout, apart = rng.uniform(0.9, 1.25), rng.uniform(0.09, 0.15)
    lift = 0.12 * abs(stride)
    legs = _union(
        _limb((-apart, 0.88, 0), (-apart, 0.48, 0.45 * stride + 0.05), (-apart, 0.07 + lift, stride), 0.085 * stout),
        _limb((apart, 0.88, 0), (apart, 0.48, 0.06 - 0.45 * stride), (apart, 0.07, -stride), 0.085 * stout),
    )
    shoes = _union(
        ball((-apart, 0.06 + lift, stride + 0.06), (0.06, 0.06, 0.14)),
        ball((apart, 0.06, 0.06 - stride), (0.06, 0.06, 0.14)),
    )
    swing = 0.8 * stride
    arms = _union(
        _limb((-0.21 * stout, 1.38, 0), (-0.25 * stout, 1.1, -0.4 * swing), (-0.25, 0.86, 0.06 - swing), 0.058 * stout),
        _limb((0.21 * stout, 1.38, 0), (0.25 * stout, 1.1, 0.4 * swing), (0.25, 0.86, 0.06 + swing), 0.058 * stout),
    )
    hem = 0.62 if rng.random() < 0.3 else 0.90
    torso = _union(
        ball((0, 1.24, 0), (0.21 * stout, 0.27, 0.14 * stout)),
        rod((0, hem + 0.12, 0), (0, 1.28, 0), 0.145 * stout),
    )
    cloth, trousers = draw_cloth(rng), draw_cloth(rng)
    parts = [
        Part(legs, trousers, PERSON),
        Part(torso, cloth, PERSON),
        Part(arms, cloth, PERSON),
        Part(shoes, draw_cloth(rng) * 0.6, PERSON),
        *_head(rng, (0, 1.63, 0.02), PERSON, helmet=False),
    ]
    if rng.random() < 0.25:
        parts.append(Part(ball((0, 1.22, -0.2), (0.15, 0.22, 0.12)), draw_cloth(rng), PERSON))
    if rng.random() < 0.2:
        parts.append(Part(ball((0.3, 0.68, 0.05), (0.07, 0.18, 0.16)), draw_cloth(rng), PERSON))
    return _scaled(Solid(tuple(parts), (0.9, 1.85, 1.2)), scale)


def cyclist(rng: np.random.Generator) -> Solid:
    """A rider on a bicycle."""
    lean = rng.uniform(0.1, 0.35)
    up = rng.uniform(0.0, 0.25)  # height of the left pedal over the lower one
    return Solid(
        (*bicycle(rng), *_rider(rng, (0.95, -0.2), lean, (1.0, 0.34), (0.12 + up, 0.37 - up))), (0.9, 1.9, 1.9)
    )


def motorcyclist(rng: np.random.Generator) -> Solid:
    """A rider on a motorcycle, with a helmet."""
    return Solid(
        (*motorcycle(rng), *_rider(rng, (0.90, -0.3), 0.2, (1.06, 0.36), (0.35, 0.35), helmet=True)), (1.0, 1.9, 2.1)
    )


def _rider(
    rng: np.random.Generator,
    hip: tuple[float, float],
    lean: float,
    bars: tuple[float, float],
    pedals: tuple[float, float],
    helmet: bool | None = None,
) -> list[Part]:
    """Who sits with the hip at (y, z), the hands on the bars and the feet on pedals of two heights."""
    y, z = hip
    chest = (0, y + 0.42, z + lean)
    cloth, trousers = draw_cloth(rng), draw_cloth(rng)
    legs = [
        _limb((side * 0.09, y, z), (side * 0.13, pedal + 0.48, z + 0.36), (side * 0.12, pedal, z + 0.14), 0.08)
        for side, pedal in zip((-1, 1), pedals, strict=True)
    ]
    shoes = [
        ball((side * 0.12, pedal, z + 0.2), (0.055, 0.055, 0.13)) for side, pedal in zip((-1, 1), pedals, strict=True)
    ]
    arms = both_sides(_limb((0.2, y + 0.48, z + lean), (0.27, y + 0.25, z + lean + 0.18), (0.25, *bars), 0.055))
    torso = _union(rod((0, y + 0.05, z), chest, 0.155), ball(chest, (0.21, 0.18, 0.14)))
    if helmet is None:
        helmet = bool(rng.random() < 0.5)
    return [
        Part(_union(*legs), trousers, RIDER),
        Part(_union(torso, arms), cloth, RIDER),
        Part(_union(*shoes), draw_cloth(rng) * 0.6, RIDER),
        *_head(rng, (0, y + 0.73, z + lean + 0.06), RIDER, helmet),
    ]


def _scaled(solid: Solid, scale: float) -> Solid:
    def shrink(shape: Distance) -> Distance:
        return lambda p: shape(p / np.float32(scale)) * np.float32(scale)

    parts = tuple(Part(shrink(part.distance), part.color, part.train_id, part.gloss) for part in solid.parts)
    return Solid(parts, tuple(scale * s for s in solid.size))
