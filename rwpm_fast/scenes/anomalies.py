"""Things on a road that no class is for, as solids in meters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .canvas import Noise
from .labels import UNKNOWN
from .solids import Distance, Part, Solid, ball, box, cone, disc, ring, rod


def draw_oddity(rng: np.random.Generator, noise: Noise) -> Solid:
    """Any of them."""
    kinds = (crate, quadruped, tyre, traffic_cone, toy_ball, blob, barrel, plank, bag, assembly)
    return kinds[rng.integers(len(kinds))](rng, noise)


def texture(rng: np.random.Generator, noise: Noise) -> Callable[[NDArray], NDArray]:
    """Plain, striped, chequered or spotted paint: points [3, n] to colors [n, 3]."""
    first, second = rng.uniform(0.03, 0.95, (2, 3))
    if rng.random() < 0.5:  # brown and gray things are common on roads, and harder to see
        first = rng.uniform(0.08, 0.7) * np.array([1.0, 0.85, 0.68]) ** rng.uniform(0, 1.5)
    direction, period = rng.standard_normal(3), rng.uniform(0.08, 0.4)
    kind, offset, fine = rng.integers(4), rng.uniform(0, 99), rng.uniform(2, 12)

    def color(p: NDArray) -> NDArray:
        grime = 0.78 + 0.44 * noise(p[0] * fine + p[2] * 3 + offset, p[1] * fine + p[2] * 5, octaves=3)
        if kind == 0:
            mix = np.zeros(p.shape[1])
        elif kind == 1:
            mix = np.mod(direction @ p, period) < period / 2
        elif kind == 2:
            mix = np.floor(p / period).sum(0) % 2
        else:
            mix = noise(p[0] * fine + offset, p[1] * fine + p[2] * fine, octaves=2) > 0.55
        return (first + (second - first) * np.asarray(mix, float)[:, None]) * grime[:, None]

    return color


def _one(shape: Distance, color: Callable[[NDArray], NDArray], size: tuple[float, float, float]) -> Solid:
    return Solid((Part(shape, color, UNKNOWN),), size)


def crate(rng: np.random.Generator, noise: Noise) -> Solid:
    size = rng.uniform(0.3, 1.3, 3) * (1, 0.8, 1)
    return _one(box((0, size[1] / 2, 0), size, rng.uniform(0, 0.06)), texture(rng, noise), tuple(size))


def bag(rng: np.random.Generator, noise: Noise) -> Solid:
    size = rng.uniform(0.35, 0.8, 3)
    lumps = ball((0, 0.42 * size[1], 0), size / 2), ball(size * (0.1, 0.75, 0), size * (0.18, 0.25, 0.18))
    return _one(lambda p: np.minimum(lumps[0](p), lumps[1](p)), texture(rng, noise), tuple(size))


def tyre(rng: np.random.Generator, noise: Noise) -> Solid:
    radius, thick = rng.uniform(0.22, 0.4), rng.uniform(0.08, 0.13)
    dark = rng.uniform(0.04, 0.12)
    wide = 2 * (radius + thick)
    if rng.random() < 0.5:
        shape, size = ring((0, thick, 0), radius, thick, axis=1), (wide, 2 * thick, wide)
    else:
        shape, size = ring((0, radius + thick, 0), radius, thick, axis=2), (wide, wide, 2 * thick)
    return _one(shape, lambda p: dark * (1 + noise(p[0] * 20, p[1] * 20 + p[2] * 20, 1))[:, None] * np.ones(3), size)


def traffic_cone(rng: np.random.Generator, noise: Noise) -> Solid:
    tall = rng.uniform(0.45, 0.95)
    bands = rng.uniform(2, 5)
    first = np.array([0.95, 0.30, 0.05]) * rng.uniform(0.7, 1)

    def color(p: NDArray) -> NDArray:
        return np.where((np.mod(bands * p[1] / tall, 1) > 0.55)[:, None], np.full(3, 0.85), first)

    foot = box((0, 0.02, 0), (0.5 * tall, 0.05, 0.5 * tall))
    body = cone(0.2 * tall, tall)
    return _one(lambda p: np.minimum(foot(p), body(p)), color, (0.5 * tall, tall, 0.5 * tall))


def toy_ball(rng: np.random.Generator, noise: Noise) -> Solid:
    radius = rng.uniform(0.12, 0.45)
    return _one(ball((0, radius, 0), radius), texture(rng, noise), (2 * radius, 2 * radius, 2 * radius))


def barrel(rng: np.random.Generator, noise: Noise) -> Solid:
    radius, tall = rng.uniform(0.2, 0.4), rng.uniform(0.5, 1.1)
    if rng.random() < 0.6:
        return _one(disc((0, tall / 2, 0), radius, tall, 1, 0.03), texture(rng, noise), (2 * radius, tall, 2 * radius))
    return _one(disc((0, radius, 0), radius, tall, 0, 0.03), texture(rng, noise), (tall, 2 * radius, 2 * radius))


def plank(rng: np.random.Generator, noise: Noise) -> Solid:
    length, thick = rng.uniform(0.8, 2.5), rng.uniform(0.05, 0.14)
    ends = (-length / 2 + thick, thick, 0), (length / 2 - thick, thick + rng.uniform(0, 0.4), 0)
    return _one(rod(*ends, thick), texture(rng, noise), (length, 0.8, 2 * thick))


def blob(rng: np.random.Generator, noise: Noise) -> Solid:
    """A lump with bumps."""
    size = rng.uniform(0.3, 1.5, 3)
    smooth = ball((0, size[1] / 2, 0), 0.42 * size)
    fine, offset, bumps = rng.uniform(1.5, 5), rng.uniform(0, 99), rng.uniform(0.05, 0.22) * size.min()

    def shape(p: NDArray) -> NDArray:
        bump = noise(p[0] * fine + offset + p[2] * 2, p[1] * fine + p[2] * fine, octaves=2) - 0.5
        return (smooth(p) + 2 * bumps * bump) * np.float32(0.7)

    return _one(shape, texture(rng, noise), tuple(size))


def quadruped(rng: np.random.Generator, noise: Noise) -> Solid:
    """An animal from a hare's to a cow's size."""
    tall, long, fat = rng.uniform(0.35, 1.4), rng.uniform(0.9, 1.5), rng.uniform(0.15, 0.28)
    neck, head, thick = rng.uniform(0.05, 0.45), rng.uniform(0.08, 0.14), rng.uniform(0.03, 0.06)
    back, half = 1.0, long / 2
    gait = rng.uniform(-0.15, 0.15, 4)
    legs = [
        rod((x, 0.75, z), (x, 0.05, z + step), thick)
        for (x, z), step in zip(
            [(-0.1, -half + 0.2), (0.1, -half + 0.2), (-0.1, half - 0.2), (0.1, half - 0.2)], gait, strict=True
        )
    ]
    crown = (0, back + neck, half + 0.12 + 0.4 * head)
    shapes = [
        rod((0, back - fat, -half + fat), (0, back - fat, half - fat), fat),
        rod((0, back - fat, half - fat), crown, 0.5 * fat + 0.03),
        ball(crown, (0.8 * head, head, 1.7 * head)),
        ball((0.7 * head, back + neck + 1.2 * head, crown[2] - head), (0.03, 0.09, 0.03)),
        ball((-0.7 * head, back + neck + 1.2 * head, crown[2] - head), (0.03, 0.09, 0.03)),
        rod((0, back - fat, -half + 0.05), (0, back - fat - 0.3, -half - 0.1), 0.03),
        *legs,
    ]
    coat = texture(rng, noise)

    def shape(p: NDArray) -> NDArray:
        q = p / np.float32(tall)
        return np.min([s(q) for s in shapes], axis=0) * np.float32(tall)

    reach = 2 * (half + 0.12 + 2.2 * head)
    return _one(shape, coat, (0.6 * tall, (back + neck + 2.4 * head) * tall, reach * tall))


def assembly(rng: np.random.Generator, noise: Noise) -> Solid:
    """Some shapes stuck together: furniture, scrap, a pile."""
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        middle, size = rng.uniform((-0.4, 0.15, -0.4), (0.4, 0.7, 0.4)), rng.uniform(0.08, 0.6, 3)
        if rng.random() < 0.7:
            middle[1] = size[1] / 2
        shape = [box(middle, size), ball(middle, size / 2), disc(middle, size[0] / 2, size[1], 1)][rng.integers(3)]
        parts.append(Part(shape, texture(rng, noise), UNKNOWN, rng.uniform(0, 0.4)))
    return Solid(tuple(parts), (1.5, 1.3, 1.5))
