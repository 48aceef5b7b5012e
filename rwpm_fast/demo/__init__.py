"""A demo that needs no data: a rendered street scene, scored without and with the walk, and a report as one page."""

from __future__ import annotations

from .report import DemoResult, Timing, render_report
from .run import demo_photo, demo_scene

__all__ = ["DemoResult", "Timing", "demo_photo", "demo_scene", "render_report"]
