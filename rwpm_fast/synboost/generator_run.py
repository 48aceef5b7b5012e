"""The training of the light generator within that of a method: in a folder, from which one that was killed goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import collective
from ..checks import check_integers
from ..io.files import atomic_write, write_json
from ..networks import Network
from ..networks.base import device_of
from ..networks.checkpoint import save_float16
from ..networks.digest import weights_digest
from .annotated import AnnotatedSource, naming
from .generator_training import Pair, Progress, train_generator
from .labels import train_ids
from .light_generator import LightGenerator, LightSynthesis
from .methods import WIDTH
from .synthesis import resize_labels, resize_photos

SAVE_SECONDS = 60.0  # between two checkpoints
WEIGHTS, RECORD = "generator.npz", "generator.json"  # files in the folder of the training
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


def trained_synthesis(
    sources: Sequence[AnnotatedSource],
    folder: Path,
    settings: GeneratorSettings,
    *,
    size: tuple[int, int],
    seed: int,
    half_precision: bool,
    network: Network,
    bar: Bar,
    log: Callable[[str], object],
) -> LightSynthesis:
    """Train the light generator in the first process, or go on, and load it in all.

    ``generator.npz`` of a finished training is used again, and ``work/generator.pt`` of one that was killed is gone on
    with, if ``generator.json`` says that they are of this training. A ``generator.npz`` without it is someone's own,
    and used as it is.

    Args:
        sources: annotated photos; see :class:`GeneratorSettings`.
        folder: of the whole training, with a folder ``work``.
        settings: of this training.
        size: height and width of the images, multiples of 32.
        seed: of weights and batches.
        half_precision: see :func:`rwpm_fast.synboost.generator_training.train_generator`.
        network: what the images should look like to it; its device is that of the training.
        bar: wraps what takes long, in a progress bar.
        log: takes a line about what is done.

    Raises:
        ValueError: the files are damaged, or of another training; or the annotations of a photo are wrong.
        ImageError: a photo or its annotations cannot be read.
        OSError: the folder cannot be written.
    """
    if collective.rank() == 0:
        used = sources[: settings.photos]
        record = {
            **asdict(settings),
            "size": list(size),
            "seed": seed,
            "half_precision": half_precision,
            "network": [network.name, weights_digest(network)],
            "names": [source.name for source in used],
        }
        _agree(folder, record)
        if not (folder / WEIGHTS).exists():
            pairs = [_pair(source, size) for source in bar(used, "read", "photo")]
            log(f"light generator: {settings.steps} steps on {len(pairs)} photos")
            _train(pairs, folder, settings, size, seed, half_precision, network, bar)
    collective.wait()
    return LightSynthesis.load(folder / WEIGHTS, size=size, width=WIDTH).to(device_of(network))


def _agree(folder: Path, record: dict[str, Any]) -> None:
    """Record what a training is of before its first step, or raise ValueError if its files are of another one."""
    file, there = folder / RECORD, [path for path in (folder / WEIGHTS, _checkpoint(folder)) if path.exists()]
    if not there:
        write_json(file, record)
        return
    names = " and ".join(map(str, there))
    way_out = f"delete {names} to train the generator anew, or give another folder"
    if not file.exists():
        if there[0] == folder / WEIGHTS:
            return
        raise ValueError(f"{file} is missing, which tells what {names} is of; {way_out}")
    try:
        found = dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); {way_out}") from error
    if other := [name for name in record if found.get(name) != record[name]]:
        raise ValueError(
            f"{names}: of a training with other {', '.join(other)}, as {file} tells; {way_out}; without {RECORD}, "
            f"{WEIGHTS} is used as it is"
        )


def _checkpoint(folder: Path) -> Path:
    return folder / "work" / "generator.pt"


def _train(
    pairs: Sequence[Pair],
    folder: Path,
    settings: GeneratorSettings,
    size: tuple[int, int],
    seed: int,
    half_precision: bool,
    network: Network,
    bar: Bar,
) -> None:
    checkpoint = _checkpoint(folder)
    torch.manual_seed(seed)
    generator, progress = LightGenerator(WIDTH), Progress()
    if checkpoint.exists():
        try:
            # To the CPU, wherever it was saved: the optimizer moves its state to its weights.
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
            generator.load_state_dict(content["weights"])
            progress = Progress(**content["progress"])
        except Exception as error:
            raise ValueError(f"{checkpoint} is damaged ({error}); delete it to train the generator anew") from error
    generator.to(device_of(network))
    losses = train_generator(
        generator,
        pairs,
        steps=settings.steps,
        rng=np.random.default_rng(seed),
        batch=settings.batch,
        size=size,
        feature_network=network,
        half_precision=half_precision,
        progress=progress,
    )
    saved = time.monotonic()
    for _ in bar(range(progress.step, settings.steps), "generator", "step"):
        next(losses)
        if time.monotonic() - saved > SAVE_SECONDS:
            _save({"weights": generator.state_dict(), "progress": vars(progress)}, checkpoint)
            saved = time.monotonic()
    save_float16(generator, folder / WEIGHTS)


def _save(content: dict[str, Any], checkpoint: Path) -> None:
    atomic_write(checkpoint, lambda file: torch.save(content, file))


def _pair(source: AnnotatedSource, size: tuple[int, int]) -> Pair:
    """Read a photo and its classes in the generator's size."""
    with naming(source):
        annotated = source.read()
        classes = torch.from_numpy(train_ids(annotated.label_map))[None]
    photo = torch.from_numpy(annotated.photo).permute(2, 0, 1)[None]
    image = ((resize_photos(photo, size)[0] + 1) * 127.5).round().byte()
    return Pair(image, resize_labels(classes, size)[0].byte())
