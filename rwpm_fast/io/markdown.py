"""Tables in Markdown. Needs neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, a line each, without a newline at its end.

    Args:
        header: names of the columns.
        rows: their cells, which become text; what a row lacks at its end is empty.

    Raises:
        ValueError: a row has more cells than the header.
    """
    lines = [_line(header), _line(["---"] * len(header))]
    for row in rows:
        if len(row) > len(header):
            raise ValueError(f"rows: expected {len(header)} cells at most, got {len(row)}: {row}")
        lines.append(_line([*row, *[""] * (len(header) - len(row))]))
    return "\n".join(lines)


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
