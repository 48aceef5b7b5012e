"""What the benchmark of frames found, as it is kept in JSON, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rwpm_fast.benchmark.record import Outcome, Provenance, from_fields, to_fields
from rwpm_fast.io.markdown import markdown_table
from rwpm_fast.ops.settings import WalkSettings

from .walks import CHECKED

KIND = "share"
NOTES = (
    "A network takes its time whatever its weights are, so they are drawn at random where no file is named; of "
    "Mask2Anomaly's refinement alone, which reads the maps of queries that are sure, random weights leave little.",
    "Random weights make no manifolds: behind them the walk runs on the embeddings of the file named, enlarged "
    "bilinearly to the network's map and cut or filled up with zeros to its channels, and on values that a random "
    "linear head makes of them.",
    f"Of a walk's first sub-map {CHECKED} channels are checked at most, since every channel walks by itself.",
)
COLUMNS = ("network", "photo", "map", "network, s", "walk", "path", "walk, s", "share", "frames/s", "error, against")


@dataclass(frozen=True, kw_only=True)
class WalkResult(Outcome):
    """A walk of a network's map; its error is that of the first sub-map.

    Attributes:
        walked: what walks: logits, embeddings or masks.
        value_channels: of it.
        settings: of the walk.
        sub_map: height and width of the first sub-map.
        sub_maps: how many there are, of all views.
        kept: pairs of the first sub-map.
        share: of the walk in the time of network and walk, of which ``frames_per_second`` are.
    """

    walked: str
    value_channels: int
    settings: WalkSettings
    sub_map: tuple[int, ...]
    sub_maps: int
    kept: int | None = None
    share: float | None = None

    def to_json(self) -> dict[str, Any]:
        content = super().to_json()
        return content | content.pop("settings")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WalkResult:
        # Older records know no anchor: theirs is the published walk.
        anchor = {"anchor": WalkSettings.anchor, "anchor_share": WalkSettings.anchor_share}
        settings = WalkSettings(**{f.name: {**anchor, **content}[f.name] for f in fields(WalkSettings)})
        return from_fields(cls, {**content, "settings": settings})


@dataclass(frozen=True)
class FrameResult:
    """A photo through a network: left out or failed with a reason, or the network's times and walks on its map.

    Attributes:
        network: its name.
        photo: width and height.
        weights: where they are from.
        skipped: why it was left out.
        failed: how it failed.
        map: shape of the embedding map [V, D, h, w].
        embeddings: whose they are.
        load: of the machine, by round.
        network_seconds: median of ``network_runs``.
        network_runs: seconds, by round.
        rows: the walks.
    """

    network: str
    photo: tuple[int, ...]
    weights: str | None = None
    skipped: str | None = None
    failed: str | None = None
    map: tuple[int, ...] = ()
    embeddings: str | None = None
    load: tuple[float, ...] = ()
    network_seconds: float | None = None
    network_runs: tuple[float, ...] = ()
    rows: tuple[WalkResult, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it did not fail, nor any of its walks."""
        return self.failed is None and all(row.sound for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return to_fields(self) | {"rows": [row.to_json() for row in self.rows]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FrameResult:
        return from_fields(cls, {**content, "rows": tuple(map(WalkResult.from_json, content["rows"]))})


@dataclass(frozen=True, kw_only=True)
class ShareRecord(Provenance):
    """Frames of one command.

    Attributes:
        frames: every network's photos; ``cases`` in JSON.
        notes: sentences under the table.
    """

    frames: tuple[FrameResult, ...]
    notes: tuple[str, ...] = NOTES
    kind: str = KIND

    @property
    def sound(self) -> bool:
        """Whether nothing failed and every walk was what it should be."""
        return all(frame.sound for frame in self.frames)

    def to_json(self) -> dict[str, Any]:
        cases = [frame.to_json() for frame in self.frames]
        return self.provenance() | {"kind": self.kind, "notes": list(self.notes), "cases": cases}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ShareRecord:
        """A record of any format.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        origin = {f.name: content[f.name] for f in fields(Provenance)}
        frames = tuple(map(FrameResult.from_json, content["cases"]))
        return cls(**origin, frames=frames, notes=tuple(content["notes"]))


def markdown(record: ShareRecord) -> str:
    """A record as Markdown: machine, command, table, notes."""
    rows = [_cells(frame, row) for frame in record.frames for row in frame.rows or [None]]
    lines = [
        f"{record.where}, {record.versions}, rounds: {record.rounds}",
        "",
        f"    {record.command}",
        "",
        markdown_table(COLUMNS, rows),
        "",
        *(f"- {text}" for text in record.notes),
    ]
    return "\n".join(lines) + "\n"


def _cells(frame: FrameResult, row: WalkResult | None) -> list[str]:
    cells = [frame.network, "x".join(map(str, frame.photo))]
    if row is None:
        return [*cells, "", _left_out(frame)]
    cells += ["x".join(map(str, frame.map[-2:])), f"{frame.network_seconds:.3g}"]
    cells.append(f"{row.value_channels} {row.walked}, n = {row.settings.parts}")
    if row.skipped is not None or row.failed is not None:
        cells += ["", _left_out(row)]
    elif not row.matched:
        cells += [row.path or "", "refused: not what the exact walk gives, or not twice the same"]
    else:
        cells += [row.path or "", f"{row.seconds:.3g}", f"{row.share:.1%}", f"{row.frames_per_second:.3g}"]
    cells += [""] * (len(COLUMNS) - 1 - len(cells))
    return [*cells, "" if row.error is None else f"{row.error:.1e}, {row.against}"]


def _left_out(what: FrameResult | WalkResult) -> str:
    return f"failed: {what.failed}" if what.skipped is None else f"not run: {what.skipped}"
