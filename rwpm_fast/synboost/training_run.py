"""The whole training of a method on annotated photos, in one folder, from which a training that was killed goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_integers
from ..io.files import atomic_write, make_folder, write_json, write_text
from ..metrics import PixelMetrics, PixelResult
from ..networks import Network
from ..networks.checkpoint import save_float16
from ..scenes import render_holdout_scene
from ..scoring.scorer import Scorer
from . import collective
from .annotated import AnnotatedSource
from .dissimilarity import DissimilarityNet
from .dissimilarity_training import Batch, Epoch, TrainingSettings, train_dissimilarity
from .ensemble import MAPS, PUBLISHED_WEIGHTS, Weights, grid_search
from .examples import KINDS, Example, ExampleFolder, Kind, prepare_examples
from .features import FeatureNetwork, NetworkFeatures
from .generator_training import Pair, Progress, train_generator
from .labels import train_ids
from .light_generator import LightGenerator, LightSynthesis, check_size
from .methods import METHODS, WIDTH, check_method
from .pipeline import SynBoost
from .synthesis import Synthesis, resize_labels, resize_photos

SAVE_SECONDS = 60.0  # between two checkpoints of the generator
Bar = Callable[[Sequence[Any], str, str], Iterable[Any]]  # items, what is done with them, and what one is called


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """How the light generator is trained.

    Attributes:
        steps: 1 or more.
        batch: photos per step, 1 or more.
        photos: it learns of at most so many, 1 or more, which are kept in memory, half a megabyte each.

    Raises:
        TypeError: a setting is no integer.
        ValueError: a setting is below 1.
    """

    steps: int = 1000
    batch: int = 2
    photos: int = 1000

    def __post_init__(self) -> None:
        check_integers(**vars(self))
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name}: expected 1 or more, got {value}")


@dataclass(frozen=True, eq=False)
class TrainedMethod:
    """What a training gave.

    Attributes:
        pipeline: the method, with the weights of the best epoch.
        history: epochs of the dissimilarity network.
    """

    pipeline: SynBoost
    history: list[Epoch]


def train_method(
    method: str,
    segmentation: Scorer,
    training: Sequence[AnnotatedSource],
    validation: Sequence[AnnotatedSource],
    folder: Path,
    *,
    synthesis: Synthesis | None = None,
    features: FeatureNetwork | None = None,
    vgg16: Path | None = None,
    width: int = 64,
    size: tuple[int, int] = (256, 512),
    settings: TrainingSettings | None = None,
    generator: GeneratorSettings | None = None,
    bar: Bar = lambda items, what, unit: items,
    log: Callable[[str], object] = lambda line: None,
    on_epoch: Callable[[list[Epoch]], object] = lambda epochs: None,
) -> TrainedMethod:
    """Train the light generator unless there is a synthesis, prepare examples, train the dissimilarity network, and
    choose the weights of the ensemble on the validation photos.

    A training that was killed at any moment goes on when it is called again with the same arguments. Under ``torchrun``
    the processes share the examples and every batch; all call this with equal arguments.

    Files in the folder: ``METHOD.npz`` and, if it was trained, ``generator.npz``, both float16; ``METHOD.json`` with
    settings, ensemble weights and all epochs; ``curves.csv`` with the losses, renewed each epoch; ``work`` with
    checkpoints and examples, which may be deleted afterwards.

    Args:
        method: "synboost", or "resynthesis" for Image Resynthesis++, which learns of swapped objects only, reads no
            dispersion maps and has no SPADE and no ensemble.
        segmentation: scorer of the segmentation network.
        training: annotated photos.
        validation: others.
        folder: for the results, made if missing.
        synthesis: such as :class:`rwpm_fast.synboost.synthesis.CCFPSESynthesis`; None to train a light generator.
        features: for the perceptual difference; None for those of the segmentation network.
        vgg16: torchvision's weights, with which the image encoder starts; None for random ones. Needs a width of 64.
        width: of the dissimilarity network.
        size: height and width at which photo and synthesis are compared.
        settings: of the training; None for the published ones.
        generator: settings of the light generator.
        bar: wraps what takes long, in a progress bar.
        log: takes a line about each stage and each epoch.
        on_epoch: called with all epochs so far after each, in the first process.

    Raises:
        ValueError: an unknown method, or see :func:`~rwpm_fast.synboost.examples.prepare_examples` and
            :func:`~rwpm_fast.synboost.dissimilarity_training.train_dissimilarity`.
        ImageError: a photo or its annotations cannot be read.
        OSError: the folder cannot be written.

    Example:
        >>> sources = scene_sources(200)
        >>> trained = train_method("synboost", Scorer(networks.load("compact")), *split_sources(sources), Path("run"))
        >>> trained.history[-1].validation_ap
    """
    check_method(method)
    settings, generator = settings or TrainingSettings(), generator or GeneratorSettings()
    flags = METHODS[method]
    with torch.device("meta"):
        DissimilarityNet(**flags, width=width)  # an error for a width that there is not
    check_size(size)
    work = folder / "work"
    make_folder(work, "folder")
    if synthesis is None:
        synthesis = _trained_synthesis(
            training,
            folder,
            generator,
            size,
            settings.seed,
            settings.half_precision,
            segmentation.network,
            bar,
            log,
        )
    if features is None:
        features = NetworkFeatures(segmentation.network)

    def pipeline(network: DissimilarityNet, weights: Weights) -> SynBoost:
        return SynBoost(
            segmentation=segmentation,
            synthesis=synthesis,
            dissimilarity=network,
            features=features,
            weights=weights,
            size=size,
        )

    # The examples have all maps, so that one folder serves both methods; this network's weights play no part in them.
    reader = pipeline(DissimilarityNet(width=2), PUBLISHED_WEIGHTS)
    kinds: tuple[Kind, ...] = KINDS if method == "synboost" else ("swapped",)
    train_examples, validation_examples = (
        _examples(reader, sources, work / f"{name}-examples", kinds, settings.seed, bar, log)
        for name, sources in (("training", training), ("validation", validation))
    )

    def report(epochs: list[Epoch]) -> None:
        _write_curves(folder, epochs, log)
        on_epoch(epochs)

    torch.manual_seed(settings.seed)
    network = DissimilarityNet(**flags, width=width).to(next(segmentation.network.parameters()).device)
    if vgg16 is not None:
        network.load_vgg16(vgg16)
    history = train_dissimilarity(
        network,
        train_examples,
        validation_examples,
        settings,
        checkpoint=work / f"{method}.pt",
        progress=lambda numbers: bar(numbers, "train", "step"),
        on_epoch=report,
    )
    weights: Weights = (1.0, 0.0, 0.0, 0.0)
    if method == "synboost":
        weights = best_weights(network, validation_examples)
        shares = ", ".join(f"{weight:.2f} {name}" for weight, name in zip(weights, MAPS, strict=True))
        log(f"ensemble by grid search on the validation photos: {shares}")
    if collective.rank() == 0:
        save_float16(network, folder / f"{method}.npz")
        content = {
            "method": method,
            "width": width,
            "size": size,
            "ensemble_weights": weights,
            "settings": asdict(settings),
            "class_weights": train_examples.class_weights,
            "epochs": [epoch._asdict() for epoch in history],
        }
        write_json(folder / f"{method}.json", content)
    return TrainedMethod(pipeline(network, weights), history)


def best_weights(network: DissimilarityNet, examples: Sequence[Example], stride: int = 2) -> Weights:
    """Find the ensemble's weights with the lowest FPR95 on examples; see
    :func:`rwpm_fast.synboost.ensemble.grid_search`.

    Args:
        network: in evaluation mode.
        examples: which no result is reported on.
        stride: every so manieth row and column of their maps is taken.
    """
    photos = (
        (_maps(network, example)[:, ::stride, ::stride], example.labels[::stride, ::stride]) for example in examples
    )
    return grid_search(photos)[0].weights


@torch.inference_mode()
def _maps(network: DissimilarityNet, example: Example) -> Tensor:
    """Compute the four maps of an ensemble for an example, [4, h, w] on the CPU."""
    batch = Batch.collate([example], [False], next(network.parameters()).device)
    return batch.ensemble_maps(batch.logits(network))[0].cpu()


def holdout_metrics(
    pipeline: SynBoost,
    count: int,
    size: tuple[int, int] = (256, 512),
    *,
    progress: Callable[[range], Iterable[int]] = iter,
) -> dict[str, PixelResult]:
    """Measure the maps and the ensemble of a method on rendered scenes that no training has seen.

    Args:
        pipeline: the method; its dissimilarity network reads dispersion maps, or only its own map is measured.
        count: number of scenes, 1 or more.
        size: of the scenes.
        progress: wraps the numbers of the scenes.

    Returns:
        Name of a map in :data:`~rwpm_fast.synboost.ensemble.MAPS`, and "ensemble", to the metrics of all pixels.

    Raises:
        ValueError: no scene.

    Example:
        >>> holdout_metrics(trained.pipeline, 20)["ensemble"].ap
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more scenes, got {count}")
    metrics: dict[str, PixelMetrics] = {}
    for seed in progress(range(count)):
        photo, labels = render_holdout_scene(seed, size)
        result = pipeline(photo)
        comparison = result.comparison
        maps = {MAPS[0]: result.probability, **{name: getattr(comparison, name) for name in MAPS[1:]}}
        small = labels if size == pipeline.size else _nearest(labels, pipeline.size)
        for name, values in maps.items():
            if values is not None:
                metrics.setdefault(name, PixelMetrics()).update(values.cpu().numpy(), small)
        metrics.setdefault("ensemble", PixelMetrics()).update(result.score.cpu().numpy(), labels)
    return {name: accumulator.compute() for name, accumulator in metrics.items()}


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = torch.from_numpy(labels)[None, None].float()
    return F.interpolate(values, size, mode="nearest-exact")[0, 0].byte().numpy()


def _examples(
    pipeline: SynBoost,
    sources: Sequence[AnnotatedSource],
    folder: Path,
    kinds: Sequence[Kind],
    seed: int,
    bar: Bar,
    log: Callable[[str], object],
) -> ExampleFolder:
    log(f"examples of {len(sources)} photos in {folder}")
    make_folder(folder, "folder")
    return prepare_examples(
        pipeline, sources, folder, kinds=kinds, seed=seed, progress=lambda items: bar(items, "prepare", "photo")
    )


def _trained_synthesis(
    sources: Sequence[AnnotatedSource],
    folder: Path,
    how: GeneratorSettings,
    size: tuple[int, int],
    seed: int,
    half_precision: bool,
    network: Network,
    bar: Bar,
    log: Callable[[str], object],
) -> LightSynthesis:
    """Train the light generator in the first process, or go on, and load it in all."""
    weights = folder / "generator.npz"
    if collective.rank() == 0 and not weights.exists():
        used = sources[: how.photos]
        pairs = [_pair(source, size) for source in bar(used, "read", "photo")]
        log(f"light generator: {how.steps} steps on {len(pairs)} photos")
        _train_generator(pairs, folder, how, size, seed, half_precision, network, bar)
    collective.wait()
    return LightSynthesis.load(weights, size=size, width=WIDTH).to(next(network.parameters()).device)


def _train_generator(
    pairs: Sequence[Pair],
    folder: Path,
    how: GeneratorSettings,
    size: tuple[int, int],
    seed: int,
    half_precision: bool,
    network: Network,
    bar: Bar,
) -> None:
    checkpoint = folder / "work" / "generator.pt"
    torch.manual_seed(seed)
    generator, progress = LightGenerator(WIDTH), Progress()
    if checkpoint.exists():
        try:
            content = torch.load(checkpoint, weights_only=True)
            generator.load_state_dict(content["weights"])
            progress = Progress(**content["progress"])
        except Exception as error:
            raise ValueError(f"{checkpoint} is damaged ({error}); delete it to train the generator anew") from error
    generator.to(next(network.parameters()).device)
    losses = train_generator(
        generator,
        pairs,
        steps=how.steps,
        rng=np.random.default_rng(seed),
        batch=how.batch,
        size=size,
        feature_network=network,
        half_precision=half_precision,
        progress=progress,
    )
    saved = time.monotonic()
    for _ in bar(range(progress.step, how.steps), "generator", "step"):
        next(losses)
        if time.monotonic() - saved > SAVE_SECONDS:
            _save({"weights": generator.state_dict(), "progress": vars(progress)}, checkpoint)
            saved = time.monotonic()
    save_float16(generator, folder / "generator.npz")


def _save(content: dict[str, Any], checkpoint: Path) -> None:
    atomic_write(checkpoint, lambda file: torch.save(content, file))


def _pair(source: AnnotatedSource, size: tuple[int, int]) -> Pair:
    """Read a photo and its classes in the generator's size."""
    annotated = source.read()
    photo = torch.from_numpy(annotated.photo).permute(2, 0, 1)[None]
    classes = torch.from_numpy(train_ids(annotated.label_map))[None]
    image = ((resize_photos(photo, size)[0] + 1) * 127.5).round().byte()
    return Pair(image, resize_labels(classes, size)[0].byte())


def _write_curves(folder: Path, epochs: Sequence[Epoch], log: Callable[[str], object]) -> None:
    """Write the curves so far, and a line about the last epoch."""
    last = epochs[-1]
    log(
        f"epoch {last.number}: loss {last.training_loss:.4f}, validation {last.validation_loss:.4f}, "
        f"AP {last.validation_ap:.2%}"
    )
    rows = [",".join(Epoch._fields), *(",".join(f"{value:.6g}" for value in epoch) for epoch in epochs)]
    write_text(folder / "curves.csv", "\n".join(rows) + "\n")
