"""Pages are valid and self-contained, and escape whatever is not markup."""

from __future__ import annotations

import base64
import re

import pytest

from python_tests.helpers import Page
from rwpm_fast.viz.html import Markup, image, page, table

NASTY = "<b>\"&'</b>{style}"


def test_a_page_has_its_title_and_sections_in_order():
    html = page(NASTY, ["<h1>first</h1>", "", "<p>second</p>"])
    parsed = Page(html)
    assert parsed.text.count(NASTY) == 1 and "b" not in parsed.tags
    assert "<h1>first</h1>\n<p>second</p>" in html  # the empty section leaves no line
    assert {"title", "style", "main"} <= set(parsed.tags)


def test_cells_of_a_table_are_escaped_unless_they_are_markup():
    html = page("", [table([NASTY, Markup("<i>x</i>")], [["1", NASTY], [Markup("<b>bold</b>"), "4"]])])
    parsed = Page(html)
    assert parsed.text.count(NASTY) == 2
    assert (parsed.tags.count("b"), parsed.tags.count("i")) == (1, 1)
    assert (parsed.tags.count("th"), parsed.tags.count("td"), parsed.tags.count("tr")) == (2, 4, 3)


def test_a_table_without_rows_has_its_head():
    assert Page(page("", [table(["a", "b"], [])])).tags.count("th") == 2


@pytest.mark.parametrize("format", ["png", "webp"])
def test_an_image_carries_its_bytes(format):
    data = bytes(range(256))
    (source,) = Page(page("", [image(data, "a map", format)])).sources
    head, encoded = source.split(",")
    assert head == f"data:image/{format};base64" and base64.b64decode(encoded, validate=True) == data


def test_the_description_of_an_image_is_escaped():
    html = image(b"", NASTY)
    Page(page("", [html]))
    (description,) = re.findall('alt="([^"]*)"', html)
    assert "&quot;" in description and "<b>" not in description
