"""The sub-command ``evaluate``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.arguments import non_default_args, non_default_options
from ..io.extras import require_extras
from ..io.files import atomic_write, make_folder, make_folder_of, write_json, write_text
from ..io.outputs import check_outputs
from ..io.progress import progress
from ..io.text import printable
from . import synboost_tables
from .datasets import add_dataset_options, add_folder_options, names_folders, open_folders
from .options import (
    Renamed,
    add_method_options,
    add_network_options,
    add_walk_options,
    check_figure_file,
    network_settings,
    walk_overrides,
)
from .sharing import add_processes_option

if TYPE_CHECKING:
    from ..evaluate import EvaluationConfig, EvaluationResult
    from ..evaluate.plain_table import PlainTable

# Fields of EvaluationConfig whose options are not called like them.
OPTION_NAMES = {
    "method": "METHOD",
    "datasets": "--dataset",
    "network_settings": "the network's settings (--size, --leave-out ...)",
    "walk_padding": "--no-walk-padding",
}


SUMMARY = "Pooled AuROC, AP and FPR95 on labeled photos, without and with the walk, or as a table of a paper."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "method",
        nargs="?",
        metavar="METHOD",
        help="pebal, balanced_energy, mask2anomaly or rba: its network, with that one's score, and the settings of "
        "--preset; synboost or resynthesis: its chain, without a walk, with the segmentation walked, with its score "
        "walked",
    )
    add_dataset_options(parser, positional=False)
    add_folder_options(parser)
    group = parser.add_argument_group("what to measure")
    group.add_argument("--limit", type=int, metavar="N", help="the first N photos of each data set only")
    group.add_argument("--photos", type=int, metavar="N", dest="limit", action=Renamed)
    group.add_argument(
        "--preset", help="published settings of the walk: paper, or released with its T + 1 transitions; others replace"
    )
    group.add_argument(
        "--table",
        metavar="NAME",
        help="S1: the methods with networks of their own; S2: their walks on one network; S3: k-NN graphs; S4: "
        "temperatures; n: sub-maps; and of SynBoost's appendix 4: AuROC of its methods; 5: time of its modules; 6: "
        "weights of its ensemble. Walk options replace the settings of a table of walks",
    )
    group.add_argument(
        "--checkpoints",
        nargs="+",
        metavar="METHOD=FILE",
        help="of --table S1: the methods to run, with their weights; of --table 4: their dissimilarity networks",
    )
    group.add_argument(
        "--components",
        nargs="?",
        const="",
        metavar="TRACK",
        help="also component metrics of SegmentMeIfYouCan, with the size limits of a track (default: the data set's)",
    )
    group.add_argument(
        "--scores",
        nargs="+",
        help="(default: the network's own, without METHOD and --table energy and max_logit too; of synboost and "
        "resynthesis their own and entropy)",
    )
    group.add_argument("--fpr-rule", default="fishyscapes", help="how FPR95 is read (default: %(default)s)")
    _add_map_options(parser)
    synboost_tables.add_arguments(parser)
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    group.add_argument("--csv", type=Path, metavar="FILE", help="write the metrics of every row to FILE")
    group.add_argument("--csv-photos", type=Path, metavar="FILE", help="write the metrics of every photo to FILE")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a report with curves and photos to FILE")
    group.add_argument("--panels", type=int, metavar="N", help="pictures of photos in the report (default: up to 100)")
    group.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="write a picture of photos, ground truth and scores to FILE (.png, .pdf, .svg), failures last",
    )
    group.add_argument("--figure-photos", type=int, metavar="N", help="photos in it (default: up to 8)")
    group.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for the score maps of each photo, from which an interrupted run resumes "
        "(default: rwpm-tables for a table, else memory)",
    )
    add_processes_option(group)
    add_network_options(parser)
    parser.set_defaults(network=None)
    add_method_options(parser, named=False)
    add_walk_options(parser)


def _add_map_options(parser: argparse.ArgumentParser) -> None:
    """Add score maps in place of a network, and how they are read."""
    group = parser.add_argument_group("score maps of any methods, in place of a network")
    group.add_argument(
        "--scores-from",
        nargs="+",
        metavar="NAME=DIR",
        help="folder of a method's score maps with the photos' names: .npy, .npz, .tif of float32, .hdf5 of "
        "SegmentMeIfYouCan's toolkit; several methods are compared with the first",
    )
    group.add_argument(
        "--lower-is-anomalous",
        nargs="*",
        metavar="NAME",
        help="anomalies have the lower scores, of all methods or of these (default: of none)",
    )
    group.add_argument(
        "--resize-scores",
        metavar="RULE",
        help="nearest or bilinear: resize maps that have not the labels' size (default: refuse them)",
    )
    group.add_argument(
        "--png-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="take PNGs of 16 bits for maps too: the scores that 0 and 65535 stand for",
    )
    group.add_argument("--extra-scores", action="store_true", help="let there be maps of no photo")


def run(options: argparse.Namespace) -> int:
    from ..evaluate import ConfigError, EvaluationConfig, make_plan, run_plan
    from ..evaluate.distributed import writes
    from .slow import announce_slow_walks

    of_results = [
        (options.html, "matplotlib.figure"),
        (options.figure, "matplotlib.figure"),
        (options.components, "scipy.ndimage"),
    ]
    require_extras("evaluate", "PIL.Image", *(module for option, module in of_results if option is not None))
    if options.panels is not None and (options.panels < 0 or options.html is None):
        raise ValueError(f"--panels: expected 0 or more pictures for the report of --html, got {options.panels}")
    _check_figure(options)
    synboost_tables.check_options(options.table, non_default_options(options, add_arguments))
    command = shlex.join(["rwpm-fast", "evaluate", *non_default_args(options, add_arguments, positional=["method"])])
    try:
        config = make_config(options)
        if options.table in synboost_tables.TABLES:
            job = synboost_tables.make_job(options, config, command, _print_failure)
            _prepare_outputs(options, job.inputs)
            return _finish(options, job.compute())
        plan = make_plan(config)
        _prepare_outputs(options, plan.inputs())
        if config.cache is not None:
            make_folder(Path(config.cache), "--cache")
        result = run_plan(
            plan,
            command=command,
            progress=progress,
            on_image=_print_failure,
            on_result=partial(_write, options),
            on_remark=_print_remark,
            on_scorer=announce_slow_walks,
        )
    except ConfigError as error:
        names = {field.name: f"--{field.name.replace('_', '-')}" for field in fields(EvaluationConfig)}
        raise ValueError(error.text({**names, **OPTION_NAMES})) from error
    if writes():
        _print(options, result)
    return 1 if result.failures else 0


def make_config(options: argparse.Namespace) -> EvaluationConfig:
    """Make the config that the options describe.

    Raises:
        ValueError: options that do not go together.
        ImageError: photos or labels that are not found.
    """
    from ..evaluate import EvaluationConfig

    cache = Path("rwpm-tables") if options.cache is None and options.table is not None else options.cache
    return EvaluationConfig(
        network=options.network,
        weights=options.weights,
        weights_key=options.weights_key,
        network_settings=network_settings(options),
        method=options.method,
        trained=options.trained,
        dissimilarity=options.dissimilarity,
        generator=options.generator,
        image_encoder=options.image_encoder,
        vgg19=options.vgg19,
        checkpoints=_checkpoints(options),
        scores_from=_maps(options),
        lower_is_anomalous=options.lower_is_anomalous is not None and (options.lower_is_anomalous or True),
        resize_scores=options.resize_scores,
        png_range=None if options.png_range is None else (options.png_range[0], options.png_range[1]),
        extra_scores=options.extra_scores,
        device=options.device,
        threads=options.threads,
        **_data(options),
        limit=options.limit,
        table=options.table,
        preset=options.preset,
        walk=walk_overrides(options),
        calibrate=options.calibrate,
        walk_values=options.walk_values or "auto",
        walk_padding=options.walk_padding,
        scores=options.scores,
        fpr_rule=options.fpr_rule,
        components=options.components is not None and (options.components or True),
        cache=cache,
        processes=options.processes,
    )


def _data(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the config that say where the photos and labels are."""
    if options.table == "5":
        return {}
    if options.table in ("S1", "S2", "4"):
        of_folders = ("images", "labels", "positive", "negative", "void")
        if given := [name for name in of_folders if getattr(options, name) is not None]:
            raise ValueError(
                f"--{given[0]}: table {options.table} is of data sets; give --root, and --dataset for some of them"
            )
    elif names_folders(options, dataset="--dataset", root="--root"):
        return {"datasets": open_folders(options, limit=options.limit)}
    return {
        "datasets": options.dataset or (),
        "root": options.root,
        "protocol": options.protocol or "official",
        "split": options.split,
        "layout": options.layout,
        "source": options.source,
        "orientation": options.orientation,
    }


def _checkpoints(options: argparse.Namespace) -> dict[str, Path] | None:
    """Parse METHOD=FILE ...; None without any."""
    from .. import presets
    from ..synboost import methods

    pairs = options.checkpoints
    if pairs is None:
        return None
    known = list(methods.METHODS if options.table == "4" else presets.METHODS)
    files: dict[str, Path] = {}
    for pair in pairs:
        method, _, file = pair.partition("=")
        if method not in known or not file:
            raise ValueError(f"--checkpoints: expected METHOD=FILE, METHOD of {', '.join(known)}, got {pair!r}")
        if method in files:
            raise ValueError(f"--checkpoints: expected a method once, got {method} twice")
        files[method] = Path(file).expanduser()  # a shell does not expand it behind the equals sign
    return files


def _maps(options: argparse.Namespace) -> dict[str, Path] | None:
    """Parse NAME=DIR ...; None without any."""
    if options.scores_from is None:
        return None
    folders: dict[str, Path] = {}
    for pair in options.scores_from:
        name, _, folder = pair.partition("=")
        if not (name and folder):
            raise ValueError(f"--scores-from: expected NAME=DIR, got {pair!r}")
        if name in folders:
            raise ValueError(f"--scores-from: expected a method once, got {name} twice")
        folders[name] = Path(folder).expanduser()  # a shell does not expand it behind the equals sign
    return folders


def _check_figure(options: argparse.Namespace) -> None:
    if options.figure_photos is not None and (options.figure_photos < 1 or options.figure is None):
        raise ValueError(
            f"--figure-photos: expected 1 or more photos for the picture of --figure, got {options.figure_photos}"
        )
    if options.figure is not None:
        check_figure_file(options.figure, "--figure")


def _prepare_outputs(options: argparse.Namespace, inputs: Iterable[Path]) -> None:
    """Check that all results can be written, before they are computed."""
    names = ("json", "csv", "csv_photos", "markdown", "html", "figure")
    files = [(f"--{name.replace('_', '-')}", getattr(options, name)) for name in names]
    files = [(name, path) for name, path in files if path is not None]
    check_outputs(files, inputs, "give each a file of its own")
    for name, path in files:
        make_folder_of(path, name)


def _finish(options: argparse.Namespace, table: PlainTable) -> int:
    """Write and print a table that is not of walks."""
    _write_texts(options, table)
    print(table.markdown())
    return 1 if table.failures else 0


def _print_remark(remark: str) -> None:
    print(printable(remark), file=sys.stderr)


def _print_failure(photo: Path, failure: str | None) -> None:
    if failure is not None:
        print(printable(failure if str(photo) in failure else f"{photo}: {failure}"), file=sys.stderr)


def _write(options: argparse.Namespace, result: EvaluationResult) -> None:
    """Write the files, in the first process; the pictures last, since reading photos may fail."""
    first = result.processes.first
    if first:
        _write_texts(options, result)
        if options.csv_photos is not None:
            write_text(options.csv_photos, result.photos_csv())
    try:
        _write_pictures(options, result)
    except Exception:
        if first:
            _print(options, result)  # the numbers are there, whatever became of their pictures
        raise


def _write_texts(options: argparse.Namespace, result: EvaluationResult | PlainTable) -> None:
    if options.json is not None:
        write_json(options.json, result.as_dict())
    for path, text in ((options.csv, result.csv()), (options.markdown, result.markdown())):
        if path is not None:
            write_text(path, text)


def _write_pictures(options: argparse.Namespace, result: EvaluationResult) -> None:
    """Write report and figure in the first process, drawn by all."""
    shown = (lambda images: progress(images, "draw")) if result.processes.first else iter
    if options.html is not None:
        from ..evaluate.report import render_report

        page = render_report(result, panels=options.panels, progress=shown)
        if page is not None:
            write_text(options.html, page)
    if options.figure is not None:
        from ..evaluate.photo_figure import draw_photos
        from ..viz.figures import figure_bytes

        figure = draw_photos(result, limit=options.figure_photos, progress=shown)
        if figure is not None:
            picture = figure_bytes(figure, options.figure.suffix[1:].lower())
            atomic_write(options.figure, lambda file: file.write(picture))


def _print(options: argparse.Namespace, result: EvaluationResult) -> None:
    """Print the table."""
    print(result.markdown())
    for title in result.sweeps:
        print(_summary(result, title))
    _warn_of_no_positives(result)


def _summary(result: EvaluationResult, title: str) -> str:
    """Say how many photos of a data set were used, and how long one took."""
    sweep = result.sweeps[title]
    text = f"{title}: {len(sweep.used)} of {len(sweep.images)} photos"
    if not sweep.used:
        return text
    if result.reference is not None:
        return text
    label = [row.label for row in result.rows if row.dataset == title][-1]
    network, walk = sweep.network_seconds(label), sweep.walk_seconds(label)
    return f"{text}; median network {network:.3f} s, walk ({label}) {walk:.3f} s a photo"


def _warn_of_no_positives(result: EvaluationResult) -> None:
    for title, sweep in result.sweeps.items():
        if sweep.used and not any(metrics.positives for metrics in sweep.results.values()):
            print(f"no pixel is an anomaly in {title}", file=sys.stderr)
