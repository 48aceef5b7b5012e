"""Varied street scenes with labels, painted to train a small segmentation network on, and to try it on others.

A scene is drawn from its random generator in this order: a weather (sun at any height and side, overcast, rain, fog,
snow, dusk, night), a road (city, suburb, country, motorway; width, lanes, surface, bend, crossing, zebra, tram tracks),
a camera (height, pitch, focal length, place across the road), then houses, borders, trees, signs, traffic, people and,
in half of the scenes, one to three things that no class is for. The ground and everything flat are patches of the
demo's canvas; vehicles, people and the unknown things are solids found by sphere tracing. Farther things are painted
first, and every pixel's class is that of the last thing painted there.

Labels are Cityscapes train ids, with these conventions: guard rails are fences, lane markings and tram tracks are
road, trunks are vegetation, what is seen through a fence is fence, a tram is a train. Two more ids: ``UNKNOWN``, 255,
is what no class is for, on the road or beside it, and ``EGO``, 254, is the bonnet of our own car.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .builder import Stage
from .ground import paint_ground
from .post_process import take_photo
from .surroundings import paint_backdrop, place_borders, place_houses, place_lamps, place_signs, place_trees
from .traffic import place_oddities, place_people, place_traffic

__all__ = ["paint_scene"]


def paint_scene(rng: np.random.Generator, size: tuple[int, int] = (512, 1024)) -> tuple[NDArray, NDArray]:
    """Paint a street scene; a generator in the same state gives the same picture.

    Args:
        rng: decides on everything.
        size: (height, width) in pixels, each 16 or more.

    Returns:
        photo: [H, W, 3] uint8.
        class_map: [H, W] uint8, Cityscapes train ids, ``UNKNOWN`` where no class fits, ``EGO`` on our own car.

    Raises:
        ValueError: a size below 16.
    """
    height, width = size
    if min(size) < 16:
        raise ValueError(f"size: expected a height and width of 16 pixels or more, got {height} x {width}")
    stage = Stage(rng, (height, width))
    paint_backdrop(stage)
    place_lamps(stage)  # before the ground, which they shine on
    mirror = paint_ground(rng, stage.canvas, stage.noise, stage.road, stage.lighting)
    for place in (place_houses, place_borders, place_trees, place_signs, place_traffic, place_people, place_oddities):
        place(stage)
    stage.draw()
    if rng.random() < 0.35:
        color = rng.uniform(0.02, 0.5, 3) * np.clip(stage.weather.ambient, 0.1, 1)
        stage.things(stage.own, 1.0).bonnet(rng.uniform(0.86, 0.97), color)
    return take_photo(rng, stage.canvas, mirror, stage.weather), stage.canvas.class_map
