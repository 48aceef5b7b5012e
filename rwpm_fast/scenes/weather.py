"""Weather and time of day: the sky, the light on things, how far one sees, and what the camera makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera_response import Film
from .sky import Sky

WEATHERS = {"sun": 0.34, "overcast": 0.24, "rain": 0.11, "fog": 0.06, "snow": 0.08, "dusk": 0.08, "night": 0.09}


@dataclass(frozen=True)
class Weather:
    """What a scene is seen in.

    Attributes:
        name: a key of ``WEATHERS``.
        sky: the sky.
        ambient: light of the sky [3]; 1 is white paper in the shade of a fine day, about.
        sun: light of the sun [3], 0 without one.
        towards: unit vector [3] towards the sun: right, up, ahead.
        haze: color [3] that distance fades into.
        visibility: meters after which 1 / e of a color is left.
        wet: how much the ground mirrors, in [0, 1].
        snow: share of the ground under snow, in [0, 1].
        falling: "rain", "snow" or nothing.
        lamps: brightness of lamps; 0 where they are off.
        film: the camera's answer.
        blur: standard deviation in pixels at a height of 512.
    """

    name: str
    sky: Sky
    ambient: NDArray
    sun: NDArray
    towards: NDArray
    haze: NDArray
    visibility: float
    wet: float
    snow: float
    falling: str
    lamps: float
    film: Film
    blur: float


def draw_weather(rng: np.random.Generator) -> Weather:
    """Draw a weather."""
    name = str(rng.choice(list(WEATHERS), p=list(WEATHERS.values())))
    ambient, sun = np.array([0.80, 0.83, 0.88]), np.zeros(3)
    low, high, clear = np.array([0.84, 0.86, 0.88]), np.array([0.62, 0.66, 0.72]), rng.uniform(0.3, 0.5)
    glow, cloud = (0.0, 0.0, 0.0), (0.88, 0.88, 0.89)
    visibility, wet, snow, lamps, falling = rng.uniform(120, 400), 0.0, 0.0, 0.0, ""
    bearing, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.12, 1.1)  # radians; 0 is ahead
    if name == "sun":
        warm = np.clip(1.2 - elevation / 0.6, 0, 1)  # 1 at a low sun
        ambient = np.array([0.50, 0.54, 0.64]) * rng.uniform(0.85, 1.1)
        sun = np.array([0.62, 0.52 - 0.06 * warm, 0.44 - 0.24 * warm]) * rng.uniform(0.8, 1.15)
        low = (1 - warm) * np.array([0.78, 0.86, 0.94]) + warm * np.array([1.0, 0.86, 0.68])
        high = np.array([0.26, 0.46, 0.76]) * rng.uniform(0.8, 1.25)
        cloud, clear = (1.0, 0.97 - 0.03 * warm, 0.95 - 0.08 * warm), rng.uniform(0.35, 0.75)
        glow = tuple(rng.uniform(0.3, 1.0) * np.array([0.34, 0.26, 0.14]))
        visibility = rng.uniform(150, 900)
        wet = rng.uniform(0.2, 0.6) if rng.random() < 0.08 else 0.0
    elif name == "overcast":
        low = high = low * rng.uniform(0.85, 1.15)
        ambient = ambient * rng.uniform(0.75, 1.1)
    elif name == "rain":
        low, high = low * 0.80, high * 0.80
        ambient, wet = ambient * rng.uniform(0.55, 0.8), rng.uniform(0.35, 0.8)
        visibility, lamps = rng.uniform(60, 200), float(rng.random() < 0.4) * 0.4
        falling = "rain" if rng.random() < 0.5 else ""
    elif name == "fog":
        low = high = low * rng.uniform(0.8, 1.1)
        visibility, clear = rng.uniform(22, 70), 1.0
    elif name == "snow":
        snow, visibility = rng.uniform(0.35, 1.0), rng.uniform(60, 300)
        falling = "snow" if rng.random() < 0.5 else ""
    elif name == "dusk":
        tint = rng.uniform(0, 1)
        low = (1 - tint) * np.array([0.92, 0.58, 0.36]) + tint * np.array([0.62, 0.52, 0.60])
        high, cloud = np.array([0.16, 0.22, 0.38]), (0.48, 0.38, 0.42)
        ambient = np.array([0.36, 0.34, 0.42]) * rng.uniform(0.8, 1.2)
        lamps, clear = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.8)
        bearing, glow = rng.uniform(-0.8, 0.8), (0.25, 0.12, 0.02)
        wet = rng.uniform(0.2, 0.6) if rng.random() < 0.25 else 0.0
    else:
        low, high = np.array([0.10, 0.09, 0.09]) * rng.uniform(0.5, 2.0), np.array([0.02, 0.025, 0.04])
        cloud, ambient = (0.06, 0.06, 0.07), np.array([0.13, 0.13, 0.16]) * rng.uniform(0.6, 1.3)
        lamps, visibility = rng.uniform(0.7, 1.1), rng.uniform(100, 400)
        wet = rng.uniform(0.2, 0.8) if rng.random() < 0.35 else 0.0
    towards = np.array([np.sin(bearing) * np.cos(elevation), np.sin(elevation), np.cos(bearing) * np.cos(elevation)])
    seen = (np.clip(np.tan(bearing), -1.2, 1.2) if np.cos(bearing) > 0 else 9.0, min(0.35, np.tan(elevation)))
    sky = Sky(tuple(low), tuple(high), glow, seen, cloud, clear)
    balance = np.exp(rng.normal(0, 0.05, 3)) * np.exp(rng.normal(0, 0.13))
    film = Film(tuple(balance), rng.uniform(0, 0.2), rng.uniform(-0.15, 0.55), rng.uniform(0.002, 0.02))
    haze = np.array(low) * rng.uniform(0.9, 1.0)
    blur = rng.uniform(0.35, 0.9)
    return Weather(name, sky, ambient, sun, towards, haze, visibility, wet, snow, falling, lamps, film, blur)
