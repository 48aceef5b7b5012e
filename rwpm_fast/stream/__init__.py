"""Score the frames of a video, a camera or a robot's recording at the rate at which they come."""

from .frame import BrokenFrame, FrameSource, SourceInfo, VideoFrame
from .result import DROP_REASONS, SkippedFrame, StreamResult
from .run import Stream, stream
from .settings import StreamSettings
from .sources import open_source
from .summary import Summary

__all__ = [
    "DROP_REASONS",
    "BrokenFrame",
    "FrameSource",
    "SkippedFrame",
    "SourceInfo",
    "Stream",
    "StreamResult",
    "StreamSettings",
    "Summary",
    "VideoFrame",
    "open_source",
    "stream",
]
