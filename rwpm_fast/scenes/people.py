"""Pedestrians, cyclists and motorcyclists as solids; lengths in meters, faces ahead."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .labels import PERSON, RIDER
from .solids import Part, SignedDistance, Solid, capsule, ellipsoid, mirrored
from .vehicles import bicycle_parts, motorcycle_parts

SKIN = np.array([(0.72, 0.52, 0.42), (0.58, 0.40, 0.30), (0.36, 0.23, 0.16), (0.78, 0.60, 0.50)])
HAIR = np.array([(0.06, 0.05, 0.04), (0.22, 0.13, 0.07), (0.48, 0.36, 0.18), (0.45, 0.44, 0.43)])


def draw_clothing_color(rng: np.random.Generator) -> NDArray:
    """Draw a color [3]: mostly dark or gray, sometimes bright."""
    if rng.random() < 0.55:
        return rng.uniform(0.04, 0.35) * rng.uniform(0.8, 1.2, 3)
    return np.clip(rng.uniform(0.05, 0.85, 3), 0, 1)


def _union(*shapes: SignedDistance) -> SignedDistance:
    return lambda p: np.min([shape(p) for shape in shapes], axis=0)


def _limb(start: ArrayLike, joint: ArrayLike, end: ArrayLike, thickness: float) -> SignedDistance:
    return _union(capsule(start, joint, thickness), capsule(joint, end, 0.8 * thickness))


def _head(rng: np.random.Generator, center: tuple[float, float, float], train_id: int, helmet: bool) -> list[Part]:
    x, y, z = center
    hair = draw_clothing_color(rng) if helmet or rng.random() < 0.25 else rng.choice(HAIR)
    skin = rng.choice(SKIN)
    face, cap = (
        ellipsoid((x, y, z + 0.02), (0.085, 0.125, 0.10)),
        ellipsoid((x, y + 0.035, z - 0.02), (0.105, 0.12, 0.115)),
    )
    return [Part(face, skin, train_id), Part(cap, hair, train_id)]


def pedestrian(rng: np.random.Generator) -> Solid:
    """Draw a pedestrian who walks or stands, 1.1 to 1.95 m tall."""
    scale = rng.uniform(0.62, 0.8) if rng.random() < 0.12 else rng.uniform(0.9, 1.08)
    stride = rng.uniform(0.15, 0.38) * rng.choice([-1, 1]) if rng.random() < 0.7 else rng.uniform(-0.05, 0.05)
    girth, hip_width = rng.uniform(0.9, 1.25), rng.uniform(0.09, 0.15)
    lift = 0.12 * abs(stride)
    legs = _union(
        _limb(
            (-hip_width, 0.88, 0),
            (-hip_width, 0.48, 0.45 * stride + 0.05),
            (-hip_width, 0.07 + lift, stride),
            0.085 * girth,
        ),
        _limb((hip_width, 0.88, 0), (hip_width, 0.48, 0.06 - 0.45 * stride), (hip_width, 0.07, -stride), 0.085 * girth),
    )
    shoes = _union(
        ellipsoid((-hip_width, 0.06 + lift, stride + 0.06), (0.06, 0.06, 0.14)),
        ellipsoid((hip_width, 0.06, 0.06 - stride), (0.06, 0.06, 0.14)),
    )
    swing = 0.8 * stride
    arms = _union(
        _limb((-0.21 * girth, 1.38, 0), (-0.25 * girth, 1.1, -0.4 * swing), (-0.25, 0.86, 0.06 - swing), 0.058 * girth),
        _limb((0.21 * girth, 1.38, 0), (0.25 * girth, 1.1, 0.4 * swing), (0.25, 0.86, 0.06 + swing), 0.058 * girth),
    )
    hem = 0.62 if rng.random() < 0.3 else 0.90
    torso = _union(
        ellipsoid((0, 1.24, 0), (0.21 * girth, 0.27, 0.14 * girth)),
        capsule((0, hem + 0.12, 0), (0, 1.28, 0), 0.145 * girth),
    )
    clothing_color, trouser_color = draw_clothing_color(rng), draw_clothing_color(rng)
    parts = [
        Part(legs, trouser_color, PERSON),
        Part(torso, clothing_color, PERSON),
        Part(arms, clothing_color, PERSON),
        Part(shoes, draw_clothing_color(rng) * 0.6, PERSON),
        *_head(rng, (0, 1.63, 0.02), PERSON, helmet=False),
    ]
    if rng.random() < 0.25:
        parts.append(Part(ellipsoid((0, 1.22, -0.2), (0.15, 0.22, 0.12)), draw_clothing_color(rng), PERSON))
    if rng.random() < 0.2:
        parts.append(Part(ellipsoid((0.3, 0.68, 0.05), (0.07, 0.18, 0.16)), draw_clothing_color(rng), PERSON))
    return _scaled(Solid(tuple(parts), (0.9, 1.85, 1.2)), scale)


def cyclist(rng: np.random.Generator) -> Solid:
    """Draw a rider on a bicycle."""
    lean = rng.uniform(0.1, 0.35)
    lift = rng.uniform(0.0, 0.25)  # height of the left pedal above its lowest point
    return Solid(
        (*bicycle_parts(rng), *_rider(rng, (0.95, -0.2), lean, (1.0, 0.34), (0.12 + lift, 0.37 - lift))),
        (0.9, 1.9, 1.9),
    )


def motorcyclist(rng: np.random.Generator) -> Solid:
    """Draw a rider on a motorcycle, with a helmet."""
    return Solid(
        (*motorcycle_parts(rng), *_rider(rng, (0.90, -0.3), 0.2, (1.06, 0.36), (0.35, 0.35), helmet=True)),
        (1.0, 1.9, 2.1),
    )


def _rider(
    rng: np.random.Generator,
    hip: tuple[float, float],
    lean: float,
    bars: tuple[float, float],
    pedals: tuple[float, float],
    helmet: bool | None = None,
) -> list[Part]:
    """Draw a rider with the hip at (y, z), the hands on the bars and the feet on pedals of two heights."""
    y, z = hip
    chest = (0, y + 0.42, z + lean)
    clothing_color, trouser_color = draw_clothing_color(rng), draw_clothing_color(rng)
    legs = [
        _limb((side * 0.09, y, z), (side * 0.13, pedal + 0.48, z + 0.36), (side * 0.12, pedal, z + 0.14), 0.08)
        for side, pedal in zip((-1, 1), pedals, strict=True)
    ]
    shoes = [
        ellipsoid((side * 0.12, pedal, z + 0.2), (0.055, 0.055, 0.13))
        for side, pedal in zip((-1, 1), pedals, strict=True)
    ]
    arms = mirrored(_limb((0.2, y + 0.48, z + lean), (0.27, y + 0.25, z + lean + 0.18), (0.25, *bars), 0.055))
    torso = _union(capsule((0, y + 0.05, z), chest, 0.155), ellipsoid(chest, (0.21, 0.18, 0.14)))
    if helmet is None:
        helmet = bool(rng.random() < 0.5)
    return [
        Part(_union(*legs), trouser_color, RIDER),
        Part(_union(torso, arms), clothing_color, RIDER),
        Part(_union(*shoes), draw_clothing_color(rng) * 0.6, RIDER),
        *_head(rng, (0, y + 0.73, z + lean + 0.06), RIDER, helmet),
    ]


def _scaled(solid: Solid, scale: float) -> Solid:
    def shrink(shape: SignedDistance) -> SignedDistance:
        return lambda p: shape(p / np.float32(scale)) * np.float32(scale)

    parts = tuple(Part(shrink(part.distance), part.color, part.train_id, part.gloss) for part in solid.parts)
    width, height, length = solid.size
    return Solid(parts, (scale * width, scale * height, scale * length))
