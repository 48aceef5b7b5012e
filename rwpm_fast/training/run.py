"""The whole training of the compact network, in one folder, from which a training that was killed goes on."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .. import __version__, collective
from ..io.files import atomic_write, make_folder, remove_leftovers, write_json
from ..networks import Network
from ..networks.checkpoint import save_float16
from ..networks.compact import CompactNet
from ..networks.digest import weights_digest
from ..networks.weight_files import read_weight_file
from .ahead import made_ahead
from .augment import batches
from .losses import teacher_energy_quantile
from .sample_cache import digest, photo_sources, prepare_samples, scene_sources
from .samples import Sample
from .settings import TrainingSettings
from .trainer import Trainer

SAVE_SECONDS = 300.0  # between two checkpoints
WEIGHTS, RECORD = "compact.npz", "compact.json"  # files in the folder of the training
Bar = Callable[[Sequence[Any], str, str], Iterable[Any]]  # items, what is done with them, and what one is called
History = list[dict[str, Any]]


def train_compact(
    folder: Path,
    photos: Sequence[Path] = (),
    teacher: Network | None = None,
    *,
    scenes: int = 0,
    start: Path | None = None,
    settings: TrainingSettings | None = None,
    device: str | torch.device = "cpu",
    bar: Bar = lambda items, what, unit: items,
    log: Callable[[str], object] = lambda line: None,
    on_save: Callable[[History], object] = lambda history: None,
) -> CompactNet:
    """Prepare the samples and train the compact network on them.

    A training that was killed at any moment goes on when it is called again with the same arguments, and comes to the
    same weights, to the bit, on the same machine with the same numbers of threads and processes. Under ``torchrun``
    the processes share samples and batches; all call this with equal arguments. The batch norms take the statistics of
    a process's share, so another number of processes gives other weights.

    Files in the folder: ``compact.npz``, the averaged weights with folded norms, float16, at the end; ``compact.json``
    with what the training is of and its history, renewed every five minutes; ``work`` with checkpoint and samples,
    which may be deleted afterwards. One training at a time may use a folder; what a killed one left half written is
    removed.

    Args:
        folder: for the results, made if missing.
        photos: files of photos without labels.
        teacher: network of stride 8 in evaluation mode, on the CPU, whose logits the photos get; None without photos.
        scenes: number of rendered scenes, 0 or more.
        start: weights to start from; None for random ones.
        settings: None for the defaults.
        device: of the training.
        bar: wraps what takes long, in a progress bar.
        log: takes a line about each stage, and about every 50 steps.
        on_save: called with the history, see :class:`~rwpm_fast.training.trainer.Progress`, whenever the training is
            saved and has a report, in the first process.

    Returns:
        The network with the saved weights, in evaluation mode on the CPU.

    Raises:
        ValueError: neither photos nor scenes, photos without a teacher or the reverse, a batch that the processes
            cannot share evenly, files in the folder that are damaged or of another training, or weights to start from
            that do not fit.
        FloatingPointError: the gradients of twenty steps in a row are not finite.
        ImageError: a photo cannot be read.
        OSError: the folder cannot be written, or there are no weights to start from.

    Example:
        >>> teacher = networks.load("dabnet", "dabnet.npz")
        >>> network = train_compact(Path("run"), find_images("photos"), teacher, scenes=140)
    """
    settings = settings or TrainingSettings()
    _check(photos, teacher, scenes, settings)
    torch.manual_seed(settings.seed)
    network = CompactNet() if start is None else CompactNet.load(start)
    sources = [
        *([] if teacher is None else photo_sources(photos, teacher)),
        *scene_sources(scenes, settings.seed),
    ]
    record = {
        **asdict(settings),
        "photos": [path.name for path in photos],
        "teacher": None if teacher is None else digest(teacher.name, weights_digest(teacher)),
        "scenes": scenes,
        "start": None if start is None else weights_digest(network),
        "samples": digest([source.key for source in sources]),
        "version": __version__,
    }
    record = json.loads(json.dumps(record))
    _agree(folder, record)
    collective.wait()  # the first process writes only after all have looked
    if (folder / WEIGHTS).exists() and not _checkpoint(folder).exists():
        return CompactNet.load(folder / WEIGHTS)
    cache = folder / "work" / "samples"
    make_folder(cache, "folder")
    if collective.rank() == 0:
        for place in (folder, folder / "work", cache):
            remove_leftovers(place)
    collective.wait()
    log(f"samples of {len(photos)} photos and {scenes} scenes in {cache}")
    samples = prepare_samples(sources, cache, progress=lambda items: bar(items, "prepare", "sample"))
    trainer = Trainer(network.to(device), settings, teacher_energy_quantile(samples))
    if start is not None:
        crops = batches(samples, settings.batch, *settings.size, len(network.classes), settings.seed)
        trainer.keep_function(next(crops))
    _resume(trainer, _checkpoint(folder))

    def save() -> None:
        if collective.rank() == 0:
            history = trainer.progress.history
            write_json(folder / RECORD, {"training": record, "history": history})
            state = trainer.state_dict()
            atomic_write(_checkpoint(folder), lambda file: torch.save(state, file))
            if history:
                on_save(history)

    _train(trainer, samples, save, bar, log)
    if collective.rank() == 0:
        save_float16(copy.deepcopy(trainer.average).fold(), folder / WEIGHTS)
    collective.wait()
    return CompactNet.load(folder / WEIGHTS)


def _check(photos: Sequence[Path], teacher: Network | None, scenes: int, settings: TrainingSettings) -> None:
    if scenes < 0:
        raise ValueError(f"scenes: expected 0 or more, got {scenes}")
    if not photos and not scenes:
        raise ValueError("scenes: expected 1 or more without photos, got 0; give photos, or render scenes")
    if bool(photos) != (teacher is not None):
        got = "photos alone" if photos else "a teacher alone"
        raise ValueError(f"teacher: expected photos and their teacher together, got {got}")
    if settings.batch % collective.count():
        raise ValueError(
            f"batch: expected a multiple of the {collective.count()} processes that share it, got {settings.batch}"
        )


def _checkpoint(folder: Path) -> Path:
    return folder / "work" / "compact.pt"


def _agree(folder: Path, record: dict[str, Any]) -> None:
    """Raise ValueError if the files of the folder are of another training, or of an unknown one."""
    there = [path for path in (folder / WEIGHTS, _checkpoint(folder)) if path.exists()]
    if not there:
        return
    file, names = folder / RECORD, " and ".join(map(str, there))
    way_out = f"give another folder, or delete {names} to train anew"
    if not file.exists():
        raise ValueError(f"{file} is missing, which tells what {names} is of; {way_out}")
    try:
        found = dict(json.loads(file.read_text())["training"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged ({error}); {way_out}") from error
    if other := [name for name in record if found.get(name) != record[name]]:
        raise ValueError(f"{names}: of a training with other {', '.join(other)}, as {file} tells; {way_out}")


def _resume(trainer: Trainer, checkpoint: Path) -> None:
    if not checkpoint.exists():
        return
    try:
        trainer.load_state_dict(read_weight_file(checkpoint))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(f"{checkpoint} is damaged ({error}); delete it to train anew") from error


def _train(
    trainer: Trainer,
    samples: Sequence[Sample],
    save: Callable[[], None],
    bar: Bar,
    log: Callable[[str], object],
) -> None:
    """Take the steps that are left, and save every few minutes and at the end."""
    settings, first_step = trainer.settings, trainer.progress.step
    crops = batches(
        samples,
        settings.batch,
        *settings.size,
        len(trainer.network.classes),
        settings.seed,
        first_step=first_step,
        shard=slice(collective.rank(), None, collective.count()),
    )
    saved = time.monotonic()
    for _, crop in zip(bar(range(first_step, settings.steps), "train", "step"), made_ahead(crops), strict=False):
        if (report := trainer.step(crop)) is not None:
            log(_line(report))
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
    save()


def _line(report: dict[str, Any]) -> str:
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in report["losses"].items())
    failures = f"; {report['failures']} steps so far were not finite" if report["failures"] else ""
    return f"step {report['step']}: {losses}{failures}"
