"""Weather and time of day: sky, light, visibility, and how the camera responds to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera_response import CameraResponse
from .sky import Sky

WEATHER_SHARES = {"sun": 0.34, "overcast": 0.24, "rain": 0.11, "fog": 0.06, "snow": 0.08, "dusk": 0.08, "night": 0.09}


@dataclass(frozen=True)
class Weather:
    """The conditions in which a scene is seen.

    Attributes:
        name: a key of ``WEATHER_SHARES``.
        sky: colors and clouds.
        ambient: light of the sky [3]; 1 is, roughly, white paper in the shade on a clear day.
        sun: light of the sun [3], 0 without one.
        sun_direction: unit vector [3] towards the sun: right, up, ahead.
        haze: color [3] that distance fades into.
        visibility: meters after which 1 / e of a color is left.
        wetness: how much the ground reflects, in [0, 1].
        snow_cover: share of the ground under snow, in [0, 1].
        precipitation: "rain", "snow" or "" for none.
        lamp_brightness: of street lamps, headlights and windows; 0 if they are off.
        camera_response: of the camera.
        blur_sigma: standard deviation of the blur, in pixels at an image height of 512.
    """

    name: str
    sky: Sky
    ambient: NDArray
    sun: NDArray
    sun_direction: NDArray
    haze: NDArray
    visibility: float
    wetness: float
    snow_cover: float
    precipitation: str
    lamp_brightness: float
    camera_response: CameraResponse
    blur_sigma: float


def draw_weather(rng: np.random.Generator) -> Weather:
    """Draw the weather of a scene."""
    name = str(rng.choice(list(WEATHER_SHARES), p=list(WEATHER_SHARES.values())))
    ambient, sun = np.array([0.80, 0.83, 0.88]), np.zeros(3)
    horizon_color, zenith_color = np.array([0.84, 0.86, 0.88]), np.array([0.62, 0.66, 0.72])
    clear_share = rng.uniform(0.3, 0.5)
    glow_color, cloud_color = (0.0, 0.0, 0.0), (0.88, 0.88, 0.89)
    visibility, wetness, snow_cover, lamp_brightness, precipitation = rng.uniform(120, 400), 0.0, 0.0, 0.0, ""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.12, 1.1)  # radians; 0 is ahead
    if name == "sun":
        warm = np.clip(1.2 - elevation / 0.6, 0, 1)  # 1 at a low sun
        ambient = np.array([0.50, 0.54, 0.64]) * rng.uniform(0.85, 1.1)
        sun = np.array([0.62, 0.52 - 0.06 * warm, 0.44 - 0.24 * warm]) * rng.uniform(0.8, 1.15)
        horizon_color = (1 - warm) * np.array([0.78, 0.86, 0.94]) + warm * np.array([1.0, 0.86, 0.68])
        zenith_color = np.array([0.26, 0.46, 0.76]) * rng.uniform(0.8, 1.25)
        cloud_color, clear_share = (1.0, 0.97 - 0.03 * warm, 0.95 - 0.08 * warm), rng.uniform(0.35, 0.75)
        glow_color = tuple(rng.uniform(0.3, 1.0) * np.array([0.34, 0.26, 0.14]))
        visibility = rng.uniform(150, 900)
        wetness = rng.uniform(0.2, 0.6) if rng.random() < 0.08 else 0.0
    elif name == "overcast":
        horizon_color = zenith_color = horizon_color * rng.uniform(0.85, 1.15)
        ambient = ambient * rng.uniform(0.75, 1.1)
    elif name == "rain":
        horizon_color, zenith_color = horizon_color * 0.80, zenith_color * 0.80
        ambient, wetness = ambient * rng.uniform(0.55, 0.8), rng.uniform(0.35, 0.8)
        visibility, lamp_brightness = rng.uniform(60, 200), float(rng.random() < 0.4) * 0.4
        precipitation = "rain" if rng.random() < 0.5 else ""
    elif name == "fog":
        horizon_color = zenith_color = horizon_color * rng.uniform(0.8, 1.1)
        visibility, clear_share = rng.uniform(22, 70), 1.0
    elif name == "snow":
        snow_cover, visibility = rng.uniform(0.35, 1.0), rng.uniform(60, 300)
        precipitation = "snow" if rng.random() < 0.5 else ""
    elif name == "dusk":
        tint = rng.uniform(0, 1)
        horizon_color = (1 - tint) * np.array([0.92, 0.58, 0.36]) + tint * np.array([0.62, 0.52, 0.60])
        zenith_color, cloud_color = np.array([0.16, 0.22, 0.38]), (0.48, 0.38, 0.42)
        ambient = np.array([0.36, 0.34, 0.42]) * rng.uniform(0.8, 1.2)
        lamp_brightness, clear_share = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.8)
        azimuth, glow_color = rng.uniform(-0.8, 0.8), (0.25, 0.12, 0.02)
        wetness = rng.uniform(0.2, 0.6) if rng.random() < 0.25 else 0.0
    else:
        horizon_color = np.array([0.10, 0.09, 0.09]) * rng.uniform(0.5, 2.0)
        zenith_color = np.array([0.02, 0.025, 0.04])
        cloud_color, ambient = (0.06, 0.06, 0.07), np.array([0.13, 0.13, 0.16]) * rng.uniform(0.6, 1.3)
        lamp_brightness, visibility = rng.uniform(0.7, 1.1), rng.uniform(100, 400)
        wetness = rng.uniform(0.2, 0.8) if rng.random() < 0.35 else 0.0
    right, up, ahead = np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)
    sun_position = (np.clip(np.tan(azimuth), -1.2, 1.2) if np.cos(azimuth) > 0 else 9.0, min(0.35, np.tan(elevation)))
    sky = Sky(tuple(horizon_color), tuple(zenith_color), glow_color, sun_position, cloud_color, clear_share)
    # arguments are evaluated in this order, and so are the draws
    return Weather(
        name=name,
        sky=sky,
        ambient=ambient,
        sun=sun,
        sun_direction=np.array([right, up, ahead]),
        camera_response=CameraResponse(
            gain=tuple(np.exp(rng.normal(0, 0.05, 3)) * np.exp(rng.normal(0, 0.13))),
            vignetting=rng.uniform(0, 0.2),
            contrast=rng.uniform(-0.15, 0.55),
            noise=rng.uniform(0.002, 0.02),
        ),
        haze=np.array(horizon_color) * rng.uniform(0.9, 1.0),
        visibility=visibility,
        wetness=wetness,
        snow_cover=snow_cover,
        precipitation=precipitation,
        lamp_brightness=lamp_brightness,
        blur_sigma=rng.uniform(0.35, 0.9),
    )
