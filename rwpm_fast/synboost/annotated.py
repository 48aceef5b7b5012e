"""Photos with the class and the object of every pixel, from which the dissimilarity network is trained: Cityscapes, and
rendered scenes in its form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np

from ..io.files import natural_key
from ..io.images import ImageError, read_image, read_labels
from ..io.text import listed
from ..scenes import EGO, UNKNOWN, render_scene_objects
from .labels import LABEL_IDS

DYNAMIC_ID, EGO_ID = 5, 1  # Cityscapes label ids of what rendered scenes have beside the classes
FIRST_THING_ID = LABEL_IDS[11]  # person; in train ids and in label ids all objects follow it

PHOTO_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIX, INSTANCE_SUFFIX = "_gtFine_labelIds.png", "_gtFine_instanceIds.png"


@dataclass(frozen=True, eq=False)
class Annotated:
    """A photo with Cityscapes' annotations.

    Attributes:
        photo: [H, W, 3] uint8, RGB.
        label_map: [H, W] integers, label ids.
        instances: [H, W] integers, instance ids: 1000 times the label id plus a number for an object, else the label
            id.
    """

    photo: np.ndarray
    label_map: np.ndarray
    instances: np.ndarray


class AnnotatedSource(Protocol):
    """Where an annotated photo comes from."""

    @property
    def name(self) -> str:
        """Name of the photo, of which no other one of the same list has the like; part of file names."""
        ...

    def read(self) -> Annotated:
        """Read or render it."""
        ...


@contextmanager
def naming(source: AnnotatedSource) -> Iterator[None]:
    """Put the name of a photo before the message of an error that its annotations cause.

    Raises:
        ImageError: as it is, since it names the file.
        TypeError: with the name.
        ValueError: with the name.

    Example:
        >>> with naming(source):
        ...     classes = train_ids(source.read().label_map)
    """
    try:
        yield
    except ImageError:
        raise
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{source.name}: {error}") from error


@dataclass(frozen=True)
class SceneSource:
    """A rendered scene: unknown objects have the label id of dynamic ones, 5, and the hood of the ego vehicle has its
    own, 1.

    Attributes:
        seed: of the series of scenes.
        number: of the scene in the series, from 0.
        size: (height, width) in pixels.
    """

    seed: int
    number: int
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """Seed, number and size: the same scene of another size is another photo."""
        height, width = self.size
        return f"scene{self.seed}-{self.number:05d}-{height}x{width}"

    def read(self) -> Annotated:
        """Render the scene; equal sources give equal bits."""
        scene = render_scene_objects(np.random.default_rng([self.seed, self.number]), self.size)
        table = np.zeros(256, np.uint8)
        table[: len(LABEL_IDS)] = LABEL_IDS
        table[[UNKNOWN, EGO]] = DYNAMIC_ID, EGO_ID
        label_map = table[scene.class_map]
        objects = label_map.astype(np.int32) * 1000 + scene.object_map
        return Annotated(scene.photo, label_map, np.where(label_map >= FIRST_THING_ID, objects, label_map))


def scene_sources(count: int, seed: int = 0, size: tuple[int, int] = (256, 512)) -> list[SceneSource]:
    """List the first scenes of a series, which are rendered when they are read.

    Neither hold-out scenes (:func:`rwpm_fast.scenes.render_holdout_scene`) nor scenes of another series are among them.

    Args:
        count: number of scenes, 1 or more.
        seed: of the series, >= 0.
        size: (height, width) in pixels, each 16 or more.

    Raises:
        ValueError: no scene, a negative seed, or a side below 16.

    Example:
        >>> scene_sources(200)[0].read().photo.shape
        (256, 512, 3)
    """
    if count < 1:
        raise ValueError(f"count: expected 1 or more scenes, got {count}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    if min(size) < 16:
        raise ValueError(f"size: expected a height and width of 16 pixels or more, got {size[0]} x {size[1]}")
    return [SceneSource(seed, number, size) for number in range(count)]


@dataclass(frozen=True)
class CityscapesSource:
    """A photo of Cityscapes with its fine annotations.

    Attributes:
        photo: path of the photo.
        labels: path of its label ids.
        instances: path of its instance ids.
    """

    photo: Path
    labels: Path
    instances: Path

    @property
    def name(self) -> str:
        """City, sequence and frame."""
        return self.photo.name.removesuffix(PHOTO_SUFFIX)

    def read(self) -> Annotated:
        """Read the three files.

        Raises:
            ImageError: one cannot be read, or their sizes differ.
        """
        found = Annotated(read_image(self.photo), read_labels(self.labels), read_labels(self.instances))
        for path, values in ((self.labels, found.label_map), (self.instances, found.instances)):
            if values.shape != found.photo.shape[:2]:
                raise ImageError(
                    f"labels {path}: expected the photo's size, {list(found.photo.shape[:2])}, got {list(values.shape)}"
                )
        return found


def cityscapes_sources(root: str | PathLike[str], split: str = "train") -> list[CityscapesSource]:
    """List the photos of a split of Cityscapes that have fine annotations.

    Args:
        root: folder with ``leftImg8bit`` and ``gtFine``.
        split: "train" or "val"; of "test" the annotations are not published.

    Returns:
        Sources in natural order.

    Raises:
        ImageError: there are no photos, or some have no annotations.

    Example:
        >>> sources = cityscapes_sources("cityscapes")
        >>> len(sources)
        2975
    """
    root = Path(root)
    photos = sorted((root / "leftImg8bit" / split).glob(f"*/*{PHOTO_SUFFIX}"), key=natural_key)
    if not photos:
        raise ImageError(f"no photos in {root / 'leftImg8bit' / split}: expected CITY/*{PHOTO_SUFFIX}")
    sources = [_source(root, split, photo) for photo in photos]
    missing = [path for source in sources for path in (source.labels, source.instances) if not path.is_file()]
    if missing:
        raise ImageError(
            f"{len(missing)} annotations of {root} are missing: {listed(path.name for path in missing)}; unpack gtFine "
            "beside leftImg8bit"
        )
    return sources


def _source(root: Path, split: str, photo: Path) -> CityscapesSource:
    folder, stem = root / "gtFine" / split / photo.parent.name, photo.name.removesuffix(PHOTO_SUFFIX)
    return CityscapesSource(photo, folder / f"{stem}{LABEL_SUFFIX}", folder / f"{stem}{INSTANCE_SUFFIX}")


def split_sources(sources: Sequence[AnnotatedSource], every: int = 10) -> tuple[list, list]:
    """Keep every so many photos for validation.

    Args:
        sources: of one kind.
        every: 2 or more.

    Returns:
        Those to train with, and those to validate with, at least one each.

    Raises:
        ValueError: fewer than two photos, or ``every`` below 2.
    """
    if len(sources) < 2:
        raise ValueError(f"sources: expected two photos or more, to train and to validate with, got {len(sources)}")
    if every < 2:
        raise ValueError(f"every: expected 2 or more, got {every}")
    validation = list(sources[every - 1 :: every]) or [sources[-1]]
    names = {source.name for source in validation}
    return [source for source in sources if source.name not in names], validation
