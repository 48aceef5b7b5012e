"""The topics of a robot's recording, and which of them has the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..io.text import listed
from .base import SourceError
from .messages import COMPRESSED, RAW


@dataclass(frozen=True)
class Topic:
    """A topic of a recording.

    Attributes:
        name: such as "/camera/image_raw".
        schema: name of the message type, as ROS 2 or Foxglove write it.
        encoding: how messages are serialized, such as "cdr".
        definition: the schema's own text.
        messages: how many the recording declares; None if it does not.
    """

    name: str
    schema: str
    encoding: str
    definition: bytes = b""
    messages: int | None = None


@dataclass(frozen=True)
class RawMessage:
    """A message as it was recorded.

    Attributes:
        seconds: when it was recorded.
        data: its bytes.
    """

    seconds: float
    data: bytes


class Recording(Protocol):
    """A recording of several topics."""

    @property
    def topics(self) -> Sequence[Topic]:
        """Its topics."""
        ...

    @property
    def whole(self) -> bool:
        """Whether it has the end that its writer gives it."""
        ...

    def messages(self, topic: str, note: Callable[[str], None]) -> Iterator[RawMessage]:
        """Yield the messages of a topic; ``note`` takes what was found wrong."""
        ...

    def close(self) -> None:
        """Let go of its files."""
        ...


def choose_topic(name: str, topics: Sequence[Topic], wanted: str | None) -> Topic:
    """Return the topic to read.

    Args:
        name: of the recording, for messages.
        topics: that it has.
        wanted: the topic's name; None for the only one with images.

    Raises:
        SourceError: there is no such topic, it has no images, or several have.
    """
    images = [topic for topic in topics if topic.schema in (*RAW, *COMPRESSED)]
    if wanted is None and len(images) == 1:
        return images[0]
    if wanted is None:
        found = "none" if not images else f"{len(images)}: {listed(sorted(topic.name for topic in images), 20)}"
        advice = "" if not images else "; name one as topic"
        others = "" if images else f"; its topics: {_described(topics)}"
        raise SourceError(f"{name}: expected one topic with images, got {found}{others}{advice}")
    for topic in topics:
        if topic.name == wanted and topic in images:
            return topic
        if topic.name == wanted:
            raise SourceError(
                f"{name}: topic {wanted} has {topic.schema or 'no type'}, expected {', '.join((*RAW, *COMPRESSED))}"
            )
    raise SourceError(f"{name}: there is no topic {wanted}; its topics: {_described(topics)}")


def _described(topics: Sequence[Topic]) -> str:
    return (
        listed((f"{topic.name} ({topic.schema})" for topic in sorted(topics, key=lambda topic: topic.name)), 20)
        or "none"
    )
