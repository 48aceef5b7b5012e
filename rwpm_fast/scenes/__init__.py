"""A synthetic data set: rendered street scenes with the class of every pixel.

Scenes are drawn from a random generator, so there are as many as needed, and a seed gives the same scene again. They
have all nineteen classes of Cityscapes and objects of none of them, in seven kinds of weather, on four kinds of road.
The compact network was trained on them (:mod:`rwpm_fast.training`); hold-out scenes come from other seeds.

>>> photo, class_map = render_scene(np.random.default_rng(0), size=(512, 1024))  # [H, W, 3] and [H, W], uint8
>>> anomaly = class_map == UNKNOWN
>>> photo, labels = render_holdout_scene(seed=0)  # labels: 0 inlier, 1 anomaly, 255 void
>>> for frame in render_drive(seed=0):  # a camera approaches such a scene
...     frame.photo, frame.labels, frame.flow, frame.occluded
"""

from ..data.frames import ANOMALY, INLIER, VOID
from .drive import DriveFrame, render_drive
from .holdout import render_holdout_scene
from .labels import EGO, UNKNOWN
from .render import Scene, render_scene, render_scene_objects

__all__ = [
    "ANOMALY",
    "EGO",
    "INLIER",
    "UNKNOWN",
    "VOID",
    "DriveFrame",
    "Scene",
    "render_drive",
    "render_holdout_scene",
    "render_scene",
    "render_scene_objects",
]
