"""``rwpm-fast train synboost`` and ``rwpm-fast train resynthesis``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.extras import require_extras
from ..io.files import atomic_write, make_folder
from ..io.markdown import markdown_table
from ..io.outputs import check_outputs
from ..io.progress import print_above, progress
from .loading import load_network
from .options import add_network_options

if TYPE_CHECKING:
    from ..metrics import PixelResult
    from ..synboost.annotated import AnnotatedSource
    from ..synboost.dissimilarity_training import Epoch, TrainingSettings
    from ..synboost.features import FeatureNetwork
    from ..synboost.pipeline import SynBoost
    from ..synboost.synthesis import Synthesis

SUMMARIES = {
    "synboost": "Train the dissimilarity network of SynBoost, and a light generator with it.",
    "resynthesis": "Train the dissimilarity network of Image Resynthesis++, and a light generator with it.",
}

# Settings of the package's own weights, learned from rendered scenes; on Cityscapes they are the published ones.
SMALL: dict[str, Any] = {"width": 16, "epochs": 8, "learning_rate": 1e-3}
PUBLISHED: dict[str, Any] = {"width": 64, "epochs": 50, "learning_rate": 1e-4}
GENERATOR_STEPS = 1000
EVERY = 10  # one photo of so many is for validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for weights and curves; a training that was interrupted goes on with the same command",
    )
    group = parser.add_argument_group("photos with labels and instances")
    group.add_argument("--scenes", type=int, metavar="N", help="render N street scenes (default: 200)")
    group.add_argument("--cityscapes", type=Path, metavar="ROOT", help="folder with leftImg8bit and gtFine instead")
    group.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=(256, 512),
        help="at which photo and synthesis are compared, multiples of 32 (default: 256 512)",
    )
    group = parser.add_argument_group("weights of others (default: a light generator is trained, and no VGG is used)")
    group.add_argument("--generator", type=Path, metavar="FILE", help="generator of CC-FPSE")
    group.add_argument("--image-encoder", type=Path, metavar="FILE", help="image encoder of CC-FPSE")
    group.add_argument("--vgg16", type=Path, metavar="FILE", help="torchvision's VGG16, where the image encoder starts")
    group.add_argument("--vgg19", type=Path, metavar="FILE", help="torchvision's VGG19, for the perceptual difference")
    group = parser.add_argument_group("training (default: as published with --cityscapes, small with scenes)")
    group.add_argument("--width", type=int, help=f"channels of the finest level (default: {_defaults('width')})")
    group.add_argument("--epochs", type=int, help=f"passes over the examples (default: {_defaults('epochs')})")
    group.add_argument("--learning-rate", type=float, help=f"of Adam (default: {_defaults('learning_rate')})")
    group.add_argument("--batch", type=int, default=4, help="examples per step (default: %(default)s)")
    group.add_argument(
        "--generator-steps", type=int, help=f"of the light generator's training (default: {GENERATOR_STEPS})"
    )
    group.add_argument(
        "--holdout",
        type=int,
        default=20,
        metavar="N",
        help="rendered scenes to measure the result on, which no training sees; 0: none (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="of scenes, order and weights (default: %(default)s)")
    group.add_argument(
        "--half-precision", action="store_true", help="convolve in bfloat16: half the time on CPUs that have it"
    )
    add_network_options(parser, sized=False)


def _defaults(name: str) -> str:
    return f"{PUBLISHED[name]:g}, {SMALL[name]:g} with scenes"


def run(options: argparse.Namespace) -> int:
    try:
        return _train(options)
    except FloatingPointError as error:
        raise ValueError(f"--learning-rate: {error}") from error


def _train(options: argparse.Namespace) -> int:
    require_extras("train", "PIL.Image", "matplotlib.figure")
    from ..evaluate.distributed import device_name, from_environment
    from ..scoring.scorer import Scorer
    from ..synboost.annotated import split_sources
    from ..synboost.generator_run import GeneratorSettings
    from ..synboost.training_run import train_method

    if options.scenes is not None and options.cityscapes is not None:
        raise ValueError("--cityscapes: expected either --scenes or --cityscapes, got both")
    if (options.generator is None) != (options.image_encoder is None):
        raise ValueError("--image-encoder: expected --generator and --image-encoder together, got one of them")
    if options.generator is not None and options.generator_steps is not None:
        raise ValueError("--generator-steps: with --generator no light generator is trained; leave one of them out")
    if options.method == "resynthesis" and options.vgg19 is not None:
        raise ValueError("--vgg19: resynthesis does not read it; leave it out")
    if options.holdout < 0:
        raise ValueError(f"--holdout: expected 0 or more scenes, got {options.holdout}")
    settings = _settings(options)
    sources = _sources(options)
    inputs = [options.weights, options.generator, options.image_encoder, options.vgg16, options.vgg19]
    outputs = [("--out", options.out / name) for name in (f"{options.method}.npz", "generator.npz")]
    check_outputs(outputs, [path for path in inputs if path is not None], "give another folder")
    make_folder(options.out, "--out")
    options.device = device_name(options.device)
    network = load_network(options)
    synthesis, features = _networks_of_others(options)
    training, validation = split_sources(sources, EVERY)
    with from_environment() as processes:
        quiet = not processes.first
        trained = train_method(
            options.method,
            Scorer(network),
            training,
            validation,
            options.out,
            synthesis=synthesis,
            features=features,
            vgg16=options.vgg16,
            width=_chosen(options, "width"),
            size=tuple(options.size),
            settings=settings,
            generator=GeneratorSettings(
                steps=GENERATOR_STEPS if options.generator_steps is None else options.generator_steps
            ),
            bar=(lambda items, what, unit: items) if quiet else progress,
            log=(lambda line: None) if quiet else (lambda line: print_above(line)),
            on_epoch=lambda epochs: _draw(epochs, options.out / f"{options.method}_curves.png"),
        )
        if not quiet and options.holdout:
            _print_holdout(trained.pipeline, options.holdout)
    if not quiet:
        print(f"weights and curves are in {options.out}")
    return 0


def _chosen(options: argparse.Namespace, name: str) -> Any:
    """Return an option, or its default for the photos."""
    value = getattr(options, name)
    return value if value is not None else (SMALL if options.cityscapes is None else PUBLISHED)[name]


def _settings(options: argparse.Namespace) -> TrainingSettings:
    from ..synboost.dissimilarity_training import TrainingSettings

    return TrainingSettings(
        epochs=_chosen(options, "epochs"),
        batch=options.batch,
        learning_rate=_chosen(options, "learning_rate"),
        seed=options.seed,
        half_precision=options.half_precision,
    )


def _sources(options: argparse.Namespace) -> list[AnnotatedSource]:
    from ..synboost.annotated import cityscapes_sources, scene_sources

    if options.cityscapes is not None:
        return list(cityscapes_sources(options.cityscapes))
    return list(scene_sources(200 if options.scenes is None else options.scenes, options.seed, tuple(options.size)))


def _networks_of_others(options: argparse.Namespace) -> tuple[Synthesis | None, FeatureNetwork | None]:
    """Load synthesis and feature network from files, where they are given, onto the device."""
    from ..synboost.synthesis import CCFPSESynthesis
    from ..synboost.vgg import VGG19

    synthesis = features = None
    if options.generator is not None:
        synthesis = CCFPSESynthesis.load(options.generator, options.image_encoder, size=tuple(options.size))
        synthesis = synthesis.to(options.device)
    if options.vgg19 is not None:
        features = VGG19.load(options.vgg19).to(options.device)
    return synthesis, features


def _draw(epochs: list[Epoch], path: Path) -> None:
    from ..viz.figures import figure_bytes
    from ..viz.training_curves import training_curves

    picture = figure_bytes(training_curves([epoch._asdict() for epoch in epochs]))
    atomic_write(path, lambda file: file.write(picture))


def _print_holdout(pipeline: SynBoost, count: int) -> None:
    """Measure the method on scenes that no training has seen, and print a table."""
    from ..synboost.training_run import holdout_metrics

    metrics: dict[str, PixelResult] = holdout_metrics(
        pipeline, count, pipeline.size, progress=lambda numbers: progress(numbers, "hold-out scenes", "scene")
    )
    rows = [
        (name, f"{result.auroc:.2%}", f"{result.ap:.2%}", f"{result.fpr95:.2%}") for name, result in metrics.items()
    ]
    print(f"{count} rendered scenes that were not trained on:", file=sys.stderr)
    print(markdown_table(("map", "AuROC", "AP", "FPR95"), rows))
