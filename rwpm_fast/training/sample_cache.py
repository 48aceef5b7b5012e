"""Training samples kept in a folder, so that a training that goes on starts at once.

A sample's file is called by the digest of all that it is made of: what was made of other photos, by another teacher or
by another version of the package is never read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from .. import __version__, collective
from ..io.files import atomic_write
from ..networks import Network
from ..networks.digest import weights_digest
from ..networks.weight_files import read_weight_file
from .samples import PhotoSample, Sample, SceneSample, photo_sample, scene_sample


@dataclass(frozen=True)
class SampleSource:
    """Where a sample comes from.

    Attributes:
        key: hexadecimal digest of all that it is made of.
        kind: of the sample.
        make: makes it.
    """

    key: str
    kind: type[PhotoSample] | type[SceneSample]
    make: Callable[[], Sample]


def photo_sources(paths: Sequence[Path], teacher: Network) -> list[SampleSource]:
    """Describe samples of photos with a teacher's logits.

    Args:
        paths: of the photos, which are read.
        teacher: network of stride 8, in evaluation mode.

    Raises:
        OSError: a file cannot be read.
    """
    made_by = weights_digest(teacher)
    return [
        SampleSource(
            digest("photo", hashlib.sha256(path.read_bytes()).hexdigest(), teacher.name, made_by),
            PhotoSample,
            partial(photo_sample, teacher, path),
        )
        for path in paths
    ]


def scene_sources(count: int, seed: int) -> list[SampleSource]:
    """Describe samples of rendered scenes; those of a larger count begin with those of a smaller one.

    Args:
        count: number of scenes.
        seed: of the scenes.
    """
    return [
        SampleSource(digest("scene", seed, number), SceneSample, partial(_scene_sample, seed, number))
        for number in range(count)
    ]


def prepare_samples(
    sources: Sequence[SampleSource],
    folder: Path,
    *,
    progress: Callable[[Sequence[SampleSource]], Iterable[SampleSource]] = iter,
) -> list[Sample]:
    """Make the samples that are not in a folder yet, remove those of other sources, and read all.

    An interrupted call goes on where it was. Processes of ``torchrun`` share the work, and the memory: samples are
    mapped from their files.

    Args:
        sources: of the samples.
        folder: existing folder, for samples only.
        progress: wraps the sources, such as in a progress bar.

    Raises:
        ImageError: a photo cannot be read.
        ValueError: a file of the folder is damaged.
        OSError: the folder cannot be written.
    """
    for source in progress(sources[collective.rank() :: collective.count()]):
        if not (path := _path(folder, source)).exists():
            atomic_write(path, partial(torch.save, vars(source.make())))
    collective.wait()
    if collective.rank() == 0:
        wanted = {_path(folder, source) for source in sources}
        for path in folder.glob("*.pt"):
            if path not in wanted:
                path.unlink()
    return [_read(_path(folder, source), source) for source in sources]


def digest(*parts: object) -> str:
    """Compute the SHA-256 of values that tell by their text what they are, and of the package's version."""
    return hashlib.sha256(repr((__version__, *parts)).encode()).hexdigest()


def _scene_sample(seed: int, number: int) -> Sample:
    return scene_sample(np.random.default_rng([seed, number]))


def _path(folder: Path, source: SampleSource) -> Path:
    return folder / f"{source.key}.pt"


def _read(path: Path, source: SampleSource) -> Sample:
    try:
        return source.kind(**read_weight_file(path))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and it is made again") from error
