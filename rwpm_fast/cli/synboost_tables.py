"""Tables 5 and 6 of the SynBoost appendix, for ``evaluate``: their rows are no walks, so no option of a walk fits."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.progress import progress
from .loading import check_method_files
from .options import method_files

if TYPE_CHECKING:
    from ..data import Dataset, Frame
    from ..evaluate import EvaluationConfig
    from ..evaluate.plain_table import PlainTable

RUNS, WARMUP = 100, 10  # of table 5
_RESULTS = {"table", "json", "csv", "markdown", "device", "threads"}
_OF_DATA = {"dataset", "root", "protocol", "split", "layout", "source", "orientation", "limit"}
_OF_FOLDERS = {"images", "labels", "positive", "negative", "void"}
_OF_CHAIN = {"network", "weights", "weights_key", "trained", "dissimilarity", "generator", "image_encoder", "vgg19"}
TABLES = {
    "5": _RESULTS | {"runs", "warmup", "chains"},
    "6": _RESULTS | _OF_DATA | _OF_FOLDERS | _OF_CHAIN | {"tune_dataset", "fpr_rule"},
}
"""Options that each table takes, by attribute."""


@dataclass(frozen=True)
class Job:
    """A table whose options are checked.

    Attributes:
        inputs: files that it reads, of which some may be folders.
        compute: makes the table.
    """

    inputs: Sequence[Path]
    compute: Callable[[], PlainTable]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are those of tables 5 and 6 only."""
    group = parser.add_argument_group("tables 5 and 6")
    group.add_argument("--runs", type=int, metavar="N", help=f"of --table 5: timed runs (default: {RUNS})")
    group.add_argument("--warmup", type=int, metavar="N", help=f"of --table 5: runs before them (default: {WARMUP})")
    group.add_argument(
        "--chains",
        nargs="+",
        metavar="NAME",
        help="of --table 5: full, of the paper's networks, light, or both (default)",
    )
    group.add_argument(
        "--tune-dataset",
        metavar="NAME",
        help="of --table 6: data set below the first --root that tunes the weights (default: the first half of each "
        "data set, and the second is reported)",
    )


def check_options(table: str | None, given: Iterable[str]) -> None:
    """Check that there is such a table, and that the options belong to it, or to an evaluation of walks.

    Args:
        table: of the options.
        given: attributes of the options that do not have their default.

    Raises:
        ValueError: an unknown table, or an option that means nothing here.
    """
    from ..evaluate import plan

    known = (*plan.TABLES, *TABLES)
    if table is not None and table not in known:
        raise ValueError(f"--table: expected one of {', '.join(known)}, got {table!r}")
    own = {"runs": "5", "warmup": "5", "chains": "5", "tune_dataset": "6"}
    for name in given:
        option = "METHOD" if name == "method" else f"--{name.replace('_', '-')}"
        if own.get(name, table) != table:
            raise ValueError(f"{option}: only for --table {own[name]}")
        if table in TABLES and name not in TABLES[table]:
            raise ValueError(f"{option}: means nothing for table {table}; leave it out")


def make_job(
    options: argparse.Namespace, config: EvaluationConfig, command: str, on_image: Callable[[Path, str | None], object]
) -> Job:
    """Check the options of table 5 or 6, without loading a network or reading a photo.

    Args:
        options: of ``evaluate``, checked by :func:`check_options`.
        config: what they describe.
        command: command line that repeats the work.
        on_image: called after each photo with its path, and the reason if it failed or None.

    Raises:
        ConfigError: fields of data sets that do not go together.
        ImageError: a data set that is not found, or lacks files or labels.
        ValueError: a value out of range, an unknown name, or several processes.
        FileNotFoundError: no such weight file.
    """
    from ..evaluate.distributed import started
    from ..scoring.device import torch_device

    if started():
        raise ValueError(f"--table: table {options.table} is made by one process; start it without torchrun")
    torch_device(options.device, "--device")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads: expected 1 or more, got {options.threads}")
    return _times(options, command) if options.table == "5" else _ensembles(options, config, command, on_image)


def _times(options: argparse.Namespace, command: str) -> Job:
    """Prepare table 5."""
    runs = RUNS if options.runs is None else options.runs
    warmup = WARMUP if options.warmup is None else options.warmup
    kinds = list(dict.fromkeys(options.chains or ("full", "light")))
    if runs < 1:
        raise ValueError(f"--runs: expected 1 or more, got {runs}")
    if warmup < 0:
        raise ValueError(f"--warmup: expected 0 or more, got {warmup}")
    if unknown := [kind for kind in kinds if kind not in ("full", "light")]:
        raise ValueError(f"--chains: expected full or light, got {unknown[0]!r}")

    def compute() -> PlainTable:
        import torch

        from ..evaluate.module_times import machine_note, times_table
        from ..scoring.device import use_threads
        from ..synboost.timing import PHOTO_SIZE, measure_chains, untrained_chain

        device = torch.device(options.device)
        photo = torch.randint(0, 256, (3, *PHOTO_SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        with use_threads(options.threads):
            chains = {kind: untrained_chain(kind, device) for kind in kinds}
            measured = measure_chains(
                chains, photo, runs=runs, warmup=warmup, progress=lambda rounds: progress(rounds, "time")
            )
            table = times_table(measured)
            notes = [*table.notes, machine_note(device, runs, warmup)]
            facts = {"chains": kinds, "runs": runs, "warmup": warmup, **_place(options)}
        return replace(table, notes=notes, command=command, settings=facts)

    return Job([], compute)


def _ensembles(
    options: argparse.Namespace, config: EvaluationConfig, command: str, on_image: Callable[[Path, str | None], object]
) -> Job:
    """Prepare table 6."""
    from ..data.checking import survey_labels
    from ..evaluate.datasets import open_datasets
    from ..evaluate.ensemble_table import halves
    from ..metrics import PixelMetrics

    PixelMetrics(config.fpr_rule)
    check_method_files("synboost", options)
    files = method_files(options)
    if config.weights is not None and not Path(config.weights).exists():
        raise FileNotFoundError(f"--weights: no such file or folder: {config.weights}")
    datasets = open_datasets(config)
    frames: dict[str, Sequence[Frame]] = {dataset.name: dataset.frames[: config.limit] for dataset in datasets}
    if len(frames) < len(datasets):
        raise ValueError("--dataset: expected each data set once")
    if options.tune_dataset is None:
        if short := [name for name, found in frames.items() if len(found) < 2]:
            raise ValueError(f"--dataset: {short[0]}: expected two photos or more, one to tune and one to report")
        tuning = [frame for found in frames.values() for frame in halves(found)[0]]
        reported = {name: halves(found)[1] for name, found in frames.items()}
        split = "The first half of each data set tunes; the second is reported."
    else:
        tune = _open_tuning(options, config)
        tuning, reported = list(tune.frames[: config.limit]), frames
        split = f"Tuned on {len(tuning)} photos of {tune.title}."
    if any(dataset.benchmark is None for dataset in datasets):
        survey_labels(tuning).require_anomalies()

    def compute() -> PlainTable:
        from .. import networks
        from ..evaluate.ensemble_table import ensemble_table
        from ..scoring.device import use_threads
        from ..scoring.scorer import Scorer
        from ..synboost.methods import load

        name = networks.CompactNet.name if options.network is None else options.network
        with use_threads(options.threads):
            network = networks.load(name, options.weights, weights_key=options.weights_key).to(options.device)
            table = ensemble_table(
                load("synboost", Scorer(network), **files),
                tuning,
                reported,
                titles={dataset.name: dataset.title for dataset in datasets},
                fpr_rule=config.fpr_rule,
                progress=progress,
                on_image=on_image,
            )
            counts = {dataset: len(found) for dataset, found in reported.items()}
            facts = {"network": name, "tuning photos": len(tuning), "reported photos": counts, **_place(options)}
        return replace(table, notes=[*table.notes, split], command=command, settings=facts)

    weights = [] if options.weights is None else [options.weights]
    photos = [file for frame in [*tuning, *(f for found in reported.values() for f in found)] for file in frame.files()]
    return Job([*photos, *weights, *files.values()], compute)


def _open_tuning(options: argparse.Namespace, config: EvaluationConfig) -> Dataset:
    from ..evaluate.datasets import open_datasets

    if not config.root_list():
        raise ValueError("--tune-dataset: expected --root, the folder around the data sets")
    return open_datasets(replace(config, datasets=options.tune_dataset, root=config.root_list()[0]))[0]


def _place(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {"device": options.device, "threads": torch.get_num_threads()}
