"""The images of a robot's recording as the frames of a video."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from ..io.extras import import_extra
from .base import Source, SourceError
from .frame import BrokenFrame, SourceInfo, VideoFrame
from .mcap_file import McapRecording
from .messages import message_decoder, to_photo
from .ros_bag import BagRecording
from .topics import Recording, choose_topic


class RecordingSource(Source):
    """The images of a topic of an MCAP file or a ROS bag.

    The time stamp of a frame is the one in its message, when the image was taken; where there is none, the time at
    which the message was recorded.

    Args:
        name: a file ending in .mcap or .bag, or a folder with a metadata.yaml.
        topic: the topic with the images; None for the only one.
        color: see :func:`rwpm_fast.stream.messages.to_photo`.

    Raises:
        ImportError: what reads it is not installed.
        SourceError: it cannot be opened, or has no such topic.
    """

    def __init__(self, name: str, topic: str | None = None, color: str = "auto") -> None:
        import_extra("PIL.Image", "reading compressed images of robots")
        path = Path(name)
        try:
            self._recording: Recording = McapRecording(path) if path.suffix == ".mcap" else BagRecording(path)
        except OSError as error:
            raise SourceError(f"{name}: cannot be read: {error.strerror}") from error
        package = "mcap" if path.suffix == ".mcap" else "rosbags"
        try:
            self._topic = choose_topic(name, self._recording.topics, topic)
            self._decode = message_decoder(self._topic.schema, self._topic.encoding, self._topic.definition)
        except BaseException:
            self._recording.close()
            raise
        self._color = color
        info = SourceInfo(name, "recording", package, frames=self._topic.messages)
        info.notes.append(f"topic {self._topic.name} ({self._topic.schema})")
        super().__init__(info)

    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        notes = self.info.notes
        index = broken = 0
        for index, raw in enumerate(self._recording.messages(self._topic.name, notes.append), start=1):
            seconds = raw.seconds
            try:
                message = self._decode(raw.data)
                seconds = raw.seconds if message.seconds is None else message.seconds
                photo = to_photo(message, self._color)
            except SourceError as error:
                reason = str(error)
            except Exception as error:  # of the packages that read messages, where one is damaged
                reason = f"message cannot be read: {error or type(error).__name__}"
            else:
                yield VideoFrame(index - 1, seconds, photo)
                continue
            broken += 1
            yield BrokenFrame(index - 1, seconds, reason)
        if broken:
            notes.append(f"{broken} of {index} frames are broken")
        if not self._recording.whole:
            notes.append("has no summary at its end: the recording was cut, or what wrote it was killed")
        if self.info.frames is not None and self.info.frames > index:
            notes.append(f"declares {self.info.frames} frames and gives {index}")

    def _release(self) -> None:
        self._recording.close()
