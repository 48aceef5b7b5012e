"""The whole training of a method on annotated photos, in one folder, from which a training that was killed goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import collective
from ..data.frames import ANOMALY, INLIER
from ..io.files import make_folder, remove_leftovers, write_json, write_text
from ..metrics import PixelMetrics, PixelResult
from ..networks.base import device_of
from ..networks.checkpoint import save_float16
from ..scenes import render_holdout_scene
from ..scoring.scorer import Scorer
from .annotated import AnnotatedSource
from .dissimilarity import DissimilarityNet
from .dissimilarity_training import Batch, Epoch, TrainingSettings, train_dissimilarity
from .ensemble import MAPS, PUBLISHED_WEIGHTS, Weights, grid_search
from .examples import KINDS, Example, ExampleFolder, Kind, check_sources, prepare_examples
from .features import FeatureNetwork, NetworkFeatures
from .generator_run import Bar, GeneratorSettings, trained_synthesis
from .light_generator import LightGenerator, LightSynthesis, check_size
from .methods import METHODS, WIDTH, check_method
from .pipeline import SynBoost
from .synthesis import Synthesis, resize_labels

STRIDE = 2  # of the pixels that choose the weights of the ensemble
ALONE: Weights = (1.0, 0.0, 0.0, 0.0)  # no ensemble


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

    Files in the folder: ``METHOD.npz`` and, if it was trained, ``generator.npz``, both float16, and ``generator.json``,
    what the generator learned of; ``METHOD.json`` with settings, ensemble weights and all epochs; ``METHOD_curves.csv``
    with the losses, renewed each epoch; ``work`` with checkpoints and examples, which may be deleted afterwards. One
    training at a time may use a folder; what a killed one left half written is removed.

    The weights of the ensemble, and all that is measured with the result, are of the float16 weights that are saved.

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
        on_epoch: called with all epochs so far after each, and with all of them at the end, in the first process.

    Raises:
        ValueError: an unknown method, files in the folder that are of another training, validation photos without
            anomalies or inliers, or see :class:`~rwpm_fast.synboost.SynBoost`,
            :func:`~rwpm_fast.synboost.examples.prepare_examples` and
            :func:`~rwpm_fast.synboost.dissimilarity_training.train_dissimilarity`.
        FloatingPointError: the loss is not finite.
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
    check_size(size)
    check_sources("training", training)
    check_sources("validation", validation)
    device = device_of(segmentation.network)
    if features is None:
        features = NetworkFeatures(segmentation.network)

    def pipeline(synthesis: Synthesis, network: DissimilarityNet, weights: Weights) -> SynBoost:
        return SynBoost(
            segmentation=segmentation,
            synthesis=synthesis,
            dissimilarity=network,
            features=features,
            weights=weights,
            size=size,
        )

    torch.manual_seed(settings.seed)
    network = DissimilarityNet(**flags, width=width)
    if vgg16 is not None:
        network.load_vgg16(vgg16)
    network.to(device)
    # What the pipeline refuses is refused now, and not after hours of the generator's training.
    stand_in = LightSynthesis(LightGenerator(WIDTH), size=size).to(device)
    pipeline(stand_in if synthesis is None else synthesis, network, ALONE)

    work = folder / "work"
    make_folder(work, "folder")
    if collective.rank() == 0:
        for place in (folder, work, *work.glob("*-examples")):
            remove_leftovers(place)
    collective.wait()
    if synthesis is None:
        synthesis = trained_synthesis(
            training,
            folder,
            generator,
            size=size,
            seed=settings.seed,
            half_precision=settings.half_precision,
            network=segmentation.network,
            bar=bar,
            log=log,
        )

    # The examples have all maps, so that one folder serves both methods; this network's weights play no part in them.
    reader = pipeline(synthesis, DissimilarityNet(width=2).to(device), PUBLISHED_WEIGHTS)
    kinds: tuple[Kind, ...] = KINDS if method == "synboost" else ("swapped",)
    train_examples, validation_examples = (
        _examples(reader, sources, work / f"{name}-examples", kinds, settings.seed, bar, log)
        for name, sources in (("training", training), ("validation", validation))
    )

    if method == "synboost":
        _check_labels(validation_examples)

    def report(epochs: list[Epoch]) -> None:
        log(_line(epochs[-1]))
        write_curves(epochs)

    def write_curves(epochs: list[Epoch]) -> None:
        _write_curves(folder / f"{method}_curves.csv", epochs)
        on_epoch(epochs)

    history = train_dissimilarity(
        network,
        train_examples,
        validation_examples,
        settings,
        checkpoint=work / f"{method}.pt",
        progress=lambda numbers: bar(numbers, "train", "step"),
        on_epoch=report,
    )
    saved = folder / f"{method}.npz"
    if collective.rank() == 0:
        write_curves(history)  # once more, since the training may have been killed between its last save and a report
        save_float16(network, saved)
    collective.wait()
    network = DissimilarityNet.load(saved, **flags, width=width).to(device)
    weights = ALONE
    if method == "synboost":
        weights = best_weights(network, validation_examples)
        shares = ", ".join(f"{weight:.2f} {name}" for weight, name in zip(weights, MAPS, strict=True))
        log(f"ensemble by grid search on the validation photos: {shares}")
    if collective.rank() == 0:
        content = {
            "method": method,
            "width": width,
            "size": size,
            "ensemble_weights": weights,
            "synthesis": "light" if isinstance(synthesis, LightSynthesis) else "CC-FPSE",
            "features": "network" if isinstance(features, NetworkFeatures) else "vgg19",
            "settings": asdict(settings),
            "class_weights": train_examples.class_weights,
            "epochs": [epoch._asdict() for epoch in history],
        }
        write_json(folder / f"{method}.json", content)
    return TrainedMethod(pipeline(synthesis, network, weights), history)


def best_weights(network: DissimilarityNet, examples: Sequence[Example], stride: int = STRIDE) -> Weights:
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
        small = resize_labels(torch.from_numpy(labels)[None], pipeline.size)[0].byte().numpy()
        for name, values in maps.items():
            if values is not None:
                metrics.setdefault(name, PixelMetrics()).update(values.cpu().numpy(), small)
        metrics.setdefault("ensemble", PixelMetrics()).update(result.score.cpu().numpy(), labels)
    return {name: accumulator.compute() for name, accumulator in metrics.items()}


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


def _check_labels(examples: Sequence[Example]) -> None:
    """Raise ValueError where the grid search would, for want of anomalies or inliers: before the training."""
    missing = {ANOMALY: "anomalies", INLIER: "inliers"}
    for example in examples:
        labels = example.labels[::STRIDE, ::STRIDE]
        missing = {label: name for label, name in missing.items() if not (labels == label).any()}
        if not missing:
            return
    raise ValueError(
        f"validation: expected anomalies and inliers, by which the weights of the ensemble are chosen, got no "
        f"{' and no '.join(missing.values())} in {len(examples)} examples; give more photos, or others"
    )


def _line(epoch: Epoch) -> str:
    """A line about an epoch."""
    return (
        f"epoch {epoch.number}: loss {epoch.training_loss:.4f}, validation {epoch.validation_loss:.4f}, "
        f"AP {epoch.validation_ap:.2%}"
    )


def _write_curves(path: Path, epochs: Sequence[Epoch]) -> None:
    rows = [",".join(Epoch._fields), *(",".join(f"{value:.6g}" for value in epoch) for epoch in epochs)]
    write_text(path, "\n".join(rows) + "\n")
