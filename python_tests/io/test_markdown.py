import pytest

from rwpm_fast.io.markdown import markdown_table


def test_rows_are_filled_up_and_bars_are_escaped():
    assert markdown_table(["walk", "s", "error"], [["a | b", 1.5], ("c", 2, "")]) == (
        "| walk | s | error |\n| --- | --- | --- |\n| a \\| b | 1.5 |  |\n| c | 2 |  |"
    )
    assert markdown_table(["walk"], []) == "| walk |\n| --- |"


def test_rows_are_no_longer_than_the_header():
    with pytest.raises(ValueError, match="rows: expected 1 cells at most, got 2"):
        markdown_table(["walk"], [["a", "b"]])
