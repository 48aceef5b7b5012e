"""From a painted scene to a photo: reflections on wet ground, rain and snow in the air, the camera's blur and film."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .weather import Weather


def take_photo(rng: np.random.Generator, canvas: Canvas, mirror: NDArray, weather: Weather) -> NDArray:
    """Photo [H, W, 3] uint8 of a canvas; ``mirror`` [H, W] in [0, 1] tells where the ground reflects."""
    color = canvas.color
    if mirror.any():
        _reflect(canvas, mirror)
    if weather.falling:
        _fall(rng, canvas, weather)
    sigma = weather.blur * canvas.size[0] / 512
    # a camera exposes for its whole picture, though not so far that night turns to day
    exposure = np.clip(0.42 / color.mean(), 0.75, 3) ** rng.uniform(0.3, 0.8)
    return weather.film.develop(rng, blur(blur(color, sigma, 0), sigma, 1) * np.float32(exposure))


def blur(field: NDArray, sigma: float, axis: int) -> NDArray:
    """Gaussian blur along an axis; the border repeats."""
    radius = int(np.ceil(2.5 * sigma))
    if radius < 1 or sigma < 0.2:
        return field
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    padding = [(radius, radius) if a == axis else (0, 0) for a in range(field.ndim)]
    padded = np.pad(field, padding, "edge")
    length = field.shape[axis]
    out = np.zeros_like(field)
    for start, weight in enumerate(kernel):
        out += weight * padded[(slice(None),) * axis + (slice(start, start + length),)]
    return out


def _reflect(canvas: Canvas, mirror: NDArray) -> None:
    """Mix into the ground what a mirror along the horizon would show, drawn out downwards as on wet asphalt."""
    height = canvas.size[0]
    first = int(np.ceil(canvas.camera.horizon * height))
    rows = np.clip(2 * first - 1 - np.arange(first, height), 0, height - 1)
    image = blur(blur(canvas.color[rows], height / 90, 0), height / 400, 1)
    share = mirror[first:, :, None]
    canvas.color[first:] += share * (image - canvas.color[first:])


def _fall(rng: np.random.Generator, canvas: Canvas, weather: Weather) -> None:
    """Streaks of rain or flakes of snow before everything."""
    height, width = canvas.size
    share = rng.uniform(0.0005, 0.004)
    drops = (rng.random((height, width), np.float32) < share).astype(np.float32)[..., None]
    if weather.falling == "rain":
        veil = 0.5 * blur(drops, height / 90, 0) * height / 40
    else:
        size = rng.uniform(0.6, 1.6) * height / 512
        veil = blur(blur(drops, size, 0), size, 1) * 5 * size**2
    veil = np.clip(veil, 0, 0.7 if weather.falling == "snow" else 0.25)
    canvas.color += veil * (np.clip(1.1 * weather.ambient, 0, 1).astype(np.float32) - canvas.color)
