"""Items that are made while the last one is at work."""

import itertools
import threading

import pytest

from rwpm_fast.training.ahead import made_ahead


def test_all_items_in_their_order():
    assert list(made_ahead(iter(range(20)))) == list(range(20)) and list(made_ahead(iter([]))) == []


def test_the_next_item_is_made_meanwhile():
    begun = [threading.Event() for _ in range(3)]

    def items():
        for number, event in enumerate(begun):
            event.set()
            yield number

    ahead = made_ahead(items())
    assert next(ahead) == 0
    assert begun[1].wait(60) and not begun[2].is_set()
    assert list(ahead) == [1, 2]


def test_an_error_comes_in_its_place():
    ahead = made_ahead(1 / (2 - number) for number in itertools.count())
    assert [next(ahead), next(ahead)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_no_thread_is_left_where_the_caller_stops():
    ahead = made_ahead(itertools.count())
    assert next(ahead) == 0
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rwpm-ahead")]
