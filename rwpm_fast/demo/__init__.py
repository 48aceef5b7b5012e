"""A demo that needs no data: a synthetic scene, and the page that shows what the walk does to it."""

from __future__ import annotations

from .report import Accuracy, DemoResult, Timing, render_report
from .scene import Scene, SceneNetwork, render_scene

__all__ = ["Accuracy", "DemoResult", "Scene", "SceneNetwork", "Timing", "render_report", "render_scene"]
