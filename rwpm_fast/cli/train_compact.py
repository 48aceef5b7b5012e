"""``rwpm-fast train compact``."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.extras import require_extras
from ..io.files import atomic_write, make_folder
from ..io.outputs import check_outputs
from ..io.progress import print_above, progress
from .options import add_threads_option

if TYPE_CHECKING:
    from ..training.settings import TrainingSettings, WalkSchedule

SUMMARY = "Train the compact network on photos with a teacher's logits, on rendered scenes and on synthetic outliers."
CURVES = "compact_curves.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for weights and curves; a training that was interrupted goes on with the same command",
    )
    group = parser.add_argument_group("samples")
    group.add_argument("--photos", type=Path, nargs="+", default=[], metavar="DIR", help="folders of photos")
    group.add_argument("--teacher", type=Path, metavar="FILE", help="DABNet's weights, whose logits the photos get")
    group.add_argument(
        "--scenes", type=int, default=140, metavar="N", help="render N street scenes (default: %(default)s)"
    )
    group.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=(256, 480),
        help="of a crop, multiples of 32 (default: 256 480)",
    )
    group = parser.add_argument_group("training")
    group.add_argument(
        "--initial-weights", type=Path, metavar="FILE", help="weights to start from (default: random ones)"
    )
    group.add_argument("--steps", type=int, default=4000, help="of the optimizer (default: %(default)s)")
    group.add_argument("--batch", type=int, default=4, help="crops per step (default: %(default)s)")
    group.add_argument(
        "--learning-rate",
        type=float,
        default=2e-3,
        help="of AdamW, the highest: it rises for a twentieth of the steps and falls to zero as a cosine "
        "(default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="of weights, scenes and crops (default: %(default)s)")
    group.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    add_threads_option(group)
    group = parser.add_argument_group("walk")
    group.add_argument(
        "--walk",
        action="store_true",
        help="let the logits walk within the losses: not in the first fifth of the steps; up to three fifths of them "
        "the walk grows to --walk-steps and --walk-temperature",
    )
    group.add_argument("--walk-steps", type=int, help="of the walk, which grow from 0 (default: 20)")
    group.add_argument(
        "--walk-temperature", type=float, help="of the walk at last, which falls from 0.1 (default: 0.01)"
    )
    group.add_argument(
        "--walk-anchor-share", type=float, help="share of a crop to anchor; 0: the published walk (default: 0)"
    )
    group.add_argument(
        "--walk-weight",
        type=float,
        metavar="W",
        help="of the losses of walked logits; those of the logits themselves weigh 1 - W (default: 0.5)",
    )


def run(options: argparse.Namespace) -> int:
    try:
        return _train(options)
    except FloatingPointError as error:
        raise ValueError(f"--learning-rate: {error}") from error


def _train(options: argparse.Namespace) -> int:
    require_extras("train", "PIL.Image", "matplotlib.figure")
    from .. import networks
    from ..evaluate.distributed import device_name, from_environment
    from ..io.images import find_images
    from ..scoring.device import set_threads, torch_device
    from ..training.run import RECORD, WEIGHTS, train_compact

    settings = _settings(options)
    set_threads(options.threads, "--threads")
    device = torch_device(device_name(options.device), "--device")
    photos = find_images(options.photos)
    outputs = [("--out", options.out / name) for name in (WEIGHTS, RECORD, CURVES)]
    check_outputs(outputs, [*photos, options.teacher, options.initial_weights], "give another folder")
    teacher = None if options.teacher is None else networks.load("dabnet", options.teacher)
    make_folder(options.out, "--out")
    with from_environment() as processes:
        quiet = not processes.first
        train_compact(
            options.out,
            photos,
            teacher,
            scenes=options.scenes,
            start=options.initial_weights,
            settings=settings,
            device=device,
            bar=(lambda items, what, unit: items) if quiet else progress,
            log=(lambda line: None) if quiet else (lambda line: print_above(line)),
            on_save=lambda history: _draw(history, options.out / CURVES),
        )
    if not quiet:
        print(f"weights and curves are in {options.out}")
    return 0


def _settings(options: argparse.Namespace) -> TrainingSettings:
    from ..training.settings import TrainingSettings

    return TrainingSettings(
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        size=tuple(options.size),
        seed=options.seed,
        walk=_walk(options),
    )


def _walk(options: argparse.Namespace) -> WalkSchedule | None:
    from ..training.settings import WalkSchedule

    names = [field.name for field in fields(WalkSchedule)]
    given = {name: value for name in names if (value := getattr(options, f"walk_{name}")) is not None}
    if not options.walk:
        if given:
            raise ValueError(f"{_option(next(iter(given)))}: a setting of the walk, and nothing walks; give --walk too")
        return None
    try:
        return WalkSchedule(**given)
    except ValueError as error:
        name, _, reason = str(error).partition(": ")
        raise ValueError(f"{_option(name)}: {reason}") from error


def _option(name: str) -> str:
    return f"--walk-{name.replace('_', '-')}"


def _draw(history: list[dict[str, Any]], path: Path) -> None:
    from ..viz.figures import figure_bytes
    from ..viz.training_curves import loss_curves

    picture = figure_bytes(loss_curves(history))
    atomic_write(path, lambda file: file.write(picture))
