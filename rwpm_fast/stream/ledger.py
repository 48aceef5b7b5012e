"""Account for each packet of a compressed stream: the frame that came of it, what may be wrong with it, or its loss.

A decoder says little of damage. It flags the frame whose data are damaged, or gives none for them; the frames that are
predicted from it, up to the next key frame, come out altered and unflagged. And a frame that is shown before a damaged
one may be predicted from it, so that frames are held back until the ones that they may build on have come out. In a
stream that is decoded in the order in which it is shown nothing is held back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from .frame import BrokenFrame, VideoFrame

T = TypeVar("T")

DAMAGED = "damaged"
AFTER_DAMAGE = "decoded after damage"

# How many frames that were sent later a decoder may give before one: codecs reorder at most 16.
_REORDERED = 16
# How many damages are remembered: more than frames can be out of order, see _suspect.
_REMEMBERED = 4 * _REORDERED
# Time stamps that fall back by more, in seconds, begin anew: recordings that were joined.
_RESTART = 5.0


@dataclass(eq=False)
class Packet:
    """A packet that was sent to the decoder.

    Attributes:
        order: its place in the order of decoding, from 0.
        at: when its frame is shown: how often time stamps began anew, and the time stamp in seconds.
        since: the first packet on which its frame may build.
        seconds: the time stamp, None if it has none.
        mark: what is wrong with it, or why it gave no frame.
    """

    order: int
    at: tuple[int, float]
    since: int
    seconds: float | None
    mark: str


class Ledger(Generic[T]):
    """Packets in the order of decoding against frames in the order in which they are shown.

    Args:
        photo: converts a frame of the decoder to [H, W, 3] uint8.

    Attributes:
        surplus: number of frames that were left out: without a packet, or long after it was taken for lost.

    Example::

        ledger = Ledger(convert)
        for packet in packets:
            entry = ledger.sent(packet.seconds, key=packet.is_key)
            for frame in decode(packet):
                yield from ledger.received(entry_of(frame), frame, flagged=frame.is_corrupt)
        yield from ledger.end()
    """

    def __init__(self, photo: Callable[[T], np.ndarray]) -> None:
        self.surplus = 0
        self._photo = photo
        self._waiting: dict[int, Packet] = {}
        self._held: list[tuple[tuple[int, float], int, Packet, T | None]] = []
        self._damages: list[int] = []
        self._sent = 0
        self._shown = 0
        self._newest = -1
        self._key = self._key_before = 0
        self._key_at = (0, float("-inf"))
        self._latest = (0, float("-inf"))

    def sent(self, seconds: float | None, *, key: bool, mark: str = "", silent: bool = False) -> Packet:
        """Enter a packet that goes to the decoder.

        Args:
            seconds: the time stamp of its frame, None if it has none.
            key: whether it is decoded without others, so that decoding begins afresh.
            mark: what is wrong with it; empty if nothing is known to be.
            silent: whether it gives no frame though nothing is wrong with it.

        Returns:
            The entry, to be handed back with its frame.
        """
        order = self._sent
        self._sent += 1
        era, latest = self._latest
        at = self._latest if seconds is None else (era + (seconds < latest - _RESTART), seconds)
        self._latest = max(self._latest, at)
        if key:
            self._key_before, self._key, self._key_at = self._key, order, at
        # What is decoded after a key frame and shown before it builds on the frames before the key frame too.
        since = self._key if at >= self._key_at else self._key_before
        packet = Packet(order, at, since, seconds, mark)
        if not silent:
            self._waiting[order] = packet
        if mark:
            self._damage(order)
        return packet

    def failed(self, packet: Packet, reason: str) -> Iterator[VideoFrame | BrokenFrame]:
        """Enter that the decoder could not decode a packet, and yield the frames of which all is known now.

        Args:
            packet: its entry.
            reason: what the decoder says.
        """
        if packet.order in self._waiting:
            self._lose(packet.order, reason)
        yield from self._known()

    def received(self, packet: Packet | None, frame: T, *, flagged: bool = False) -> Iterator[VideoFrame | BrokenFrame]:
        """Enter a frame that came out of the decoder, and yield those of which all is known.

        Args:
            packet: the entry of its packet; None if the decoder made it up, between others.
            frame: the frame.
            flagged: whether the decoder calls it damaged.
        """
        if packet is None or self._waiting.pop(packet.order, None) is None:
            self.surplus += 1
            return
        if flagged:
            packet.mark = packet.mark or DAMAGED
            self._damage(packet.order)
        heapq.heappush(self._held, (packet.at, packet.order, packet, frame))
        self._newest = max(self._newest, packet.order)
        self._give_up(self._newest - _REORDERED)
        yield from self._known()

    def end(self) -> Iterator[VideoFrame | BrokenFrame]:
        """Yield what is left, after the last frame of the decoder."""
        self._give_up(self._sent)
        while self._held:
            yield self._show()

    def _damage(self, order: int) -> None:
        self._damages = sorted({*self._damages, order})[-_REMEMBERED:]

    def _give_up(self, before: int) -> None:
        """Take packets for lost whose frames have not come although much later ones have."""
        for order in [order for order in self._waiting if order < before]:
            self._lose(order, "the decoder gives no frame for its data")

    def _lose(self, order: int, reason: str) -> None:
        packet = self._waiting.pop(order)
        packet.mark = reason
        self._damage(order)
        heapq.heappush(self._held, (packet.at, order, packet, None))

    def _known(self) -> Iterator[VideoFrame | BrokenFrame]:
        """Yield the frames that wait for none."""
        while self._held and not self._blocked():
            yield self._show()

    def _blocked(self) -> bool:
        """Whether the next frame has to wait for one that is shown before it, or that it may build on."""
        at, order, *_ = self._held[0]
        return any(packet.at < at or packet.order < order for packet in self._waiting.values())

    def _show(self) -> VideoFrame | BrokenFrame:
        _, _, packet, frame = heapq.heappop(self._held)
        index = self._shown
        self._shown += 1
        if frame is None:
            return BrokenFrame(index, packet.seconds, packet.mark)
        mark = packet.mark or (AFTER_DAMAGE if self._suspect(packet) else "")
        return VideoFrame(index, packet.seconds, self._photo(frame), (mark,) if mark else ())

    def _suspect(self, packet: Packet) -> bool:
        """Whether a frame may build on a damaged one.

        Of many damages only the last are remembered. As frames are out of order by less, one of these lies before the
        frame, and behind the damages that are forgotten.
        """
        return any(packet.since <= damage < packet.order for damage in self._damages)
