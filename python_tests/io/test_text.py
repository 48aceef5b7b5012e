"""Names in messages: lists of them shortened, and signs that a terminal would act on escaped."""

import pytest

from rwpm_fast.io.text import first_few, listed, printable


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, ""), (1, "0"), (2, "0, 1"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more")],
)
def test_names_are_listed(count, text):
    assert listed(range(count)) == text


def test_the_first_few():
    assert first_few("abc", limit=2) == (["a", "b"], "and 1 more")
    assert first_few(iter("ab"), limit=2) == (["a", "b"], "")
    assert listed("abc", limit=1) == "a and 2 more"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b.png", "a b.png"),
        ("ü日.png", "ü日.png"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b\r\x7f", "\\x9b\\r\\x7f"),
    ],
)
def test_control_characters_are_escaped(name, text):
    assert printable(name) == text
