"""Each packet becomes one frame, marked where it may be wrong, or one broken frame."""

import itertools

import numpy as np
import pytest

from rwpm_fast.stream.frame import BrokenFrame, VideoFrame
from rwpm_fast.stream.ledger import AFTER_DAMAGE, DAMAGED, Ledger

PHOTO = np.zeros((1, 1, 3), np.uint8)


def run(packets, *, lost=(), flagged=(), silent=(), marks=()):
    """Play a decoder that gives frames in the order of time, each as early as it can.

    Args:
        packets: time and whether a key frame, in the order of decoding.
        lost: places of packets that give no frame.
        flagged: places of packets whose frame the decoder calls damaged.
        silent: places of packets that are announced to give none.
        marks: places of packets that are marked when they are sent.
    """
    ledger = Ledger(lambda frame: PHOTO)
    given, entries = [], {}
    coming = sorted(set(range(len(packets))) - set(lost) - set(silent), key=lambda order: packets[order][0])
    for order, (seconds, key) in enumerate(packets):
        entries[order] = ledger.sent(seconds, key=key, silent=order in silent, mark="cut" if order in marks else "")
        while coming and coming[0] in entries:
            first = coming.pop(0)
            given.extend(ledger.received(entries[first], "frame", flagged=first in flagged))
    given.extend(ledger.end())
    return given


def kinds(given):
    words = {(): ".", (DAMAGED,): "D", (AFTER_DAMAGE,): "a", ("cut",): "c"}
    return "".join("L" if isinstance(frame, BrokenFrame) else words[frame.marks] for frame in given)


# I0 P1 P2 | I3 P4 P5
PLAIN = [(0, True), (1, False), (2, False), (3, True), (4, False), (5, False)]
# Shown as I0 B1 B2 P3 B4 B5 P6, decoded as I0 P3 B1 B2 P6 B4 B5.
REORDERED = [(0, True), (3, False), (1, False), (2, False), (6, False), (4, False), (5, False)]
# Open groups: the key frame K6 is shown after B4 and B5, which build on P3 too.
OPEN = [(0, True), (3, False), (1, False), (2, False), (6, True), (4, False), (5, False), (9, False), (7, False)]


@pytest.mark.parametrize(
    ("packets", "faults", "expected"),
    [
        (PLAIN, {}, "......"),
        (PLAIN, {"flagged": [1]}, ".Da..."),
        (PLAIN, {"lost": [1]}, ".La..."),
        (PLAIN, {"lost": [0]}, "Laa..."),
        (PLAIN, {"lost": [3]}, "...Laa"),
        (PLAIN, {"marks": [5]}, ".....c"),
        (REORDERED, {}, "......."),
        (REORDERED, {"flagged": [1]}, ".aaDaaa"),  # B1 and B2 are shown before the damaged P3, and build on it
        (REORDERED, {"lost": [1]}, ".aaLaaa"),
        (REORDERED, {"flagged": [4]}, "....aaD"),
        (OPEN, {"flagged": [1]}, ".aaDaa..."),
        (OPEN, {"lost": [4]}, "....aaLaa"),
    ],
)
def test_marks_from_damage_to_the_next_key_frame(packets, faults, expected):
    given = run(packets, **faults)
    assert kinds(given) == expected
    assert [frame.index for frame in given] == list(range(len(given))) and len(given) == len(packets)
    assert [frame.seconds for frame in given] == sorted(seconds for seconds, _ in packets)


def test_packets_that_give_no_frame_by_design_are_not_lost():
    given = run(PLAIN, silent=[1])
    assert kinds(given) == "....."


def test_nothing_is_held_back_without_reordering():
    ledger = Ledger(lambda frame: PHOTO)
    for order in range(40):
        entry = ledger.sent(order / 25, key=order == 0)
        assert [frame.index for frame in ledger.received(entry, "frame")] == [order]


def test_a_lost_packet_holds_others_back_for_sixteen_frames_only():
    ledger = Ledger(lambda frame: PHOTO)
    ledger.sent(0.0, key=True)
    given = []
    for order in range(1, 18):
        assert not given
        given = list(ledger.received(ledger.sent(order / 25, key=False), "frame"))
    assert kinds(given) == "L" + 17 * "a"


def test_long_streams_take_constant_memory():
    ledger = Ledger(lambda frame: PHOTO)
    for order in range(5000):
        entry = ledger.sent(order / 25, key=order % 50 == 0)
        if order % 7:
            assert all(ledger.received(entry, "frame", flagged=order % 5 == 0))
    sizes = [len(value) for value in vars(ledger).values() if isinstance(value, (dict, list))]
    assert sizes and max(sizes) <= 100
    assert list(ledger.end())[-1].index == 4999


def test_many_damages_in_one_group_are_not_forgotten():
    packets = [(order, order == 0) for order in range(300)]
    given = run(packets, flagged=range(1, 200))
    assert kinds(given) == "." + 199 * "D" + 100 * "a"


def test_joined_recordings_whose_time_begins_anew():
    packets = [(100 + order, order == 0) for order in range(4)] + [(order, order == 0) for order in range(4)]
    ledger = Ledger(lambda frame: PHOTO)
    given = list(
        itertools.chain.from_iterable(ledger.received(ledger.sent(at, key=key), "frame") for at, key in packets)
    )
    assert [frame.seconds for frame in given] == [at for at, _ in packets]


def test_frames_without_time_stamps_come_in_the_decoders_order():
    ledger = Ledger(lambda frame: PHOTO)
    entries = [ledger.sent(None, key=order == 0) for order in range(5)]
    given = [frame for entry in entries for frame in ledger.received(entry, "frame")]
    assert kinds(given) == "....." and all(frame.seconds is None for frame in given)


def test_a_frame_that_comes_after_all_is_counted():
    ledger = Ledger(lambda frame: PHOTO)
    late = ledger.sent(0.0, key=True)
    for order in range(1, 20):
        list(ledger.received(ledger.sent(float(order), key=False), "frame"))
    assert not list(ledger.received(late, "frame")) and ledger.surplus == 1


def test_reason_of_a_loss():
    ledger = Ledger(lambda frame: PHOTO)
    assert list(ledger.failed(ledger.sent(0.5, key=True), "Invalid data")) == [BrokenFrame(0, 0.5, "Invalid data")]
    assert kinds(ledger.received(ledger.sent(0.6, key=False), "frame")) == "a"  # at once
    ledger.sent(0.7, key=False)
    assert list(ledger.end()) == [BrokenFrame(2, 0.7, "the decoder gives no frame for its data")]
    assert VideoFrame(0, None, PHOTO).marks == ()
