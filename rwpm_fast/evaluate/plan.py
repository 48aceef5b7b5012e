"""Plan of an evaluation: a config as networks, data sets and the rows of walks to compare on each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..baselines import KnnWalk
from ..data import Dataset, Frame
from ..data.checking import remarks, require_public_labels, survey_labels
from ..io.score_maps import RESIZINGS
from ..metrics import TRACKS, PixelMetrics
from ..networks import NETWORKS, CompactNet, Network
from ..networks.settings import NetworkSettings
from ..ops.maps import Walk
from ..ops.settings import DEFAULTS, WalkSettings, command_settings, is_anchored
from ..presets import METHODS
from ..scores import SCORES, check_name
from ..scoring.scorer import MapWalk, Scorer
from ..synboost import methods
from . import published
from .config import ConfigError, EvaluationConfig, Maps, StrPath
from .datasets import open_benchmarks, open_datasets, open_table_datasets, preset_benchmark
from .given_maps import MapRules, MapSource, open_maps
from .published import Row, Table, method_rows, settings_rows
from .results import COMPONENTS, TOOLKIT

_OF_MAPS = ("lower_is_anomalous", "resize_scores", "png_range", "extra_scores")
SCORE_WALKED = "score walked"  # label of the row of a method of SynBoost whose score walks


@dataclass(frozen=True)
class Experiment:
    """One network on one data set, under several walks.

    Attributes:
        title: title of the data set, preceded by that of the method if there are several methods.
        dataset: the data set.
        frames: the frames to use.
        network: the network, or its name.
        weights: file with the weights of a named network; None for those in the package.
        rows: the walks to compare.
        track: track of the component metrics; None without component metrics.
        method: one of ``rwpm_fast.synboost.METHODS`` whose chain around the network scores; None for the network alone.
        files: of that chain's parts, by argument of :func:`rwpm_fast.synboost.load`; empty for the package's own.
        scores: the scores to compute; None for those of the config, or the usual ones.
        maps: methods whose score maps are there already, in place of a network.
    """

    title: str
    dataset: Dataset
    frames: Sequence[Frame]
    network: str | Network | None
    weights: Path | None
    rows: Sequence[Row]
    track: str | None = None
    method: str | None = None
    files: Mapping[str, StrPath] = field(default_factory=dict)
    scores: Sequence[str] | None = None
    maps: Mapping[str, MapSource] = field(default_factory=dict)

    @property
    def network_name(self) -> str:
        """Name of the network, or of the methods whose maps are there."""
        if self.network is None:
            return ", ".join(self.maps)
        return self.network if isinstance(self.network, str) else self.network.name


@dataclass(frozen=True)
class Plan:
    """All experiments of a config, and how their table is headed.

    Attributes:
        config: the config.
        title: what is evaluated.
        experiments: in the order to run.
        heading: heading of the column of labels.
        columns: metrics to show.
        source: network and data behind the published figures; empty if there are none.
        notes: sentences for below the table.
        remarks: those of the notes that are worth to be told before the work too.
        reference: label of the rows that others are compared with; None for those without a walk.
    """

    config: EvaluationConfig
    title: str
    experiments: Sequence[Experiment]
    heading: str = "walk"
    columns: Sequence[str] = ("AuROC", "AP", "FPR95")
    source: str = ""
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    reference: str | None = None

    def inputs(self) -> Iterator[Path]:
        """Yield the files that the evaluation reads: photos, labels and weights, of which some may be folders."""
        for experiment in self.experiments:
            for frame in experiment.frames:
                yield from frame.files()
            if experiment.weights is not None:
                yield experiment.weights
            yield from map(Path, experiment.files.values())
            for source in experiment.maps.values():
                yield from source.files()


def make_plan(config: EvaluationConfig) -> Plan:
    """Make the plan of a config, checked as far as possible without loading a network or reading an image.

    Args:
        config: the config.

    Raises:
        ConfigError: fields that do not go together, or a value outside its range.
        ImageError: a data set that is not found, or lacks files or labels.
        FileNotFoundError: a weight file that does not exist.
        TypeError: a setting of the walk of another type.
        ValueError: an unknown name, or a setting of the walk outside its range.
    """
    _check(config)
    for score in config.scores or ():
        check_name(score, _score_names(config))
    PixelMetrics(config.fpr_rule)
    if config.scores_from is not None:
        plan = _given_maps(config, config.scores_from)
    elif config.table is None:
        plan = _one_walk(config)
    elif config.table in _METHOD_TABLES:
        plan = _METHOD_TABLES[config.table](config)
    else:
        plan = _one_table(config, published.get(config.table))
    for experiment in plan.experiments:
        if not isinstance(config.network, Scorer):
            for row in experiment.rows:
                row.walk()
        if isinstance(experiment.network, str):
            NetworkSettings(**config.network_settings).check(experiment.network)
        if experiment.weights is not None and not experiment.weights.exists():
            raise FileNotFoundError(f"weights: no such file or folder: {experiment.weights}")
    if len({experiment.title for experiment in plan.experiments}) < len(plan.experiments):
        raise ConfigError("{datasets}: expected each data set once, since one table cannot tell two of a name apart")
    return replace(plan, notes=[*plan.notes, *map(_summary, plan.experiments)])


def inspect_data(plan: Plan) -> Plan:
    """Read the headers of all photos, and the label files that may not mean what they should, before any work.

    Args:
        plan: made by :func:`make_plan`.

    Returns:
        The plan, with notes and remarks on what is there: label values and their shares, files that are not used.

    Raises:
        ImageError: labels without an anomaly, or labels of a benchmark that are blank, as hidden ones are.
    """
    notes: list[str] = []
    told: list[str] = []
    for experiment in {id(experiment.dataset): experiment for experiment in plan.experiments}.values():
        found = remarks(experiment.dataset, experiment.frames)
        benchmark = experiment.dataset.benchmark
        if benchmark is not None and benchmark.blank_is_hidden:
            require_public_labels(experiment.dataset, survey_labels(experiment.frames))
        if benchmark is None and not experiment.maps:  # their labels would be most of what is read
            survey = survey_labels(experiment.frames)
            survey.require_anomalies()
            found += survey.remarks()
            notes.append(f"{experiment.dataset.title}: labels have {survey.shares() or 'nothing that can be read'}.")
        told += [f"{experiment.dataset.title}: {remark}." for remark in found]
    return replace(plan, notes=[*plan.notes, *notes, *told], remarks=told)


def _check(config: EvaluationConfig) -> None:
    """Check the fields that need no data set."""
    if config.scores_from is None and (given := _given(config, _OF_MAPS)):
        raise ConfigError(f"{{{given[0]}}}: only for {{scores_from}}")
    if config.table is not None and config.table not in TABLES:
        facts = {"tables": ", ".join(TABLES), "got": config.table}
        raise ConfigError("{table}: expected one of {tables}, got {got!r}", facts)
    for name in ("limit", "threads", "processes"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{{{name}}}: expected 1 or more, got {value}")
    if config.method is not None and config.method not in (*METHODS, *methods.METHODS):
        facts = {"methods": ", ".join([*METHODS, *methods.METHODS]), "got": config.method}
        raise ConfigError("{method}: expected one of {methods}, got {got!r}", facts)
    if config.walk_values not in Scorer.WALK_VALUES:
        facts = {"values": ", ".join(Scorer.WALK_VALUES), "got": config.walk_values}
        rows = "rows without a walk, and of synboost and resynthesis with the score walked, are there anyway"
        raise ConfigError(f"{{walk_values}}: expected one of {{values}}, got {{got!r}}; {rows}", facts)
    _check_chain(config)
    settings = [field.name for field in fields(WalkSettings)]
    if unknown := [name for name in config.walk if name not in settings]:
        facts = {"settings": ", ".join(settings), "got": unknown[0]}
        raise ConfigError("{walk}: expected settings of {settings}, got {got!r}", facts)
    if not (config.network is None or isinstance(config.network, str)):
        _check_ready_network(config)
    if config.table is not None and config.components:
        raise ConfigError("{table}: has columns of its own; leave {components} out")
    if config.table in published.TABLES and config.preset is not None:
        raise ConfigError("{preset}: table {name} has settings of its own; leave it out", {"name": config.table})
    if config.table not in _METHOD_TABLES and config.checkpoints is not None:
        raise ConfigError("{checkpoints}: only for {table} S1 and 4; give a network's file by {weights}")


def _check_chain(config: EvaluationConfig) -> None:
    """Check the fields of SynBoost's methods."""
    if config.table == "4":
        return  # its methods and their files are checked with its plan
    files = config.chain_files()
    if config.method not in methods.METHODS:
        if files:
            facts = {"methods": " or ".join(methods.METHODS)}
            raise ConfigError(f"{{{next(iter(files))}}}: only for the {{method}} {{methods}}", facts)
        return
    for name in ("preset", "table"):
        if getattr(config, name) is not None:
            raise ConfigError(f"{{{name}}}: nothing is published for {{got}}; leave it out", {"got": config.method})
    with _naming_fields():
        methods.check_files(config.method, files)


@contextmanager
def _naming_fields() -> Iterator[None]:
    """Name the field of a file that an error of :mod:`rwpm_fast.synboost.methods` is about."""
    try:
        yield
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        raise ConfigError(f"{{{name}}}: {{reason}}", {"reason": reason}) from error


def _score_names(config: EvaluationConfig) -> Sequence[str]:
    """Return the names of the scores that the scorers of a config have."""
    if isinstance(config.network, Scorer):
        return config.network.score_names
    return methods.score_names(config.method) if config.method in methods.METHODS else tuple(SCORES)


def _check_ready_network(config: EvaluationConfig) -> None:
    """Check that a network that is given, or a scorer, is not to be changed."""
    excluded = ["weights", "weights_key", "network_settings", "checkpoints", "device"]
    if isinstance(config.network, Scorer):
        excluded += ["method", "table", "preset", "walk", "calibrate", "walk_values", "walk_padding", *methods.FILES]
    if given := _given(config, excluded):
        kind = type(config.network).__name__
        raise ConfigError(f"{{{given[0]}}}: the {kind} of {{network}} has its own; leave it out")


def _given(config: EvaluationConfig, names: Sequence[str]) -> list[str]:
    """Return the fields of some names that do not have their default."""
    defaults: dict[str, Any] = {
        option.name: {} if option.name in ("walk", "network_settings") else option.default for option in fields(config)
    }
    return [name for name in names if getattr(config, name) != defaults[name]]


def _one_walk(config: EvaluationConfig) -> Plan:
    """Plan the scores without and with one walk."""
    datasets = open_datasets(config)
    network, weights = _network(config), _weights(config)
    experiments = [_experiment(config, d.title, d, network, weights, _rows(config, d)) for d in datasets]
    columns, notes = _of_components(config, experiments)
    title = " and ".join(experiment.title for experiment in experiments)
    plan = Plan(config, title, experiments, columns=[*Plan.columns, *columns], notes=notes)
    if config.preset is None or config.method is None:
        return plan
    source = f"Table S.1, {METHODS[config.method].title}"
    return replace(plan, source=source, notes=[*notes, *_borrowed_presets(datasets)])


def map_rules(config: EvaluationConfig) -> MapRules:
    """Return how the score maps of a config are read."""
    lower = config.lower_is_anomalous
    methods_lower = (config.scores_from or {}) if lower is True else lower or ()
    return MapRules(frozenset(methods_lower), config.resize_scores, config.png_range, config.extra_scores)


def _given_maps(config: EvaluationConfig, maps: Mapping[str, Maps]) -> Plan:
    """Plan the metrics of score maps that are there already, a row a method."""
    networks_only = ["network", "weights", "weights_key", "network_settings", "method", "checkpoints", "table"]
    networks_only += ["preset", "walk", "calibrate", "walk_values", "walk_padding", "scores", "cache", *methods.FILES]
    if given := _given(config, networks_only):
        raise ConfigError(f"{{scores_from}}: no network runs; leave {{{given[0]}}} out")
    if config.device not in (None, "cpu"):
        raise ConfigError("{scores_from}: no network runs; leave {device} out")
    if not maps:
        raise ConfigError("{scores_from}: expected the score maps of a method or more, got none")
    if config.resize_scores not in (None, *RESIZINGS):
        facts = {"rules": " or ".join(RESIZINGS), "got": config.resize_scores}
        raise ConfigError("{resize_scores}: expected {rules}, got {got!r}", facts)
    if config.png_range is not None and not (
        len(config.png_range) == 2 and config.png_range[0] < config.png_range[1] and np.isfinite(config.png_range).all()
    ):
        text = "{png_range}: expected two finite scores, the lower one first, got {got}"
        raise ConfigError(text, {"got": list(config.png_range)})
    rules = map_rules(config)
    if unknown := sorted(rules.lower_is_anomalous - maps.keys()):
        facts = {"methods": ", ".join(maps), "got": unknown[0]}
        raise ConfigError("{lower_is_anomalous}: expected methods of {methods}, got {got!r}", facts)
    datasets = open_datasets(config)
    if len(datasets) > 1:
        raise ConfigError("{scores_from}: expected one data set, got {count}", {"count": len(datasets)})
    dataset = datasets[0]
    sources = open_maps(maps, dataset.frames[: config.limit], dataset.frames, rules)
    if config.processes > 1 and not all(source.again for source in sources.values()):
        raise ConfigError("{processes}: expected 1 for maps that come one by one, got {got}", {"got": config.processes})
    rows = [Row(method, None) for method in maps]
    experiment = replace(_experiment(config, dataset.title, dataset, None, None, rows), maps=sources)
    columns, notes = _of_components(config, [experiment])
    return Plan(
        config,
        dataset.title,
        [experiment],
        heading="method",
        columns=[*Plan.columns, *columns],
        notes=notes,
        reference=next(iter(maps)),
    )


_TOOLKIT_NOTE = (
    f"{', '.join(TOOLKIT)}: as SegmentMeIfYouCan's toolkit prints them, from up to 768 bins a photo, to compare with "
    "figures of its kind; the others are exact."
)


def _of_components(config: EvaluationConfig, experiments: Sequence[Experiment]) -> tuple[list[str], list[str]]:
    """Return the columns that come with the component metrics, and the notes on them; none if they are not asked."""
    if not config.components:
        return [], []
    return [*TOOLKIT, *COMPONENTS], [_TOOLKIT_NOTE, _objects_note(experiments)]


def _objects_note(experiments: Sequence[Experiment]) -> str:
    """Say what the average precision of objects is of."""
    frames = [frame for experiment in experiments for frame in experiment.frames]
    numbered = sum(frame.instances is not None for frame in frames)
    what = f"numbered in {numbered} of {len(frames)} photos, else " if numbered else ""
    return (
        "object AP, object AP50: as OoDIS has them, of components above the threshold of the best pixel F1, as sure as "
        f"their mean score; true objects: {what}components of the labels."
    )


def _one_table(config: EvaluationConfig, table: Table) -> Plan:
    """Plan a table whose rows differ in their walk only."""
    rows = table.with_settings(**_overrides(config))
    columns = [*table.columns, *(["walk alone, FPS"] if "FPS" in table.columns else [])]
    network, weights = _network(config), _weights(config)
    experiments = [
        _experiment(config, d.title, d, network, weights, _figures_of(published.BENCHMARK, rows, d))
        for d in open_datasets(config)
    ]
    return Plan(config, f"Table {table.title}", experiments, table.heading, columns, table.source)


def _table_s1(config: EvaluationConfig) -> Plan:
    """Plan every method that has a network, on every benchmark."""
    datasets, missing = open_benchmarks(config)
    preset, settings = config.preset or "paper", _overrides(config)
    experiments = []
    for method, weights in _checkpoints(config).items():
        network = METHODS[method].network if config.network is None else _network(config)
        for dataset, benchmark in datasets:
            rows = _figures_of(benchmark, method_rows(method, benchmark, preset, **settings), dataset)
            title = f"{METHODS[method].title}, {dataset.title}"
            experiments.append(_experiment(config, title, dataset, network, weights, rows))
    return Plan(
        config,
        "Table S.1: the methods without and with the walk",
        experiments,
        source="Table S.1; its tracks look like the benchmarks' test sets",
        notes=[*missing, *_borrowed_presets([dataset for dataset, _ in datasets])],
    )


def _table_s2(config: EvaluationConfig) -> Plan:
    """Plan the walks of all methods on one network, on every benchmark."""
    if config.method is not None or config.checkpoints is not None:
        raise ConfigError("{table} S2: every method's walk on one network; leave {method} and {checkpoints} out")
    datasets, missing = open_benchmarks(config)
    preset, settings = config.preset or "paper", _overrides(config)
    network, weights = _network(config), _weights(config)
    experiments = [
        _experiment(config, d.title, d, network, weights, settings_rows(benchmark, preset, **settings))
        for d, benchmark in datasets
    ]
    notes = [*missing, *_borrowed_presets([dataset for dataset, _ in datasets])]
    return Plan(config, "Table S.2: the walks of the published methods on one network", experiments, notes=notes)


def _table_4(config: EvaluationConfig) -> Plan:
    """Plan entropy, Image Resynthesis++ and SynBoost, without a walk, on the data sets of SynBoost's table 4."""
    if given := _given(config, ("scores", "preset", "walk", "calibrate", "walk_values", "walk_padding")):
        raise ConfigError(f"{{table}} 4: has scores of its own, and no walk; leave {{{given[0]}}} out")
    files = _files_by_method(config)
    datasets, missing = open_table_datasets(config, tuple(published.TABLE_4))
    network, weights = _network(config), _weights(config)
    experiments = []
    for score in ("entropy", *files):
        for dataset in datasets:
            row = published.resynthesis_row(dataset.name) if score == "resynthesis" else Row("without", None)
            title = f"{published.TITLES[score]}, {dataset.title}"
            experiment = _experiment(config, title, dataset, network, weights, [row])
            method = score if score in files else None
            experiments.append(replace(experiment, scores=[score], method=method, files=files.get(score, {})))
    return Plan(
        config,
        "Table 4: AuROC of Image Resynthesis++, and of SynBoost",
        experiments,
        columns=("AuROC",),
        source="Table 4 of SynBoost; Image Resynthesis is that of Lis et al. (ICCV 2019)",
        notes=[*missing, "The paper does not tell which photos of Lost & Found it used; here it is the split."],
    )


_METHOD_TABLES = {"S1": _table_s1, "S2": _table_s2, "4": _table_4}
TABLES = (*_METHOD_TABLES, *published.TABLES)


def _files_by_method(config: EvaluationConfig) -> dict[str, dict[str, StrPath]]:
    """Return the methods of table 4, each with the files of its chain: those of the config but what only another
    method reads, and the dissimilarity network that ``checkpoints`` has for it."""
    networks = dict(config.checkpoints or {})
    named = list(networks) if config.method is None else [config.method, *networks]
    if unknown := [method for method in named if method not in methods.METHODS]:
        facts = {"methods": ", ".join(methods.METHODS), "got": unknown[0]}
        name = "method" if unknown[0] == config.method else "checkpoints"
        raise ConfigError(f"{{{name}}}: for {{table}} 4, expected methods of {{methods}}, got {{got!r}}", facts)
    chosen = [method for method in reversed(methods.METHODS) if method in named or not named]
    if config.dissimilarity is not None and len(chosen) > 1:
        raise ConfigError("{dissimilarity}: each method of {table} 4 has its own; give them by {checkpoints}")
    by_method: dict[str, dict[str, StrPath]] = {}
    with _naming_fields():
        needed = {method: methods.needed_files(method, config.trained) for method in chosen}
        for method, names in needed.items():
            of_others = {name for name in chain.from_iterable(needed.values()) if name not in names}
            by_method[method] = {name: file for name, file in config.chain_files().items() if name not in of_others}
            if method in networks:
                by_method[method]["dissimilarity"] = networks[method]
            methods.check_files(method, by_method[method])
    return by_method


def _rows(config: EvaluationConfig, dataset: Dataset) -> list[Row]:
    """Return the rows without and with the walk, of the config's settings, its preset or its scorer.

    The config's settings give two walks: the published one, and the anchored one if there is an anchor, which may
    be the network's own. A method of SynBoost has one row more, of its score walked by the settings.
    """
    if isinstance(config.network, Scorer):
        return _scorer_rows(config.network)
    if config.preset is None:
        walk = command_settings(config.walk, anchor_share=_default_anchor_share(config))
        walks = {"with": replace(walk, anchor=-1.0, anchor_share=0.0)}
        if is_anchored(walk.anchor, walk.anchor_share):
            walks["anchored"] = walk
        rows = [Row(label, {**w.as_dict(), "calibrated": config.calibrate}) for label, w in walks.items()]
        if config.method in methods.METHODS:
            rows.append(Row(SCORE_WALKED, {**walk.as_dict(), "walk_values": "score"}))
        return [Row("without", None), *rows]
    benchmark = preset_benchmark(dataset)
    if benchmark is None:
        text = "{preset}: nothing is published for {name}; give the walk's settings one by one"
        raise ConfigError(text, {"name": dataset.name})
    if config.method is None:
        facts = {"methods": ", ".join(METHODS)}
        raise ConfigError("{preset}: expected a {method} whose settings to take, of {methods}", facts)
    rows = method_rows(config.method, benchmark, config.preset, **_overrides(config))
    return _figures_of(benchmark, rows, dataset)


def _scorer_rows(scorer: Scorer) -> list[Row]:
    """Return the rows without and with a scorer's walk; their settings are for the record."""
    if scorer.walk is None:
        return [Row("without", None)]
    return [Row("without", None), Row("with", {**_recorded(scorer.walk), "calibrated": scorer.calibrated})]


def _recorded(walk: MapWalk) -> dict[str, Any]:
    if isinstance(walk, Walk):
        return walk.settings.as_dict()
    if isinstance(walk, KnnWalk):
        taken = ("alpha", "steps", "temperature", "parts")
        settings = {name: getattr(walk.settings, name) for name in taken}
        return {"neighbors": walk.neighbors, "weights": walk.weights, **settings}
    return {"walk": repr(walk)}


def _figures_of(benchmark: str, rows: list[Row], dataset: Dataset) -> list[Row]:
    """Return rows of a benchmark, without their published figures if the data set is known to be another one."""
    is_other = dataset.benchmark is not None and dataset.name != benchmark
    return [replace(row, published={}) for row in rows] if is_other else rows


def _overrides(config: EvaluationConfig) -> dict[str, Any]:
    """Return the settings that replace those of a preset or table."""
    calibrated = {"calibrated": True} if config.calibrate else {}
    return {"tolerance": DEFAULTS.tolerance, **config.walk, **calibrated}


def _borrowed_presets(datasets: Sequence[Dataset]) -> list[str]:
    """Name the data sets that use the published walk of another one."""
    return [
        f"Nothing is published for {d.title}; it takes the walk of {preset_benchmark(d)}."
        for d in datasets
        if preset_benchmark(d) not in (None, d.name)
    ]


def _network(config: EvaluationConfig) -> str | Network:
    """Return the network, or its name."""
    if isinstance(config.network, Scorer):
        return config.network.network
    if config.network is not None:
        return config.network
    return METHODS[config.method].network if config.method in METHODS else CompactNet.name


def _default_anchor_share(config: EvaluationConfig) -> float:
    if config.method in methods.METHODS:
        return 0.0  # the networks' shares were chosen for scores of logits
    network = _network(config)
    kind = NETWORKS.get(network, Network) if isinstance(network, str) else network  # unknown names are told when loaded
    return kind.default_anchor_share


def _weights(config: EvaluationConfig) -> Path | None:
    return None if config.weights is None else Path(config.weights)


def _checkpoints(config: EvaluationConfig) -> Mapping[str, Path | None]:
    """Return the methods of Table S.1, each with its network's file."""
    if config.checkpoints is not None and (config.method is not None or config.weights is not None):
        raise ConfigError("{checkpoints}: names methods and their weights; leave {method} and {weights} out")
    if config.method is not None:
        return {config.method: _weights(config)}
    if config.checkpoints is None and config.network is not None:
        return {method: _weights(config) for method in METHODS}
    if not config.checkpoints:
        raise ConfigError(
            "{table} S1: expected {checkpoints} METHOD=FILE ..., or {method} and {weights}, or a {network}"
        )
    if unknown := [method for method in config.checkpoints if method not in METHODS]:
        facts = {"methods": ", ".join(METHODS), "got": unknown[0]}
        raise ConfigError("{checkpoints}: expected methods of {methods}, got {got!r}", facts)
    return {method: Path(file) for method, file in config.checkpoints.items()}


def _experiment(
    config: EvaluationConfig,
    title: str,
    dataset: Dataset,
    network: str | Network | None,
    weights: Path | None,
    rows: Sequence[Row],
) -> Experiment:
    track = _track(config, dataset) if config.components else None
    frames = dataset.frames[: config.limit]
    method = config.method if config.method in methods.METHODS else None
    return Experiment(title, dataset, frames, network, weights, rows, track, method, config.chain_files())


def _track(config: EvaluationConfig, dataset: Dataset) -> str:
    """Return the track of the component metrics."""
    own = dataset.benchmark and dataset.benchmark.track
    track = own if config.components is True else config.components
    if track not in TRACKS:
        got = f"got {track!r}" if track else f"and {dataset.name} has none of its own"
        facts = {"tracks": ", ".join(TRACKS), "got": got}
        raise ConfigError("{components}: expected a track of {tracks}, {got}", facts)
    return track


def _summary(experiment: Experiment) -> str:
    """Name the network, and the settings that the walks of an experiment share."""
    text = f"{experiment.title}: {experiment.network_name}, {len(experiment.frames)} photos"
    if experiment.maps:
        return f"{experiment.title}: score maps of {len(experiment.frames)} photos, made elsewhere."
    walks = [row.settings for row in experiment.rows if row.settings is not None]
    if not walks:
        return f"{text}; no walk."
    shared = {name: value for name, value in walks[0].items() if all(walk.get(name) == value for walk in walks)}
    return f"{text}; walk: {', '.join(f'{name} {value}' for name, value in shared.items())}."
