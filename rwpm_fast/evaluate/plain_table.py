"""A table of figures beside published ones, as JSON, CSV and Markdown, for results that are not those of walks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..io.markdown import markdown_table

Cell = str | float | None  # None: there is no such figure


@dataclass(frozen=True)
class PlainTable:
    """A table of figures.

    Attributes:
        title: what was measured.
        header: names of the columns; the first one names the rows.
        rows: their cells: text, numbers in the units that the header tells, or None.
        digits: of a number after the point, in Markdown.
        source: what the published figures are of; empty without any.
        notes: sentences for below the table.
        command: command line that repeats the work; empty if there is none.
        settings: how it was measured, JSON-ready.
        failures: photos that could not be used, with the reason.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: int = 2
    source: str = ""
    notes: Sequence[str] = ()
    command: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form: a mapping of column to cell for every row."""
        return {
            "title": self.title,
            "command": self.command,
            "settings": dict(self.settings),
            "source": self.source,
            "notes": list(self.notes),
            "lines": [dict(zip(self.header, row, strict=True)) for row in self.rows],
            "failures": dict(self.failures),
        }

    def markdown(self) -> str:
        """Return the table as Markdown, with its title and footnotes."""
        cells = [[self._text(cell) for cell in row] for row in self.rows]
        source = [f"Published: {self.source}, for orientation."] if self.source else []
        return "\n\n".join([self.title, markdown_table(self.header, cells), *source, *self.notes]) + "\n"

    def csv(self) -> str:
        """Return the table as CSV, unrounded; a cell without a figure is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue()

    def _text(self, cell: Cell) -> str:
        if isinstance(cell, str):
            return cell
        return "-" if cell is None or cell != cell else f"{cell:.{self.digits}f}"
