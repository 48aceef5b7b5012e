"""A demo that needs no data: rendered scenes, and the page that shows what the walk does to them."""

from __future__ import annotations

from ..scenes.holdout import unseen_street
from .report import Accuracy, DemoResult, Timing, render_report
from .scene import Scene, SceneNetwork, render_scene

__all__ = [
    "Accuracy",
    "DemoResult",
    "Scene",
    "SceneNetwork",
    "Timing",
    "render_report",
    "render_scene",
    "unseen_street",
]
