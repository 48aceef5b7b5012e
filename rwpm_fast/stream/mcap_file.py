"""Messages of an MCAP file, also of one that is damaged or whose writer was killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..io.extras import import_extra
from .base import SourceError
from .topics import RawMessage, Topic

_PURPOSE = "reading MCAP files"


class McapRecording:
    """An MCAP file.

    It is read from its beginning, not by its index, which is missing where the writer was killed.

    Args:
        path: the file.

    Raises:
        ImportError: mcap is missing.
        OSError: the file cannot be read.
        SourceError: it has no topics.
    """

    def __init__(self, path: Path) -> None:
        self._records = import_extra("mcap.records", _PURPOSE)
        self._streams = import_extra("mcap.stream_reader", _PURPOSE)
        self._path = path
        self.topics, self.whole = self._find_topics()

    def _find_topics(self) -> tuple[list[Topic], bool]:
        """List the topics, by the summary at the end or else by a look at the whole file; and whether there is one."""
        readers = import_extra("mcap.reader", _PURPOSE)
        with self._path.open("rb") as file:
            try:
                summary = readers.make_reader(file).get_summary()
            except Exception:  # of many kinds, for a file that is cut or damaged
                summary = None
        if summary is not None and summary.channels:
            counts = summary.statistics.channel_message_counts if summary.statistics else {}
            channels, schemas = summary.channels, summary.schemas
        else:
            counts, channels, schemas = {}, {}, {}
            faults: list[str] = []
            for record in self._read(faults.append):
                if isinstance(record, self._records.Channel):
                    channels[record.id] = record
                elif isinstance(record, self._records.Schema):
                    schemas[record.id] = record
            if not channels:
                raise SourceError(f"{self._path}: expected an MCAP file with topics, got none; {' '.join(faults)}")
        topics = []
        for channel in channels.values():
            schema = schemas.get(channel.schema_id)
            name, definition = (schema.name, schema.data) if schema else ("", b"")
            topics.append(Topic(channel.topic, name, channel.message_encoding, definition, counts.get(channel.id)))
        return topics, summary is not None

    def messages(self, topic: str, note: Callable[[str], None]) -> Iterator[RawMessage]:
        """Yield the messages of a topic.

        Args:
            topic: its name.
            note: takes what was found wrong with the file.
        """
        wanted = set()
        for record in self._read(note):
            if isinstance(record, self._records.Channel) and record.topic == topic:
                wanted.add(record.id)
            elif isinstance(record, self._records.Message) and record.channel_id in wanted:
                yield RawMessage(record.log_time * 1e-9, record.data)

    def close(self) -> None:
        """Nothing is held open between messages' readers."""

    def _read(self, note: Callable[[str], None]) -> Iterator[Any]:
        """Yield schemas, channels and messages; a chunk that is damaged is left out."""
        with self._path.open("rb") as file:
            records = self._streams.StreamReader(file, emit_chunks=True).records
            while True:
                try:
                    record = next(records, None)
                except Exception as error:  # whatever damage makes of the lengths and names within
                    note(f"ends within a record, {_kind(error)}: the file is cut or damaged there")
                    return
                if record is None:
                    return
                if not isinstance(record, self._records.Chunk):
                    yield record
                    continue
                try:
                    within = self._streams.breakup_chunk(record, validate_crc=True)
                except Exception as error:  # of the decompressor, the checksum or the records
                    start, end = record.message_start_time * 1e-9, record.message_end_time * 1e-9
                    note(f"a chunk is damaged, {_kind(error)}: messages between {start:.3f} s and {end:.3f} s are lost")
                    continue
                yield from sorted(within, key=lambda inner: getattr(inner, "log_time", -1))


def _kind(error: Exception) -> str:
    return str(error) or type(error).__name__
