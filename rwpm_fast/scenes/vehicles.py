"""Cars, trucks, buses, trams and two-wheelers as solids; lengths in meters, fronts ahead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .labels import BICYCLE, BUS, CAR, MOTORCYCLE, TRAIN, TRUCK
from .solids import Part, SignedDistance, Solid, box, capsule, cylinder, ellipsoid, mirrored, torus

RUBBER, GLASS, STEEL = (0.06, 0.06, 0.065), (0.10, 0.13, 0.16), (0.45, 0.46, 0.48)
FRONT_LAMP, REAR_LAMP = (0.92, 0.92, 0.85), (0.55, 0.03, 0.03)
CAR_COLORS = np.array(
    [
        *((0.80, 0.80, 0.80), (0.07, 0.07, 0.08), (0.30, 0.31, 0.33), (0.55, 0.56, 0.58), (0.45, 0.06, 0.06)),
        *((0.10, 0.18, 0.38), (0.30, 0.42, 0.55), (0.12, 0.26, 0.16), (0.75, 0.60, 0.10), (0.50, 0.42, 0.32)),
        (0.80, 0.34, 0.06),
    ]
)
CAR_COLOR_SHARES = np.array([0.2, 0.18, 0.15, 0.15, 0.09, 0.09, 0.04, 0.03, 0.03, 0.02, 0.02])

# Side profiles: positions from rear to front in lengths of the car, heights in its heights, and its height in meters.
CAR_PROFILES = {
    "hatchback": ((0, 0.03, 0.12, 0.30, 0.50, 0.74, 0.97, 1), (0.45, 0.66, 0.95, 1, 0.98, 0.64, 0.52, 0.38), 1.50),
    "sedan": ((0, 0.03, 0.18, 0.36, 0.54, 0.73, 0.97, 1), (0.48, 0.68, 0.73, 0.99, 1, 0.64, 0.50, 0.36), 1.45),
    "station wagon": ((0, 0.02, 0.08, 0.30, 0.54, 0.72, 0.97, 1), (0.48, 0.66, 0.96, 1, 0.98, 0.64, 0.52, 0.38), 1.50),
    "SUV": ((0, 0.02, 0.06, 0.30, 0.58, 0.72, 0.97, 1), (0.42, 0.64, 0.97, 1, 0.99, 0.64, 0.58, 0.40), 1.78),
    "van": ((0, 0.01, 0.03, 0.50, 0.76, 0.90, 0.99, 1), (0.45, 0.96, 0.99, 1, 0.98, 0.56, 0.48, 0.30), 2.15),
}


def draw_car_color(rng: np.random.Generator) -> NDArray:
    """Draw a common color [3] of cars."""
    return np.clip(CAR_COLORS[rng.choice(len(CAR_COLORS), p=CAR_COLOR_SHARES)] * rng.uniform(0.8, 1.2), 0.02, 0.95)


def wheels(radius: float, width: float, out: float, axles: ArrayLike, train_id: int) -> Part:
    """Return wheels on both sides of a vehicle.

    Args:
        radius: of a wheel.
        width: of a wheel.
        out: distance of their outer faces from the center of the vehicle.
        axles: z of each axle.
        train_id: class of the vehicle.
    """
    axles = np.atleast_1d(axles)
    pairs = [mirrored(cylinder((out - width / 2, radius, z), radius, width, rounding=0.03)) for z in axles]
    centers = axles.astype(np.float32)

    def color(p: NDArray) -> NDArray:
        from_hub = np.hypot(np.min(abs(p[2] - centers[:, None]), axis=0), p[1] - radius)
        return np.where((from_hub < 0.6 * radius)[:, None], np.array([0.42, 0.43, 0.45]), np.array(RUBBER))

    return Part(lambda p: np.min([pair(p) for pair in pairs], axis=0), color, train_id)


def car(rng: np.random.Generator) -> Solid:
    """Draw a car of one of the profiles."""
    names = list(CAR_PROFILES)
    along, heights, height = CAR_PROFILES[names[rng.choice(len(names), p=[0.32, 0.25, 0.15, 0.18, 0.10])]]
    scale = rng.uniform(0.93, 1.07)
    length, width, height = (5.1 if height > 2 else 4.3) * scale, rng.uniform(1.72, 1.95), height * scale
    z, top = (np.array(along) - 0.5) * length, np.array(heights) * height
    paint, belt = draw_car_color(rng), 0.66 * height if height < 2 else 0.58 * height
    wheel, axle = rng.uniform(0.30, 0.35), 0.30 * length
    rear_closed, lit = height > 2 and rng.random() < 0.6, rng.random() < 0.25
    lean = rng.uniform(0.25, 0.42)  # slope of the windows, in meters per meter

    def half(y: NDArray) -> NDArray:
        return width / 2 - lean * np.clip(y - belt, 0, 1) - 0.10 * np.clip(0.35 - y, 0, 1)

    def body(p: NDArray) -> NDArray:
        roof = p[1] - np.interp(p[2], z, top).astype(np.float32)
        side = abs(p[0]) - half(p[1]).astype(np.float32)
        ends = abs(p[2]) - np.float32(length / 2) + 0.08 * (2 * p[0] / width) ** 2
        outside = np.maximum(np.stack([roof, side, ends, 0.2 - p[1]]) + np.float32(0.07), 0)
        arch = wheel + 0.05 - np.hypot(abs(p[2]) - axle, p[1] - wheel)
        shape = np.sqrt((outside * outside).sum(0)) - np.float32(0.07)
        return np.maximum(np.float32(0.62) * shape, np.where(abs(p[0]) > width / 2 - 0.3, arch, -1))

    def color(p: NDArray) -> NDArray:
        x, y, along = abs(p[0]), p[1], p[2]
        out = np.where((y < 0.40 * min(height, 1.6))[:, None], 0.5 * paint + 0.01, paint)
        rear, front = along < z[3], along > z[4]
        side = x > half(y) - 0.09
        roof = np.interp(along, z, top)
        pillar = (abs(along - 0.5 * (z[3] + z[4])) < 0.05) | (abs(along - z[2] - 0.25) < 0.07) | (along > z[5] - 0.12)
        window = side & (y < roof - 0.13) & (along > z[1] + 0.1) & ~pillar
        if rear_closed:
            window &= along > z[4] - 0.9
        windshield = ~side & (y < height - 0.07) & (front | (rear & (not rear_closed)))
        out = np.where(((y > belt + 0.02) & (window | windshield))[:, None], np.array(GLASS), out)
        nose, tail = along > length / 2 - 0.30, along < -length / 2 + 0.22
        lamp = (x > 0.30 * width) & (abs(y - 0.46 * min(height, 1.6)) < 0.09)
        out = np.where((lamp & nose)[:, None], np.array(FRONT_LAMP) * (1.3 if lit else 0.9), out)
        out = np.where((lamp & tail)[:, None], np.array([1.15 if lit else 0.55, 0.04, 0.03]), out)
        grille = (nose & (x < 0.22 * width) & (abs(y - 0.42) < 0.09)) | (y < 0.28)
        out = np.where(grille[:, None], np.array(RUBBER), out)
        plate = (nose | tail) & (x < 0.26) & (abs(y - (0.36 if height < 2 else 0.5)) < 0.06)
        return np.where(plate[:, None], np.array([0.80, 0.80, 0.72]), out)

    parts = [Part(body, color, CAR, 0.55), wheels(wheel, 0.22, width / 2 - 0.02, (-axle, axle), CAR)]
    mirror = ellipsoid((width / 2 + 0.08, belt + 0.05, z[5] - 0.25), (0.10, 0.08, 0.06))
    parts.append(Part(mirrored(mirror), paint, CAR))
    if rng.random() < 0.06:
        parts.append(Part(box((0, height + 0.12, -0.1), (0.8, 0.34, 1.7), 0.12), (0.08, 0.08, 0.09), CAR))
    return Solid(tuple(parts), (width + 0.4, height + 0.35, length + 0.05))


def truck(rng: np.random.Generator) -> Solid:
    """Draw a truck with a box, a tank or an open bed."""
    width, cab_height, cab_length = rng.uniform(2.2, 2.5), rng.uniform(2.5, 3.3), rng.uniform(1.8, 2.3)
    cargo_length, cargo_height = rng.uniform(3.5, 9.0), rng.uniform(2.8, 3.9)
    length = cab_length + cargo_length + 0.3
    nose, tail = length / 2, -length / 2
    paint, cargo_color = draw_car_color(rng), rng.uniform(0.1, 0.9, 3) if rng.random() < 0.6 else np.full(3, 0.82)
    stripe_color, stripe_low, stripe_high = rng.uniform(0.1, 0.9, 3), rng.uniform(1.2, 2.2), rng.uniform(2.2, 3.0)
    ribs = rng.choice([0.0, 0.5, 1.2])

    def cab(p: NDArray) -> NDArray:
        x, y, along = abs(p[0]), p[1], p[2]
        pane = (y > 0.55 * cab_height) & (y < 0.85 * cab_height)
        windshield = (along > nose - 0.15) & (x < 0.45 * width)
        side = (along < nose - 0.2) & (along > nose - 1.2)
        out = np.where((pane & (windshield | side))[:, None], np.array(GLASS), paint)
        out = np.where(((y < 0.9) & (x < 0.8))[:, None], np.array(RUBBER), out)
        lamp = (along > nose - 0.2) & (x > 0.36 * width) & (abs(y - 0.75) < 0.1)
        return np.where(lamp[:, None], np.array(FRONT_LAMP), out)

    def cargo(p: NDArray) -> NDArray:
        x, y, along = p
        out = np.where(((y > stripe_low) & (y < stripe_high))[:, None], stripe_color, cargo_color)
        out = out * (0.94 + 0.06 * np.sin(along * 2.1) * np.cos(y * 2.3))[:, None]
        if ribs:
            out = out * np.where(np.mod(along, ribs) < 0.06, 0.75, 1.0)[:, None]
        back = along < tail + 0.1
        doors = back & ((abs(x) < 0.02) | (abs(abs(x) - 0.45) < 0.025) | (abs(x) > width / 2 - 0.08))
        return np.where(doors[:, None], 0.6 * cargo_color, out)

    def frame(p: NDArray) -> NDArray:
        lamp = (p[2] < tail + 0.12) & (abs(p[0]) > 0.75)
        stripes = (p[2] < tail + 0.12) & (np.mod(p[0] + p[1], 0.3) < 0.15)
        out = np.where(stripes[:, None], np.array([0.6, 0.35, 0.30]), np.array([0.13, 0.13, 0.14]))
        return np.where(lamp[:, None], np.array(REAR_LAMP), out)

    center = tail + cargo_length / 2
    bed = 1.0
    style = rng.choice(["box", "tank", "open"], p=[0.7, 0.15, 0.15])
    shapes: dict[str, SignedDistance] = {
        "box": box((0, (bed + cargo_height) / 2, center), (width, cargo_height - bed, cargo_length), 0.04),
        "tank": cylinder((0, bed + 1.15, center), 1.15, cargo_length, axis=2, rounding=0.25),
        "open": box((0, bed + 0.45, center), (width, 0.9, cargo_length), 0.03),
    }
    parts = [
        Part(
            box((0, (0.55 + cab_height) / 2, nose - cab_length / 2), (width, cab_height - 0.55, cab_length), 0.14),
            cab,
            TRUCK,
            0.3,
        ),
        Part(shapes[style], cargo, TRUCK, 0.5 if style == "tank" else 0.1),
        Part(box((0, 0.75, 0), (width - 0.1, 0.42, length - 0.1), 0.02), frame, TRUCK),
        wheels(0.48, 0.32, width / 2, (nose - 1.0, tail + 0.9, tail + 2.0)[: 2 if cargo_length < 5 else 3], TRUCK),
    ]
    return Solid(tuple(parts), (width + 0.1, max(cab_height, cargo_height) + 0.05, length))


def _carriage_colors(
    length: float, width: float, height: float, paints: tuple[NDArray, NDArray], band: tuple[float, float], bay: float
) -> Callable[[NDArray], NDArray]:
    """Return the colors of a bus or tram as a function of points [3, n].

    A band of windows runs along the sides; below it are a stripe and doors, at each end a windshield and a display.

    Args:
        length: of the vehicle.
        width: of the vehicle.
        height: of the vehicle.
        paints: colors [3] of the body and of the stripe.
        band: heights of the lower and the upper edge of the windows.
        bay: distance from window to window.
    """
    low, high = band
    paint, stripe = paints

    def color(p: NDArray) -> NDArray:
        x, y, z = abs(p[0]), p[1], p[2]
        out = np.where((y < low - 0.45)[:, None], stripe, paint)
        end = abs(z) > length / 2 - 0.25
        glass = (y > low) & (y < high)
        side = ~end & (np.mod(z, bay) > 0.12)
        door = ~end & (np.mod(z + 0.4 * length, 5.2) < 1.3) & (y > 0.45) & (y < high) & (np.mod(z, 0.65) > 0.06)
        windshield = end & (x < width / 2 - 0.12) & (y > low - 0.35)
        out = np.where(
            ((glass & (side | windshield)) | (windshield & (y < high)) | (door & (p[0] > 0)))[:, None], GLASS, out
        )
        display = end & (abs(y - high - 0.2) < 0.13) & (x < 0.75)
        dots = np.mod(p[0] * 9, 1) < 0.55
        out = np.where(display[:, None], np.where(dots[:, None], (0.95, 0.62, 0.12), (0.05, 0.05, 0.05)), out)
        lamp = end & (x > 0.32 * width) & (abs(y - 0.7) < 0.12)
        out = np.where(lamp[:, None], np.where((z > 0)[:, None], FRONT_LAMP, REAR_LAMP), out)
        return np.where((y < 0.38)[:, None], RUBBER, out)

    return color


def bus(rng: np.random.Generator) -> Solid:
    """Draw a bus, sometimes a double-decker."""
    length, height, width = rng.uniform(9, 13), rng.uniform(2.9, 3.3), 2.5
    if rng.random() < 0.12:
        height = 4.2
    paints = draw_car_color(rng) if rng.random() < 0.5 else rng.uniform(0.1, 0.85, 3), rng.uniform(0.1, 0.85, 3)
    color = _carriage_colors(length, width, height, paints, (1.35, 2.45), rng.uniform(1.2, 2.0))
    if height > 4:
        upper = _carriage_colors(length, width, height, (paints[0], paints[0]), (2.9, 3.7), 1.5)
        lower = color
        color = lambda p: np.where((p[1] > 2.75)[:, None], upper(p), lower(p))  # noqa: E731
    parts = [
        Part(box((0, (0.28 + height) / 2, 0), (width, height - 0.28, length), 0.16), color, BUS, 0.3),
        wheels(0.48, 0.3, width / 2 + 0.01, (-0.27 * length, 0.30 * length), BUS),
        Part(mirrored(box((width / 2 + 0.15, 2.0, length / 2 - 0.05), (0.18, 0.4, 0.1), 0.03)), RUBBER, BUS),
    ]
    return Solid(tuple(parts), (width + 0.5, height + 0.02, length + 0.1))


def tram(rng: np.random.Generator) -> Solid:
    """Draw a tram with a pantograph."""
    length, height, width = rng.uniform(18, 30), rng.uniform(3.3, 3.6), 2.4
    stripe = np.array([(0.62, 0.08, 0.08), (0.75, 0.62, 0.10), (0.10, 0.35, 0.20), (0.12, 0.22, 0.45)])
    paints = rng.choice(stripe) * rng.uniform(0.8, 1.2), np.array([0.80, 0.78, 0.72]) * rng.uniform(0.4, 1)
    if rng.random() < 0.5:
        paints = paints[::-1]
    color = _carriage_colors(length, width, height, paints, (1.45, 2.55), rng.uniform(1.4, 2.2))
    body = box((0, (0.2 + height) / 2, 0), (width, height - 0.2, length), 0.3)
    nose = rng.uniform(0.25, 0.5)

    def shape(p: NDArray) -> NDArray:
        taper = np.clip(p[1] - 1.3, 0, 2) * nose  # the windshield leans back
        return np.maximum(body(p), (abs(p[2]) + taper - length / 2) * 0.85)

    parts = [
        Part(shape, color, TRAIN, 0.3),
        Part(box((0, height + 0.12, 0), (1.5, 0.3, 0.5 * length), 0.05), (0.35, 0.36, 0.37), TRAIN),
        Part(capsule((0, height + 0.2, 1.0), (0, height + 1.2, 2.0), 0.04), RUBBER, TRAIN),
        Part(capsule((-0.8, height + 1.2, 2.0), (0.8, height + 1.2, 2.0), 0.04), RUBBER, TRAIN),
    ]
    return Solid(tuple(parts), (width + 0.02, height + 1.3, length + 0.02))


def bicycle_parts(rng: np.random.Generator) -> tuple[Part, ...]:
    """Draw a bicycle, sometimes with a basket."""
    paint = draw_car_color(rng)
    back, front, crank, seat, bars = (
        (0, 0.34, -0.53),
        (0, 0.34, 0.53),
        (0, 0.29, -0.05),
        (0, 0.92, -0.2),
        (0, 0.98, 0.38),
    )
    tubes = [
        (crank, seat),
        (crank, bars),
        (seat, back),
        (crank, back),
        (bars, front),
        ((0, 0.82, -0.17), (0, 0.86, 0.4)),
    ]
    rods = [capsule(a, b, 0.022) for a, b in tubes]
    black = [
        torus(back, 0.33, 0.024),
        torus(front, 0.33, 0.024),
        capsule((-0.27, 1.0, 0.34), (0.27, 1.0, 0.34), 0.02),
        ellipsoid((0, 0.95, -0.22), (0.08, 0.04, 0.14)),
    ]
    parts = [
        Part(lambda p: np.min([d(p) for d in rods], axis=0), paint, BICYCLE),
        Part(lambda p: np.min([d(p) for d in black], axis=0), (0.07, 0.07, 0.07), BICYCLE),
    ]
    if rng.random() < 0.3:
        parts.append(Part(box((0, 0.95, 0.55), (0.34, 0.25, 0.28), 0.03), rng.uniform(0.1, 0.6, 3), BICYCLE))
    return tuple(parts)


def motorcycle_parts(rng: np.random.Generator) -> tuple[Part, ...]:
    """Draw a motorcycle or a scooter."""
    paint, scooter = draw_car_color(rng), rng.random() < 0.4
    radius = 0.24 if scooter else 0.31
    tires = [cylinder((0, radius, z), radius, 0.14, rounding=0.05) for z in (-0.65, 0.65)]
    metal = [
        capsule((0, radius, 0.65), (0, 1.0, 0.42), 0.05),
        capsule((-0.36, 1.05, 0.38), (0.36, 1.05, 0.38), 0.025),
        box((0, 0.45, -0.02), (0.34, 0.34, 0.5), 0.08),
        capsule((0.17, 0.33, 0.1), (0.17, 0.38, -0.75), 0.05),
    ]
    if scooter:
        body = [box((0, 0.65, 0.42), (0.42, 0.7, 0.1), 0.05), box((0, 0.58, -0.42), (0.36, 0.42, 0.75), 0.12)]
    else:
        body = [ellipsoid((0, 0.83, 0.15), (0.18, 0.16, 0.32)), ellipsoid((0, 0.78, -0.62), (0.13, 0.10, 0.32))]
        body.append(ellipsoid((0, 0.95, 0.52), (0.2, 0.22, 0.18)))
    return (
        Part(lambda p: np.min([d(p) for d in tires], axis=0), RUBBER, MOTORCYCLE),
        Part(lambda p: np.min([d(p) for d in metal], axis=0), STEEL, MOTORCYCLE, 0.4),
        Part(lambda p: np.min([d(p) for d in body], axis=0), paint, MOTORCYCLE, 0.5),
        Part(ellipsoid((0, 0.80, -0.30), (0.16, 0.08, 0.38)), RUBBER, MOTORCYCLE),
        Part(ellipsoid((0, 0.92, 0.66), 0.10), FRONT_LAMP, MOTORCYCLE),
        Part(ellipsoid((0, 0.74, -0.92), 0.06), REAR_LAMP, MOTORCYCLE),
    )


def parked_two_wheeler(parts: tuple[Part, ...]) -> Solid:
    """Return a bicycle or motorcycle without a rider."""
    return Solid(parts, (0.8, 1.25, 2.0))
