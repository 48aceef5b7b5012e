"""The walk's share of the frame time: ``python -m bench.frame_share --help`` says how to measure it."""

from .record import KIND, ShareRecord, markdown

__all__ = ["KIND", "ShareRecord", "markdown"]
