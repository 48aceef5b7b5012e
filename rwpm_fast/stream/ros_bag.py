"""Messages of ROS bags: a file of ROS 1, or a folder of ROS 2 with SQLite or MCAP files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..io.extras import import_extra
from .base import SourceError
from .topics import RawMessage, Topic


class BagRecording:
    """A bag of ROS.

    Args:
        path: a file ending in .bag, or a folder with a metadata.yaml.

    Raises:
        ImportError: rosbags is missing.
        SourceError: it cannot be opened.
    """

    whole = True  # a bag without its index cannot be opened

    def __init__(self, path: Path) -> None:
        module = "rosbags.rosbag2" if path.is_dir() else "rosbags.rosbag1"
        reader = import_extra(module, "reading ROS bags").Reader
        self._encoding = "cdr" if path.is_dir() else "ros1"
        try:
            self._reader: Any = reader(path)
            self._reader.open()
        except Exception as error:  # of rosbags, SQLite, YAML and the decompressors
            tool = "ros2 bag reindex" if path.is_dir() else "rosbag reindex"
            raise SourceError(f"{path}: cannot be opened as a bag: {error}; '{tool}' repairs an index") from error

    @property
    def topics(self) -> list[Topic]:
        """Its topics."""
        return [
            Topic(name, info.msgtype or "", self._encoding, messages=info.msgcount)
            for name, info in self._reader.topics.items()
        ]

    def messages(self, topic: str, note: Callable[[str], None]) -> Iterator[RawMessage]:
        """Yield the messages of a topic.

        Args:
            topic: its name.
            note: takes what was found wrong with the bag.
        """
        connections = [connection for connection in self._reader.connections if connection.topic == topic]
        messages = self._reader.messages(connections=connections)
        while True:
            try:
                message = next(messages, None)
            except Exception as error:  # of rosbags, SQLite and the decompressors
                note(f"cannot be read on: {error or type(error).__name__}")
                return
            if message is None:
                return
            _, nanoseconds, data = message
            yield RawMessage(nanoseconds * 1e-9, data)

    def close(self) -> None:
        """Let go of its files."""
        self._reader.close()
