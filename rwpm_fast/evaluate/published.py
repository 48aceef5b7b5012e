"""Tables of the RWPM paper and supplement (Zeng & Tomite, ECCV 2024) as data: walk and figures of each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..baselines import KnnWalk
from ..ops.maps import Walk
from ..presets import BENCHMARKS, METHODS, Preset, preset
from ..scoring.scorer import MapWalk, Scorer

GRAPHS = {"softmax": Walk, "knn": KnnWalk}


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: name of the row.
        settings: settings of its walk, the arguments of the class in :data:`GRAPHS`; ``calibrated``, whether scores are
            calibrated across the sub-maps (False if left out); and ``walk_values`` if they are the row's own. None for
            no walk.
        published: figures by column: AuROC, AP and FPR95 in percent, FPS in frames per second of network and walk.
        graph: graph of its walk, a key of :data:`GRAPHS`.
    """

    label: str
    settings: Mapping[str, Any] | None
    published: Mapping[str, float] = field(default_factory=dict)
    graph: str = "softmax"

    def walk(self) -> MapWalk | None:
        """Make the walk; None for a row without one.

        Raises:
            TypeError: a setting that is unknown or of another type.
            ValueError: a setting outside its range.
        """
        if self.settings is None:
            return None
        of_scorer = ("calibrated", "walk_values")
        return GRAPHS[self.graph](**{name: value for name, value in self.settings.items() if name not in of_scorer})

    def scorer(self, scorer: Scorer, **settings: Any) -> Scorer:
        """Return a scorer with the row's walk in place of its own.

        Args:
            scorer: the scorer.
            settings: ``walk_values``, where the row has none of its own, and ``walk_padding``; not used without a walk.

        Raises:
            TypeError: see :meth:`walk`.
            ValueError: see :meth:`walk`, or the scorer's.
        """
        if self.settings is None:
            return scorer.with_walk(None)
        own = {"walk_values": self.settings["walk_values"]} if "walk_values" in self.settings else {}
        calibrated = self.settings.get("calibrated", False)
        return scorer.with_walk(self.walk(), calibrated=calibrated, **{**settings, **own})


@dataclass(frozen=True)
class Table:
    """A published table whose rows differ in their walk only.

    Attributes:
        title: number, and what is compared.
        heading: heading of the column of labels.
        columns: published columns.
        source: network and data behind the published figures.
        settings: settings that the walks of all rows share.
        rows: in the published order.
    """

    title: str
    heading: str
    columns: tuple[str, ...]
    source: str
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]

    def with_settings(self, **settings: Any) -> list[Row]:
        """Return the rows with complete settings.

        Args:
            settings: replace those that the rows share. A k-NN walk has no ``tolerance``; there it is left out.

        Raises:
            ValueError: a setting in which the rows differ.
        """
        compared = {name for row in self.rows for name in row.settings or ()}
        if clash := sorted(compared & settings.keys()):
            raise ValueError(f"{clash[0]}: sets the rows of table {self.title.split(':')[0]} apart; leave it out")
        return [row if row.settings is None else self._complete(row, settings) for row in self.rows]

    def _complete(self, row: Row, settings: Mapping[str, Any]) -> Row:
        walk = {**self.settings, **settings, **(row.settings or {})}
        if row.graph == "knn":
            walk.pop("tolerance", None)
        return replace(row, settings=walk)


def method_rows(method: str, benchmark: str, published: str = "paper", **settings: Any) -> list[Row]:
    """Return the rows of Table S.1 for a method: without and with the walk, with the settings of Table S.2.

    Args:
        method: one of ``presets.METHODS``.
        benchmark: one of ``presets.BENCHMARKS``.
        published: "paper", or "released" for the released code's T + 1 transitions.
        settings: replace the published ones.

    Raises:
        ValueError: unknown method, benchmark or ``published``.
    """
    walk = {**vars(published_preset(method, benchmark, published)), **settings}
    without, walked = S1[method][benchmark]
    return [Row("without", None, _figures(without)), Row("with", walk, _figures(walked))]


def settings_rows(benchmark: str, published: str = "paper", **settings: Any) -> list[Row]:
    """Return the walks of Table S.2 on a benchmark, for any network; methods with equal settings share a row.

    Args:
        benchmark: one of ``presets.BENCHMARKS``.
        published: "paper", or "released" for the released code's T + 1 transitions.
        settings: replace the published ones.

    Raises:
        ValueError: unknown benchmark or ``published``.
    """
    names: dict[Preset, list[str]] = {}
    for method, facts in METHODS.items():
        names.setdefault(published_preset(method, benchmark, published), []).append(facts.title)
    return [Row("without", None), *(_settings_row(", ".join(titles), walk, settings) for walk, titles in names.items())]


def _settings_row(titles: str, walk: Preset, settings: Mapping[str, Any]) -> Row:
    """Make a row whose label names the settings of its walk."""
    settings = {**vars(walk), **settings}
    summary = "alpha {alpha:g}, T {steps}, n {parts}".format(**settings)
    return Row(f"{titles}: {summary}{', calibrated' if settings['calibrated'] else ''}", settings)


def published_preset(method: str, benchmark: str, published: str = "paper") -> Preset:
    """Return the settings of a method on a benchmark, as in the paper or as the released code runs them.

    Args:
        method: one of ``presets.METHODS``.
        benchmark: one of ``presets.BENCHMARKS``.
        published: "paper", or "released" for the released code's T + 1 transitions.

    Raises:
        ValueError: unknown method, benchmark or ``published``.
    """
    if published not in ("paper", "released"):
        raise ValueError(f"preset: expected paper or released, got {published!r}")
    settings = preset(method, benchmark)
    return settings.released() if published == "released" else settings


def get(name: str) -> Table:
    """Return a table by its name in :data:`TABLES`.

    Raises:
        ValueError: no such table.
    """
    if name not in TABLES:
        raise ValueError(f"table: expected one of {', '.join(TABLES)}, got {name!r}")
    return TABLES[name]


def _figures(figures: tuple[float, ...]) -> dict[str, float]:
    """Return figures of Table S.1 by column; the tracks have no AuROC."""
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

# AuROC of SynBoost's table 4 by data set: Image Resynthesis (Lis et al., ICCV 2019), and Image Resynthesis++.
TABLE_4 = {"lost_and_found": (82.0, 93.0), "lost_and_found_road": (93.0, 99.0), "road_anomaly": (83.0, 86.0)}
TITLES = {"entropy": "Softmax entropy", "synboost": "SynBoost", "resynthesis": "Image Resynthesis++"}
PREDECESSOR = "AuROC, Image Resynthesis"  # column of its published figures


def resynthesis_row(dataset: str) -> Row:
    """Return the row of table 4 for Image Resynthesis++ on a data set, without a walk.

    Args:
        dataset: its name; nothing is published for those that are not in :data:`TABLE_4`.
    """
    if dataset not in TABLE_4:
        return Row("without", None)
    before, plus = TABLE_4[dataset]
    return Row("without", None, {"AuROC": plus, PREDECESSOR: before})


# Tables S.3, S.4 and n are of this benchmark and of RbA. Their captions give T and n, Table S.2 gives alpha.
BENCHMARK = "road_anomaly"
_RBA = preset("rba", BENCHMARK)
_SETTINGS = {"alpha": _RBA.alpha, "steps": _RBA.steps, "parts": _RBA.parts}
_SOURCE = "RbA (Mask2Former) on RoadAnomaly"


def _row(label: str, settings: Mapping[str, Any] | None, *figures: float) -> Row:
    return Row(label, settings, dict(zip(("AP", "FPR95", "FPS"), figures, strict=False)))


def _knn_row(neighbors: int, *figures: float) -> Row:
    row = _row(f"k-NN (k = {neighbors})", {"neighbors": neighbors, "weights": "cosine"}, *figures)
    return replace(row, graph="knn")


TABLES = {
    "S3": Table(
        title="S.3: k-NN graph against softmax",
        heading="graph",
        columns=("AP", "FPR95", "FPS"),
        source=_SOURCE,
        settings=_SETTINGS,
        rows=(
            # The supplement does not say how neighbors are weighted. Weighted by the softmax of the last row, every k
            # would give the figures of that row, and the published figures differ.
            _knn_row(10, 86.38, 6.57, 0.93),
            _knn_row(20, 86.65, 6.47, 0.93),
            _knn_row(50, 86.71, 5.96, 0.93),
            _knn_row(100, 86.24, 6.00, 0.93),
            _knn_row(200, 84.61, 6.72, 0.93),
            _knn_row(500, 81.00, 19.08, 0.93),
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
