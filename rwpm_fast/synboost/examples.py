"""Training examples of the dissimilarity network, computed once and kept in a folder: segmentation, synthesis and
uncertainty maps do not change while it is trained.

Two kinds of labels are there (SynBoost, section 3.4, its data generator). ``"swapped"``: the class map is the ground
truth with objects of another class, which the synthesis shows and which are the anomalies; entropy and distance are
those of the photo's prediction nonetheless, as in the released code. ``"void"``: the class map is the prediction, and
what belongs to no class is the anomaly.

Departures from the released code: pixels without a class are void in swapped labels too, since no prediction has them;
and the synthesis finds the edges in the altered class map, as it does at inference, where there are no instances.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from .. import __version__, collective
from ..data.frames import ANOMALY, VOID
from ..io.files import atomic_write, write_json
from ..io.text import listed
from ..networks.digest import weights_digest
from ..ops.maps import Walk
from ..scoring.scorer import Analysis
from .annotated import Annotated, AnnotatedSource, naming
from .dissimilarity import CLASSES
from .identity import part_identity
from .labels import class_weights, swap_instances, train_ids, void_labels
from .pipeline import Comparison, SynBoost
from .synthesis import resize_labels

Kind = Literal["swapped", "void"]
KINDS: tuple[Kind, ...] = ("swapped", "void")
MANIFEST = "examples.json"
_FORMAT = 1  # of manifest and entries


@dataclass(frozen=True, eq=False)
class Example:
    """What the dissimilarity network reads of a photo, and what it should find.

    Attributes:
        image: [3, h, w] uint8, the photo, RGB.
        synthesis: [3, h, w] uint8, RGB.
        class_map: [h, w] uint8, train ids of the synthesis, 255 for pixels without a class.
        maps: [3, h, w] uint8, entropy, perceptual difference and softmax distance, 255 for 1.
        labels: [h, w] uint8: 0 inlier, 1 anomaly, 255 void.
    """

    image: np.ndarray
    synthesis: np.ndarray
    class_map: np.ndarray
    maps: np.ndarray
    labels: np.ndarray


_FIELDS = tuple(field.name for field in fields(Example))


class ExampleFolder(Sequence[Example]):
    """The examples in a folder, read as they are asked for.

    Args:
        folder: written by :func:`prepare_examples`.

    Attributes:
        names: of the examples, in order.
        size: height and width of their maps.
        class_weights: of inliers and anomalies over all of them; see :func:`rwpm_fast.synboost.labels.class_weights`.
        made_with: describes the networks and settings that they were made with.

    Raises:
        FileNotFoundError: the folder has no finished list of examples, or one of them is missing.
        ValueError: the list is damaged, or of another format.

    Example:
        >>> examples = ExampleFolder("training-examples")
        >>> examples[0].image.shape
        (3, 256, 512)
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)
        manifest = self.folder / MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(f"no {MANIFEST} in {self.folder}: prepare the examples first, to their end")
        try:
            content = json.loads(manifest.read_text())
            if content["format"] != _FORMAT:
                raise ValueError(f"it has format {content['format']}, not {_FORMAT}")
            self.names: list[str] = content["names"]
            height, width = content["size"]
            inlier, anomaly = content["class_weights"]
            self.made_with: str = content["made_with"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{manifest} cannot be used ({error}); delete it and prepare the examples again"
            ) from error
        self.size: tuple[int, int] = (height, width)
        self.class_weights: tuple[float, float] = (inlier, anomaly)
        if missing := [name for name in self.names if not self.path(name).is_file()]:
            raise FileNotFoundError(
                f"{len(missing)} of {len(self.names)} examples are missing in {self.folder}: {listed(missing)}; "
                "prepare the examples again, which makes those only"
            )

    def path(self, name: str) -> Path:
        """Return the file of an example."""
        return _path(self.folder, name)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """Read an example.

        Raises:
            FileNotFoundError: its file is gone.
            ValueError: its file is damaged, of another size than the others, or made with other networks or settings.
            OSError: its file cannot be read.
        """
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        path = self.path(self.names[index])
        example, made_with = _read(path)
        if made_with != self.made_with:
            raise ValueError(
                f"{path} was made with other networks or settings than {self.folder / MANIFEST}; {_WAY_OUT}"
            )
        if example.labels.shape != self.size:
            raise ValueError(f"{path}: expected {list(self.size)} pixels, got {list(example.labels.shape)}; {_WAY_OUT}")
        return example


def prepare_examples(
    pipeline: SynBoost,
    sources: Sequence[AnnotatedSource],
    folder: str | PathLike[str],
    *,
    kinds: Sequence[Kind] = KINDS,
    seed: int = 0,
    progress: Callable[[Sequence[AnnotatedSource]], Iterable[AnnotatedSource]] = iter,
) -> ExampleFolder:
    """Compute the examples of annotated photos, and keep them in a folder.

    An interrupted call goes on where it was: examples made with the same networks and settings are kept. The list of
    examples is written last, so that a folder without it is not finished. Processes of ``torchrun`` share the photos.

    Args:
        pipeline: makes the maps; its dissimilarity network must read dispersion maps, but its weights play no part.
        sources: photos with annotations; each gives an example of each kind.
        folder: existing folder.
        kinds: of labels.
        seed: of the objects that are swapped.
        progress: wraps the sources, such as in a progress bar.

    Raises:
        ValueError: no sources, two of one name, an unknown kind, a pipeline without dispersion maps, or an entry in the
            folder that was made with other networks or settings.
        ImageError: a photo or its annotations cannot be read.
        OSError: the folder cannot be written.

    Example:
        >>> examples = prepare_examples(pipeline, scene_sources(200), "training-examples")
    """
    check_sources("sources", sources)
    if not kinds or (unknown := set(kinds) - set(KINDS)):
        raise ValueError(f"kinds: expected some of {', '.join(KINDS)}, got {sorted(unknown) if kinds else 'none'}")
    if pipeline.dissimilarity.dispersion_encoder is None:
        raise ValueError("pipeline: expected a dissimilarity network with dispersion=True, got one without")
    folder = Path(folder)
    made_with = _fingerprint(pipeline, seed)
    for source in progress(sources[collective.rank() :: collective.count()]):
        missing = [kind for kind in kinds if not _is_there(_path(folder, _name(source, kind)), made_with)]
        if not missing:
            continue
        with naming(source):
            annotated = source.read()
            analysis = pipeline.segmentation.analyze(annotated.photo)
        for kind in missing:
            rng = np.random.default_rng([seed, zlib.crc32(source.name.encode())])
            with naming(source):
                example = _example(pipeline, annotated, analysis, kind, rng)
            _write(_path(folder, _name(source, kind)), example, made_with)
    collective.wait()
    if collective.rank() == 0:
        _write_manifest(folder, pipeline, [_name(source, kind) for source in sources for kind in kinds], made_with)
    collective.wait()
    return ExampleFolder(folder)


def check_sources(argument: str, sources: Sequence[AnnotatedSource]) -> None:
    """Raise ValueError for no sources, or two of one name; the message begins with the argument."""
    if not sources:
        raise ValueError(f"{argument}: expected one or more annotated photos, got none")
    if len({source.name for source in sources}) < len(sources):
        raise ValueError(f"{argument}: expected each name once, got one twice; the names are those of files")


def _write_manifest(folder: Path, pipeline: SynBoost, names: list[str], made_with: str) -> None:
    content = {
        "format": _FORMAT,
        "made_with": made_with,
        "size": pipeline.size,
        "class_weights": class_weights(_read(_path(folder, name))[0].labels for name in names),
        "names": names,
    }
    write_json(folder / MANIFEST, content)


def _example(
    pipeline: SynBoost, annotated: Annotated, analysis: Analysis, kind: Kind, rng: np.random.Generator
) -> Example:
    """Make an example of a photo whose segmentation is there."""
    if kind == "void":
        comparison, labels = pipeline.compare(annotated.photo, analysis), void_labels(annotated.label_map)
    else:
        altered, labels = swap_instances(annotated.label_map, annotated.instances, rng)
        class_map = train_ids(altered)
        labels[class_map == VOID] = VOID
        comparison = pipeline.compare(annotated.photo, analysis, class_map)
    return Example(
        image=comparison.image.cpu().numpy(),
        synthesis=_bytes(comparison.synthesis),
        class_map=comparison.class_map.to(torch.uint8).cpu().numpy(),
        maps=_bytes(_stacked(comparison)),
        labels=resize_labels(torch.from_numpy(labels)[None], pipeline.size)[0].to(torch.uint8).numpy(),
    )


def _stacked(comparison: Comparison) -> Tensor:
    return torch.stack([cast(Tensor, getattr(comparison, name)) for name in ("entropy", "perceptual", "distance")])


def _bytes(values: Tensor) -> np.ndarray:
    """Round values in 0..1 to 8 bits."""
    return (values * 255).round().to(torch.uint8).cpu().numpy()


def _name(source: AnnotatedSource, kind: Kind) -> str:
    return f"{source.name}_{kind}"


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"


def _fingerprint(pipeline: SynBoost, seed: int) -> str:
    """Text that differs where examples would: what made them, its weights and its settings."""
    segmentation = pipeline.segmentation
    walk = segmentation.walk
    settings: dict[str, Any] = {
        "version": __version__,
        "network": [segmentation.network.name, weights_digest(segmentation.network)],
        "synthesis": part_identity(pipeline.synthesis),
        "features": part_identity(pipeline.features),
        "walk": asdict(walk.settings) if isinstance(walk, Walk) else part_identity(walk),
        "walk_values": segmentation.walk_values,
        "walk_padding": segmentation.walk_padding,
        "minmax": pipeline.minmax,
        "quantized": pipeline.quantized,
        "size": list(pipeline.size),
        "seed": seed,
    }
    return json.dumps(settings, sort_keys=True)


def _is_there(path: Path, made_with: str) -> bool:
    """Whether an example is there, whole; an error if it was made with other settings."""
    if not path.is_file():
        return False
    try:
        _, found = _read(path)
    except ValueError:
        return False
    if found != made_with:
        raise ValueError(
            f"{path} was made with other networks or settings; give a new folder, or delete the examples of this one"
        )
    return True


def _write(path: Path, example: Example, made_with: str) -> None:
    arrays: dict[str, Any] = {**vars(example), "made_with": np.array(made_with), "format": np.array(_FORMAT)}
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


_WAY_OUT = "delete it, and prepare the examples again, which makes what is missing"


def _read(path: Path) -> tuple[Example, str]:
    """Read an example and what it was made with.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, which says nothing about what is in it.
        ValueError: the file is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; prepare the examples again, which makes what is missing") from None
    try:
        return _parsed(content)
    except Exception as error:  # zipfile and NumPy raise a dozen kinds for bytes that were changed
        raise ValueError(f"{path}: damaged ({error}); {_WAY_OUT}") from error


def _parsed(content: bytes) -> tuple[Example, str]:
    """Take an example from the bytes of a file; any error means that they are not those of one."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if int(file["format"]) != _FORMAT:
            raise ValueError(f"it has format {int(file['format'])}, not {_FORMAT}")
        example = Example(*(file[name] for name in _FIELDS))
        made_with = str(file["made_with"])
    shape = example.labels.shape
    wanted = Example(*(np.empty((*channels, *shape), np.uint8) for channels in ((3,), (3,), (), (3,), ())))
    for name, values in vars(wanted).items():
        got: np.ndarray = getattr(example, name)
        if got.dtype != values.dtype or got.shape != values.shape:
            raise ValueError(f"{name} is {got.dtype} {list(got.shape)}")
    for name, ids, last in (("labels", example.labels, ANOMALY), ("class_map", example.class_map, CLASSES - 1)):
        if ((ids > last) & (ids != VOID)).any():
            raise ValueError(f"{name} has values beyond 0 to {last} and {VOID}")
    return example, made_with
