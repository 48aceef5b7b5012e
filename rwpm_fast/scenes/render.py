"""Render a street scene: draw its contents at random, paint them from far to near, take the photo.

A scene is drawn from its random generator in this order: weather (sun at any height and side, overcast, rain, fog,
snow, dusk, night), road (city, suburb, country, highway; width, lanes, surface, bend, intersection, crosswalk, tram
tracks), camera (height, pitch, focal length, position across the road), then houses, borders, trees, signs, traffic,
people and, in half of the scenes, one to three unknown objects. The ground and everything flat are rectangles in the
world, painted by :class:`rwpm_fast.scenes.canvas.Canvas`; vehicles, people and unknown objects are solids, found by
sphere tracing. Farther things are painted first (painter's algorithm), and a pixel has the class of what was painted
there last.

Labels are Cityscapes train ids, with these conventions: guard rails are fences, lane markings and tram tracks are
road, trunks are vegetation, what is seen through a fence is fence, a tram is a train. Two more ids: ``UNKNOWN``, 255,
is an object of none of the classes, on the road or next to it, and ``EGO``, 254, is the hood of the ego vehicle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .builder import SceneBuilder
from .ground import paint_ground
from .post_process import post_process
from .surroundings import paint_backdrop, place_borders, place_houses, place_lamps, place_signs, place_trees
from .traffic import place_anomalies, place_people, place_traffic


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered street scene.

    Attributes:
        photo: [H, W, 3] uint8.
        class_map: [H, W] uint8, Cityscapes train ids, ``UNKNOWN`` (255) on objects of no class, ``EGO`` (254) on the
            hood of the ego vehicle.
        object_map: [H, W] uint16, numbers from 1 that tell vehicles, people and unknown objects apart; pixels of
            anything else may have any number. A rider and the two-wheeler under him share a number and differ in class.
    """

    photo: NDArray
    class_map: NDArray
    object_map: NDArray


def render_scene(rng: np.random.Generator, size: tuple[int, int] = (512, 1024)) -> tuple[NDArray, NDArray]:
    """Render a street scene; a generator in the same state gives the same scene.

    Args:
        rng: source of everything that differs between two scenes.
        size: (height, width) in pixels, each 16 or more.

    Returns:
        photo: [H, W, 3] uint8.
        class_map: [H, W] uint8; see :class:`Scene`.

    Raises:
        ValueError: a size below 16.
    """
    scene = render_scene_objects(rng, size)
    return scene.photo, scene.class_map


def render_scene_objects(rng: np.random.Generator, size: tuple[int, int] = (512, 1024)) -> Scene:
    """Render the scene that :func:`render_scene` renders, with its objects told apart.

    Args:
        rng: source of everything that differs between two scenes.
        size: (height, width) in pixels, each 16 or more.

    Raises:
        ValueError: a size below 16.
    """
    height, width = size
    if min(size) < 16:
        raise ValueError(f"size: expected a height and width of 16 pixels or more, got {height} x {width}")
    return complete(SceneBuilder(rng, (height, width)))


def complete(
    scene: SceneBuilder,
    add: Callable[[SceneBuilder], object] | None = None,
    moment: np.random.Generator | None = None,
) -> Scene:
    """Draw the contents of a scene that has just been made, paint it and take the photo.

    Args:
        scene: the scene.
        add: queues more, once everything else is queued; draws from a generator of its own. None for nothing.
        moment: source of what differs between two photos of one scene; None for the scene's own generator.
    """
    rng = scene.rng
    paint_backdrop(scene)
    place_lamps(scene)  # before the ground, which they light
    reflectance = paint_ground(rng, scene.canvas, scene.noise, scene.road, scene.lighting)
    for place in (place_houses, place_borders, place_trees, place_signs, place_traffic, place_people, place_anomalies):
        place(scene)
    if add is not None:
        add(scene)
    scene.paint()
    if rng.random() < 0.35:
        color = rng.uniform(0.02, 0.5, 3) * np.clip(scene.weather.ambient, 0.1, 1)
        scene.props(scene.ego_x, scene.canvas.camera.position[2] + 1.0).ego_hood(rng.uniform(0.86, 0.97), color)
    photo = post_process(rng, scene.canvas, reflectance, scene.weather, moment)
    return Scene(photo, scene.canvas.class_map, scene.canvas.object_map)
