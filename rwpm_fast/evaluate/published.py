"""Tables of the RWPM paper and supplement (Zeng & Tomite, ECCV 2024) as data: the walk of each row, its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..baselines import KnnWalk
from ..networks import Network
from ..ops.maps import Walk
from ..presets import BENCHMARKS, METHODS, Preset, preset
from ..scoring.scorer import MapWalk, Scorer


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: what the row is called.
        settings: of its walk, ``calibrated`` among them; ``neighbors`` makes it a k-NN walk. None for no walk.
        published: figures by column: AuROC, AP and FPR95 in percent, FPS in frames a second of network and walk.
    """

    label: str
    settings: Mapping[str, Any] | None
    published: Mapping[str, float] = field(default_factory=dict)

    def walk(self) -> MapWalk | None:
        """The walk itself.

        Raises:
            TypeError, ValueError: a setting that is unknown, of another kind, or outside its range.
        """
        if self.settings is None:
            return None
        settings = {name: value for name, value in self.settings.items() if name != "calibrated"}
        return KnnWalk(**settings) if "neighbors" in settings else Walk(**settings)

    def scorer(self, network: Network, **settings: Any) -> Scorer:
        """Scorer of a network with the row's walk; settings are the scorer's other ones, errors as of ``walk``."""
        if self.settings is None:
            return Scorer(network, walk=None)
        return Scorer(network, walk=self.walk(), calibrated=self.settings.get("calibrated", False), **settings)


@dataclass(frozen=True)
class Table:
    """A published table whose rows differ in their walk only.

    Attributes:
        title: number, and what is compared.
        heading: of the column of labels.
        columns: published columns.
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

    def with_settings(self, **settings: Any) -> list[Row]:
        """Rows with all settings of their walks.

        Args:
            settings: in the place of the table's; a k-NN walk has no ``tolerance`` and goes without.

        Raises:
            ValueError: a setting that sets the rows apart.
        """
        apart = {name for row in self.rows for name in row.settings or ()}
        if clash := sorted(apart & settings.keys()):
            raise ValueError(f"{clash[0]}: sets the rows of table {self.title.split(':')[0]} apart; leave it out")
        return [row if row.settings is None else self._complete(row, settings) for row in self.rows]

    def _complete(self, row: Row, settings: Mapping[str, Any]) -> Row:
        walk = {**self.settings, **settings, **row.settings}
        if "neighbors" in walk:
            walk.pop("tolerance", None)
        return replace(row, settings=walk)


def method_rows(method: str, benchmark: str, published: str = "paper", **settings: Any) -> list[Row]:
    """Rows of Table S.1: a method without and with the walk, by the settings of Table S.2.

    Args:
        method: one of ``presets.METHODS``.
        benchmark: one of ``presets.BENCHMARKS``.
        published: "paper", or "released" for the released code's T + 1 transitions.
        settings: in the place of the published ones.

    Raises:
        ValueError: unknown method, benchmark or ``published``.
    """
    walk = {**vars(published_preset(method, benchmark, published)), **settings}
    without, walked = S1[method][benchmark]
    return [Row("without", None, _figures(without)), Row("with", walk, _figures(walked))]


def settings_rows(benchmark: str, published: str = "paper", **settings: Any) -> list[Row]:
    """The walks of Table S.2 on a benchmark, for any network; methods with equal settings share a row.

    Arguments and errors as of :func:`method_rows`.
    """
    names: dict[Preset, list[str]] = {}
    for method, facts in METHODS.items():
        names.setdefault(published_preset(method, benchmark, published), []).append(facts.title)
    return [Row("without", None), *(_settings_row(", ".join(titles), walk, settings) for walk, titles in names.items())]


def _settings_row(titles: str, walk: Preset, settings: Mapping[str, Any]) -> Row:
    """A row that tells its walk."""
    row = Row(titles, {**vars(walk), **settings})
    told = "alpha {alpha:g}, T {steps}, n {parts}".format(**row.settings)
    return replace(row, label=f"{titles}: {told}{', calibrated' if row.settings['calibrated'] else ''}")


def published_preset(method: str, benchmark: str, published: str = "paper") -> Preset:
    """Settings of a method on a benchmark, as in the paper or as the released code runs them.

    Raises:
        ValueError: unknown method, benchmark or ``published``.
    """
    if published not in ("paper", "released"):
        raise ValueError(f"preset: expected paper or released, got {published!r}")
    settings = preset(method, benchmark)
    return settings.released() if published == "released" else settings


def get(name: str) -> Table:
    """Table by its name in :data:`TABLES`.

    Raises:
        ValueError: no such table.
    """
    if name not in TABLES:
        raise ValueError(f"table: expected one of {', '.join(TABLES)}, got {name!r}")
    return TABLES[name]


def _figures(figures: tuple[float, ...]) -> dict[str, float]:
    """Figures of Table S.1 by column; the tracks have no AuROC."""
    return dict(zip(("AuROC", "AP", "FPR95")[-len(figures) :], figures, strict=True))


# Table S.1 by method and benchmark: without and with the walk.
S1 = {
    method: dict(zip(BENCHMARKS, cells, strict=True))
    for method, cells in {
        "pebal": (
            ((98.96, 58.81, 4.77), (99.20, 66.85, 3.68)),
            ((87.63, 45.10, 44.58), (89.48, 50.29, 36.81)),
            ((49.13, 40.87), (51.49, 34.04)),
            ((4.96, 12.71), (14.47, 11.23)),
        ),
        "balanced_energy": (
            ((99.03, 67.07, 2.93), (99.29, 72.95, 2.38)),
            ((88.31, 41.48, 41.46), (90.51, 48.26, 32.10)),
            ((47.70, 52.00), (50.44, 51.13)),
            ((9.07, 18.78), (20.00, 16.65)),
        ),
        "mask2anomaly": (
            ((95.47, 65.27, 7.79), (95.48, 65.38, 7.33)),
            ((96.54, 80.04, 13.95), (97.44, 80.09, 7.45)),
            ((88.62, 14.57), (88.98, 15.88)),
            ((93.10, 0.20), (93.82, 0.18)),
        ),
        "rba": (
            ((98.62, 70.81, 6.30), (98.82, 71.16, 6.12)),
            ((97.99, 85.42, 6.92), (98.04, 87.34, 5.27)),
            ((90.86, 11.59), (92.00, 10.15)),
            ((91.85, 0.46), (93.30, 0.28)),
        ),
    }.items()
}

# Tables S.3, S.4 and n are of this benchmark and RbA. The captions give T and n, Table S.2 the alpha.
BENCHMARK = "road_anomaly"
_RBA = preset("rba", BENCHMARK)
_SETTINGS = {"alpha": _RBA.alpha, "steps": _RBA.steps, "parts": _RBA.parts}
_SOURCE = "RbA (Mask2Former) on RoadAnomaly"


def _row(label: str, settings: Mapping[str, Any] | None, *figures: float) -> Row:
    return Row(label, settings, dict(zip(("AP", "FPR95", "FPS"), figures, strict=False)))


TABLES = {
    "S3": Table(
        title="S.3: k-NN graph against softmax",
        heading="graph",
        columns=("AP", "FPR95", "FPS"),
        source=_SOURCE,
        settings=_SETTINGS,
        rows=(
            # How neighbors are weighted is not said. By the softmax of the last row every k would give that row, and
            # the published ones do not.
            _row("k-NN (k = 10)", {"neighbors": 10, "weights": "cosine"}, 86.38, 6.57, 0.93),
            _row("k-NN (k = 20)", {"neighbors": 20, "weights": "cosine"}, 86.65, 6.47, 0.93),
            _row("k-NN (k = 50)", {"neighbors": 50, "weights": "cosine"}, 86.71, 5.96, 0.93),
            _row("k-NN (k = 100)", {"neighbors": 100, "weights": "cosine"}, 86.24, 6.00, 0.93),
            _row("k-NN (k = 200)", {"neighbors": 200, "weights": "cosine"}, 84.61, 6.72, 0.93),
            _row("k-NN (k = 500)", {"neighbors": 500, "weights": "cosine"}, 81.00, 19.08, 0.93),
            _row("Softmax (tau = 0.01)", {"temperature": 0.01}, 87.34, 5.27, 2.04),
        ),
    ),
    "S4": Table(
        title="S.4: temperature tau",
        heading="walk",
        columns=("AP", "FPR95"),
        source=_SOURCE,
        settings=_SETTINGS,
        rows=(
            _row("without", None, 85.42, 6.92),
            _row("tau = 1.0", {"temperature": 1.0}, 21.60, 79.25),
            _row("tau = 0.1", {"temperature": 0.1}, 31.45, 68.65),
            _row("tau = 0.01", {"temperature": 0.01}, 87.34, 5.27),
            _row("tau = 0.001", {"temperature": 0.001}, 85.97, 6.70),
            _row("tau = 0.0001", {"temperature": 0.0001}, 85.57, 6.93),
        ),
    ),
    "n": Table(
        title="n: sub-maps n x n, without and with calibration (main paper)",
        heading="sub-maps",
        columns=("AP", "FPR95", "FPS"),
        source=_SOURCE,
        settings={"alpha": _RBA.alpha, "steps": _RBA.steps, "temperature": _RBA.temperature},
        rows=(
            _row("without", None, 85.42, 6.92, 11.12),
            _row("n = 1", {"parts": 1}, 87.90, 5.17, 0.32),
            _row("n = 2", {"parts": 2}, 87.34, 5.27, 2.04),
            _row("n = 2, calibrated", {"parts": 2, "calibrated": True}),
            _row("n = 4", {"parts": 4}),
            _row("n = 4, calibrated", {"parts": 4, "calibrated": True}, 87.17, 5.32, 4.35),
            _row("n = 8", {"parts": 8}),
            _row("n = 8, calibrated", {"parts": 8, "calibrated": True}, 86.91, 5.41, 6.26),
        ),
    ),
}
