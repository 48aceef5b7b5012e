"""Unknown objects, of none of the classes, as solids; lengths in meters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .labels import UNKNOWN
from .noise import Noise
from .solids import Part, SignedDistance, Solid, box, capsule, cone, cylinder, ellipsoid, torus


def draw_anomaly(rng: np.random.Generator, noise: Noise) -> Solid:
    """Draw an unknown object of any kind.

    Args:
        rng: source of kind, shape and colors.
        noise: texture of its surface.
    """
    kinds = (crate, quadruped, tire, traffic_cone, toy_ball, lump, barrel, plank, bag, composite_object)
    return kinds[rng.integers(len(kinds))](rng, noise)


def draw_texture(rng: np.random.Generator, noise: Noise) -> Callable[[NDArray], NDArray]:
    """Draw a plain, striped, checkered or spotted texture: a function of points [3, n] to colors [n, 3]."""
    first_color, second_color = rng.uniform(0.03, 0.95, (2, 3))
    if rng.random() < 0.5:  # brown and gray objects are common on roads, and harder to see
        first_color = rng.uniform(0.08, 0.7) * np.array([1.0, 0.85, 0.68]) ** rng.uniform(0, 1.5)
    direction, period = rng.standard_normal(3), rng.uniform(0.08, 0.4)
    kind, offset, fine = rng.integers(4), rng.uniform(0, 99), rng.uniform(2, 12)

    def color(p: NDArray) -> NDArray:
        grime = 0.78 + 0.44 * noise(p[0] * fine + p[2] * 3 + offset, p[1] * fine + p[2] * 5, octaves=3)
        mix: NDArray
        if kind == 0:
            mix = np.zeros(p.shape[1])
        elif kind == 1:
            mix = np.mod(direction @ p, period) < period / 2
        elif kind == 2:
            mix = np.floor(p / period).sum(0) % 2
        else:
            mix = noise(p[0] * fine + offset, p[1] * fine + p[2] * fine, octaves=2) > 0.55
        return (first_color + (second_color - first_color) * np.asarray(mix, float)[:, None]) * grime[:, None]

    return color


def draw_large_anomaly(rng: np.random.Generator, noise: Noise) -> Solid:
    """Draw an unknown object that may be as large as a truck, mostly an animal.

    Args:
        rng: source of kind, shape and colors.
        noise: texture of its surface.
    """
    kinds = (animal, animal, animal, machine, boulder, composite_object)
    return kinds[rng.integers(len(kinds))](rng, noise)


def draw_coat(rng: np.random.Generator, noise: Noise) -> Callable[[NDArray], NDArray]:
    """Draw the coat of an animal, plain, striped, spotted or in patches: points [3, n] to colors [n, 3].

    Colors are natural ones, black to white over browns and grays; hair is fine noise that runs down, and the belly may
    be lighter than the back.
    """
    brown = np.array([1.0, rng.uniform(0.7, 0.95), rng.uniform(0.4, 0.9)])
    first_color = rng.uniform(0.03, 0.9) * brown ** rng.uniform(0, 1.6)
    second_color = rng.uniform(0.02, 0.9) * brown ** rng.uniform(0, 1)
    kind, scale, offset = rng.integers(5), rng.uniform(2, 12), rng.uniform(0, 99)
    hair, contrast = rng.uniform(15, 60), rng.uniform(0.1, 0.6)
    belly, threshold = rng.uniform(0, 0.6), rng.uniform(0.45, 0.62)

    def color(p: NDArray) -> NDArray:
        across, along = p[0] + p[1], p[2]
        strands = noise(along * hair + offset, across * hair / 5 + offset, octaves=3)
        mix: NDArray
        if kind <= 1:
            mix = np.zeros(p.shape[1])
        elif kind == 2:
            wave = 0.6 * noise(along * 3 + offset, across * 3, octaves=2)
            mix = np.mod(along * scale / 3 + wave, 1) < 0.5
        elif kind == 3:
            mix = noise(along * 2 * scale + offset, across * 2 * scale, octaves=1) > threshold + 0.1
        else:
            mix = noise(along * 0.4 * scale + offset, across * 0.4 * scale, octaves=2) > threshold
        base = first_color + (second_color - first_color) * np.asarray(mix, float)[:, None]
        base = base + belly * (1 - base) * np.clip(0.7 - p[1], 0, 1)[:, None]
        return np.clip(base * (1 + contrast * (2 * strands - 1))[:, None], 0, 1)

    return color


def _single_part(shape: SignedDistance, color: Callable[[NDArray], NDArray], size: tuple[float, float, float]) -> Solid:
    return Solid((Part(shape, color, UNKNOWN),), size)


def crate(rng: np.random.Generator, noise: Noise) -> Solid:
    """A box."""
    size = rng.uniform(0.3, 1.3, 3) * (1, 0.8, 1)
    return _single_part(box((0, size[1] / 2, 0), size, rng.uniform(0, 0.06)), draw_texture(rng, noise), tuple(size))


def bag(rng: np.random.Generator, noise: Noise) -> Solid:
    """A filled bag, tied at the top."""
    size = rng.uniform(0.35, 0.8, 3)
    lumps = ellipsoid((0, 0.42 * size[1], 0), size / 2), ellipsoid(size * (0.1, 0.75, 0), size * (0.18, 0.25, 0.18))
    return _single_part(lambda p: np.minimum(lumps[0](p), lumps[1](p)), draw_texture(rng, noise), tuple(size))


def tire(rng: np.random.Generator, noise: Noise) -> Solid:
    """A tire that lies or stands."""
    radius, thickness = rng.uniform(0.22, 0.4), rng.uniform(0.08, 0.13)
    dark = rng.uniform(0.04, 0.12)
    width = 2 * (radius + thickness)
    if rng.random() < 0.5:
        shape, size = torus((0, thickness, 0), radius, thickness, axis=1), (width, 2 * thickness, width)
    else:
        shape, size = torus((0, radius + thickness, 0), radius, thickness, axis=2), (width, width, 2 * thickness)

    def color(p: NDArray) -> NDArray:
        return dark * (1 + noise(p[0] * 20, p[1] * 20 + p[2] * 20, 1))[:, None] * np.ones(3)

    return _single_part(shape, color, size)


def traffic_cone(rng: np.random.Generator, noise: Noise) -> Solid:
    """A traffic cone with stripes."""
    height = rng.uniform(0.45, 0.95)
    bands = rng.uniform(2, 5)
    first_color = np.array([0.95, 0.30, 0.05]) * rng.uniform(0.7, 1)

    def color(p: NDArray) -> NDArray:
        return np.where((np.mod(bands * p[1] / height, 1) > 0.55)[:, None], np.full(3, 0.85), first_color)

    foot = box((0, 0.02, 0), (0.5 * height, 0.05, 0.5 * height))
    body = cone(0.2 * height, height)
    return _single_part(lambda p: np.minimum(foot(p), body(p)), color, (0.5 * height, height, 0.5 * height))


def toy_ball(rng: np.random.Generator, noise: Noise) -> Solid:
    """A ball."""
    radius = rng.uniform(0.12, 0.45)
    return _single_part(
        ellipsoid((0, radius, 0), radius), draw_texture(rng, noise), (2 * radius, 2 * radius, 2 * radius)
    )


def barrel(rng: np.random.Generator, noise: Noise) -> Solid:
    """A barrel that stands or lies."""
    radius, height = rng.uniform(0.2, 0.4), rng.uniform(0.5, 1.1)
    if rng.random() < 0.6:
        shape, size = cylinder((0, height / 2, 0), radius, height, 1, 0.03), (2 * radius, height, 2 * radius)
    else:
        shape, size = cylinder((0, radius, 0), radius, height, 0, 0.03), (height, 2 * radius, 2 * radius)
    return _single_part(shape, draw_texture(rng, noise), size)


def plank(rng: np.random.Generator, noise: Noise) -> Solid:
    """A plank, one end of which may be raised."""
    length, thickness = rng.uniform(0.8, 2.5), rng.uniform(0.05, 0.14)
    ends = (-length / 2 + thickness, thickness, 0), (length / 2 - thickness, thickness + rng.uniform(0, 0.4), 0)
    return _single_part(capsule(*ends, thickness), draw_texture(rng, noise), (length, 0.8, 2 * thickness))


def lump(rng: np.random.Generator, noise: Noise) -> Solid:
    """A lump with bumps."""
    size = rng.uniform(0.3, 1.5, 3)
    smooth = ellipsoid((0, size[1] / 2, 0), 0.42 * size)
    fine, offset, bumps = rng.uniform(1.5, 5), rng.uniform(0, 99), rng.uniform(0.05, 0.22) * size.min()

    def shape(p: NDArray) -> NDArray:
        bump = noise(p[0] * fine + offset + p[2] * 2, p[1] * fine + p[2] * fine, octaves=2) - 0.5
        return (smooth(p) + 2 * bumps * bump) * np.float32(0.7)

    return _single_part(shape, draw_texture(rng, noise), tuple(size))


def quadruped(rng: np.random.Generator, noise: Noise) -> Solid:
    """An animal between the size of a hare and that of a cow."""
    height, length, body_radius = rng.uniform(0.35, 1.4), rng.uniform(0.9, 1.5), rng.uniform(0.15, 0.28)
    neck, head, thickness = rng.uniform(0.05, 0.45), rng.uniform(0.08, 0.14), rng.uniform(0.03, 0.06)
    back, half = 1.0, length / 2
    gait = rng.uniform(-0.15, 0.15, 4)
    legs = [
        capsule((x, 0.75, z), (x, 0.05, z + step), thickness)
        for (x, z), step in zip(
            [(-0.1, -half + 0.2), (0.1, -half + 0.2), (-0.1, half - 0.2), (0.1, half - 0.2)], gait, strict=True
        )
    ]
    crown = (0, back + neck, half + 0.12 + 0.4 * head)
    shapes = [
        capsule((0, back - body_radius, -half + body_radius), (0, back - body_radius, half - body_radius), body_radius),
        capsule((0, back - body_radius, half - body_radius), crown, 0.5 * body_radius + 0.03),
        ellipsoid(crown, (0.8 * head, head, 1.7 * head)),
        ellipsoid((0.7 * head, back + neck + 1.2 * head, crown[2] - head), (0.03, 0.09, 0.03)),
        ellipsoid((-0.7 * head, back + neck + 1.2 * head, crown[2] - head), (0.03, 0.09, 0.03)),
        capsule((0, back - body_radius, -half + 0.05), (0, back - body_radius - 0.3, -half - 0.1), 0.03),
        *legs,
    ]
    coat = draw_texture(rng, noise)

    def shape(p: NDArray) -> NDArray:
        q = p / np.float32(height)
        return np.min([s(q) for s in shapes], axis=0) * np.float32(height)

    reach = 2 * (half + 0.12 + 2.2 * head)
    return _single_part(shape, coat, (0.6 * height, (back + neck + 2.4 * head) * height, reach * height))


def composite_object(rng: np.random.Generator, noise: Noise) -> Solid:
    """Two to five shapes joined at random: furniture, scrap, a pile."""
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        center, size = rng.uniform((-0.4, 0.15, -0.4), (0.4, 0.7, 0.4)), rng.uniform(0.08, 0.6, 3)
        if rng.random() < 0.7:
            center[1] = size[1] / 2
        shapes = box(center, size), ellipsoid(center, size / 2), cylinder(center, size[0] / 2, size[1], 1)
        shape = shapes[rng.integers(3)]
        parts.append(Part(shape, draw_texture(rng, noise), UNKNOWN, rng.uniform(0, 0.4)))
    return Solid(tuple(parts), (1.5, 1.3, 1.5))


def animal(rng: np.random.Generator, noise: Noise) -> Solid:
    """An animal between the size of a dog and that of an elephant, which stands, grazes or lies.

    Lengths are drawn in multiples of the height of its back.
    """
    height = float(np.exp(rng.uniform(np.log(0.5), np.log(2.8))))
    half, girth = rng.uniform(0.35, 0.85), rng.uniform(0.14, 0.34)
    lies = rng.random() < 0.2
    leg_length = 0.05 if lies else rng.uniform(0.25, 0.65)
    leg, spread = rng.uniform(0.03, 0.11), rng.uniform(0.4, 0.9) * girth
    belly = leg_length + girth
    slope = rng.normal(0, 0.06)
    rear, front = np.array((0, belly - slope, -half)), np.array((0, belly + slope, half))
    neck_length, neck_angle = rng.uniform(0.1, 0.75), rng.uniform(-1.0, 1.3)
    turn = rng.uniform(-0.7, 0.7)
    ahead = np.array((np.sin(turn), 0, np.cos(turn)))
    crown = front + neck_length * (np.cos(neck_angle) * ahead + np.sin(neck_angle) * np.array((0, 1, 0)))
    head = rng.uniform(0.09, 0.2)
    crown[1] = max(crown[1], head)
    nose = crown + rng.uniform(1, 2.2) * head * (ahead - rng.uniform(0, 0.9) * np.array((0, 1, 0)))
    nose[1] = max(nose[1], 0.6 * head)
    side, up = np.array((ahead[2], 0, -ahead[0])), np.array((0, 1, 0))
    shapes = [
        capsule(rear, front, girth),
        ellipsoid((rear + front) / 2, (rng.uniform(0.9, 1.3) * girth, 1.15 * girth, 0.6 * half + girth)),
        capsule(front, crown, rng.uniform(0.35, 0.7) * girth),
        ellipsoid(crown, head),
        capsule(crown, nose, rng.uniform(0.4, 0.8) * head),
    ]
    for x in (-spread, spread):
        for z in (-half, half):
            foot = np.array((x, leg, z + rng.uniform(-0.2, 0.2)))
            shapes.append(capsule((x, belly, z), foot, leg))
    ear = rng.uniform(0.3, 1.6) * head
    horn = rng.uniform(0.5, 2.5) * head if rng.random() < 0.4 else 0
    for sign in (-1, 1):
        root = crown + 0.7 * head * (up + sign * side)
        shapes.append(capsule(root, root + ear * (0.6 * up + sign * side), 0.25 * head))
        if horn:
            shapes.append(capsule(root, root + horn * (up + 0.5 * sign * side), 0.12 * head))
    tail = rear + np.array((0, -rng.uniform(0, 0.5), -girth - rng.uniform(0, 0.2)))
    shapes.append(capsule(rear - np.array((0, 0, girth)), tail, rng.uniform(0.02, 0.06)))

    def shape(p: NDArray) -> NDArray:
        q = p / np.float32(height)
        return np.min([s(q) for s in shapes], axis=0) * np.float32(height)

    reach = max(float(abs(point[2])) for point in (crown, nose, tail)) + ear + horn + head + girth
    width = 2 * max(girth * 1.3, float(abs(crown[0])) + ear + horn + head, float(abs(nose[0])) + head)
    top = max(belly + 2 * girth, float(crown[1]) + ear + horn + 2 * head)
    return _single_part(shape, draw_coat(rng, noise), (width * height, top * height, 2 * reach * height))


def boulder(rng: np.random.Generator, noise: Noise) -> Solid:
    """A boulder, a bale or a heap, up to three meters large."""
    size = rng.uniform(0.6, 3.0) * rng.uniform(0.5, 1, 3)
    core = (
        ellipsoid((0, 0.4 * size[1], 0), 0.4 * size),
        box((0, 0.4 * size[1], 0), 0.8 * size, 0.2 * size.min()),
        cylinder((0, 0.4 * size[1], 0), 0.4 * min(size[1], size[2]), 0.8 * size[0], 0, 0.05 * size.min()),
    )[rng.integers(3)]
    fine, offset, bumps = rng.uniform(1, 6), rng.uniform(0, 99), rng.uniform(0, 0.2) * size.min()

    def shape(p: NDArray) -> NDArray:
        bump = noise(p[0] * fine + offset + p[2] * 2, p[1] * fine + p[2] * fine, octaves=3) - 0.5
        return (core(p) + 2 * bumps * bump) * np.float32(0.6)

    texture = draw_coat if rng.random() < 0.5 else draw_texture
    return _single_part(shape, texture(rng, noise), tuple(size))


def machine(rng: np.random.Generator, noise: Noise) -> Solid:
    """A machine of no class: a body with a cabin, large wheels or none, and perhaps an arm."""
    scale = rng.uniform(0.6, 2.2)
    half = np.array((rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.5), rng.uniform(0.4, 1.0)))
    wheel = rng.uniform(0.15, 0.5)
    floor = wheel * rng.uniform(0.6, 1.2)
    paint, dark = draw_texture(rng, noise), rng.uniform(0.03, 0.2, 3)
    shapes: list[tuple[SignedDistance, Callable[[NDArray], NDArray] | NDArray]] = [
        (box((0, floor + half[1], 0), 2 * half, rng.uniform(0, 0.15)), paint)
    ]
    top = floor + 2 * half[1]
    if rng.random() < 0.6:
        cabin = rng.uniform(0.4, 1) * half
        place = rng.uniform(-0.5, 0.5) * half[2]
        shapes.append((box((0, top + cabin[1], place), 2 * cabin, 0.05), draw_texture(rng, noise)))
    for z in rng.uniform(-1, 1, int(rng.integers(0, 4))) * half[2]:
        radius = wheel * rng.uniform(0.5, 1)
        for x in (-half[0], half[0]):
            shapes.append((cylinder((x, radius, z), radius, rng.uniform(0.1, 0.3), 0, 0.03), dark))
    for _ in range(int(rng.integers(0, 3))):
        root, reach = np.array((0, top, rng.uniform(-1, 1) * half[2])), rng.uniform((-0.4, 0, -0.6), (0.4, 0.9, 0.6))
        shapes.append((capsule(root, root + reach, rng.uniform(0.03, 0.1)), paint))

    def scaled(shape: SignedDistance) -> SignedDistance:
        return lambda p: shape(p / np.float32(scale)) * np.float32(scale)

    parts = tuple(Part(scaled(shape), color, UNKNOWN, rng.uniform(0, 0.4)) for shape, color in shapes)
    return Solid(parts, (1.8 * scale, 2.4 * scale, 3.2 * scale))
