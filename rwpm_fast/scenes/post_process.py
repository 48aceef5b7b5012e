"""Make a photo of a painted scene: reflections on wet ground, rain or snow, blur, exposure, camera response."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .weather import Weather


def post_process(
    rng: np.random.Generator,
    canvas: Canvas,
    reflectance: NDArray,
    weather: Weather,
    moment: np.random.Generator | None = None,
) -> NDArray:
    """Turn a painted scene into a photo; reflections and precipitation are painted onto the canvas.

    Args:
        rng: source of the amount of precipitation and of the exposure.
        canvas: the painted scene.
        reflectance: [H, W] float32 in [0, 1], how much of what stands above it the ground reflects.
        weather: precipitation, blur and camera response.
        moment: source of what differs between two photos of one scene: where drops fall, and noise; None for ``rng``.

    Returns:
        [H, W, 3] uint8.
    """
    moment = rng if moment is None else moment
    color = canvas.color
    if reflectance.any():
        _add_reflections(canvas, reflectance)
    if weather.precipitation:
        _add_precipitation(rng, moment, canvas, weather)
    sigma = weather.blur_sigma * canvas.size[0] / 512
    # automatic exposure evens out the mean brightness, but only in part: a night stays dark
    exposure = np.clip(0.42 / color.mean(), 0.75, 3) ** rng.uniform(0.3, 0.8)
    color = gaussian_blur(gaussian_blur(color, sigma, 0), sigma, 1) * np.float32(exposure)
    return weather.camera_response.apply(moment, color)


def gaussian_blur(field: NDArray, sigma: float, axis: int) -> NDArray:
    """Blur a field along one axis with standard deviation ``sigma`` in pixels; the border is repeated."""
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


def _add_reflections(canvas: Canvas, reflectance: NDArray) -> None:
    """Mix the image, mirrored at the horizon and blurred downwards as by wet asphalt, into the ground."""
    height = canvas.size[0]
    first = int(np.ceil(canvas.camera.horizon * height))
    rows = np.clip(2 * first - 1 - np.arange(first, height), 0, height - 1)
    image = gaussian_blur(gaussian_blur(canvas.color[rows], height / 90, 0), height / 400, 1)
    share = reflectance[first:, :, None]
    canvas.color[first:] += share * (image - canvas.color[first:])


def _add_precipitation(rng: np.random.Generator, moment: np.random.Generator, canvas: Canvas, weather: Weather) -> None:
    """Paint streaks of rain or flakes of snow over the image."""
    height, width = canvas.size
    share = rng.uniform(0.0005, 0.004)
    drops = (moment.random((height, width), np.float32) < share).astype(np.float32)[..., None]
    if weather.precipitation == "rain":
        veil = 0.5 * gaussian_blur(drops, height / 90, 0) * height / 40
    else:
        size = rng.uniform(0.6, 1.6) * height / 512
        veil = gaussian_blur(gaussian_blur(drops, size, 0), size, 1) * 5 * size**2
    veil = np.clip(veil, 0, 0.7 if weather.precipitation == "snow" else 0.25)
    canvas.color += veil * (np.clip(1.1 * weather.ambient, 0, 1).astype(np.float32) - canvas.color)
