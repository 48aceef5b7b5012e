"""Tables of the RWPM supplement (Zeng & Tomite, ECCV 2024) as data: what each row walks, and the published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..baselines import KnnWalk
from ..maps import Walk
from ..presets import preset
from ..scorer import MapWalk


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: what the row is called.
        settings: of its walk, beside the table's; ``neighbours`` makes it a k-NN walk. None for no walk.
        published: figures in the table's columns.
    """

    label: str
    settings: Mapping[str, Any] | None
    published: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        title: number in the supplement, and what is compared.
        heading: of the column of labels.
        columns: published columns: AP and FPR95 in percent, FPS in frames a second of network and walk together.
        source: network and data behind the published figures.
        settings: of every row's walk.
        rows: in the published order.
    """

    title: str
    heading: str
    columns: tuple[str, ...]
    source: str
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]

    def row_settings(self, **settings: Any) -> list[dict[str, Any] | None]:
        """Settings of each row's walk, for :func:`walk_of`; None where a row has none.

        Args:
            settings: in the place of the table's; a k-NN walk has no ``tolerance`` and goes without.

        Raises:
            ValueError: a setting that sets the rows apart.
        """
        apart = {name for row in self.rows for name in row.settings or ()}
        if clash := sorted(apart & settings.keys()):
            raise ValueError(f"{clash[0]}: sets the rows of table {self.title.split(':')[0]} apart; leave it out")
        complete = []
        for row in self.rows:
            walk = None if row.settings is None else {**self.settings, **settings, **row.settings}
            if walk and "neighbours" in walk:
                walk.pop("tolerance", None)
            complete.append(walk)
        return complete


def walk_of(settings: Mapping[str, Any] | None) -> MapWalk | None:
    """A row's walk: k-NN where ``neighbours`` is set, softmax where not, None for no settings.

    Raises:
        TypeError, ValueError: a setting that is unknown, of another kind, or outside its range.
    """
    if settings is None:
        return None
    return KnnWalk(**settings) if "neighbours" in settings else Walk(**settings)


def get(name: str) -> Table:
    """Table by its name in :data:`TABLES`.

    Raises:
        ValueError: no such table.
    """
    if name not in TABLES:
        raise ValueError(f"table: expected one of {', '.join(TABLES)}, got {name!r}")
    return TABLES[name]


# The captions give T and n, Table S.2 the alpha of this network on this benchmark.
_RBA = preset("rba", "road_anomaly")
_SETTINGS = {"alpha": _RBA.alpha, "steps": _RBA.steps, "parts": _RBA.parts}
_SOURCE = "RbA (Mask2Former) on RoadAnomaly"

TABLES = {
    "S3": Table(
        title="S.3: k-NN graph against softmax",
        heading="graph",
        columns=("AP", "FPR95", "FPS"),
        source=_SOURCE,
        settings=_SETTINGS,
        rows=(
            # How neighbours are weighted is not said. By the softmax of the last row every k would give that row, and
            # the published ones do not.
            Row("k-NN (k = 10)", {"neighbours": 10, "weights": "cosine"}, (86.38, 6.57, 0.93)),
            Row("k-NN (k = 20)", {"neighbours": 20, "weights": "cosine"}, (86.65, 6.47, 0.93)),
            Row("k-NN (k = 50)", {"neighbours": 50, "weights": "cosine"}, (86.71, 5.96, 0.93)),
            Row("k-NN (k = 100)", {"neighbours": 100, "weights": "cosine"}, (86.24, 6.00, 0.93)),
            Row("k-NN (k = 200)", {"neighbours": 200, "weights": "cosine"}, (84.61, 6.72, 0.93)),
            Row("k-NN (k = 500)", {"neighbours": 500, "weights": "cosine"}, (81.00, 19.08, 0.93)),
            Row("Softmax (tau = 0.01)", {"temperature": 0.01}, (87.34, 5.27, 2.04)),
        ),
    ),
    "S4": Table(
        title="S.4: temperature tau",
        heading="walk",
        columns=("AP", "FPR95"),
        source=_SOURCE,
        settings=_SETTINGS,
        rows=(
            Row("without", None, (85.42, 6.92)),
            Row("tau = 1.0", {"temperature": 1.0}, (21.60, 79.25)),
            Row("tau = 0.1", {"temperature": 0.1}, (31.45, 68.65)),
            Row("tau = 0.01", {"temperature": 0.01}, (87.34, 5.27)),
            Row("tau = 0.001", {"temperature": 0.001}, (85.97, 6.70)),
            Row("tau = 0.0001", {"temperature": 0.0001}, (85.57, 6.93)),
        ),
    ),
}
