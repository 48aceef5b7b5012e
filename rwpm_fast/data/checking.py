"""Check a data set: missing files, unexpected sizes, label values, orientations; and what an evaluation has to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..io.images import ImageError, read_header
from ..io.listing import unused_text
from ..io.text import first_few, listed
from .dataset import Dataset
from .frames import ANOMALY, INLIER, VOID, Frame, LabelValues, count_values


@dataclass
class Check:
    """Findings of :func:`check`.

    Attributes:
        name: name of the data set.
        root: the folder that was searched.
        layout: name of its layout.
        protocol: name of its protocol.
        split: name of its split.
        frames: number of frames.
        expected: published number of frames; None if none is published.
        sizes: "WxH" of the photo files to number of photos.
        pixels: "inlier", "anomaly", "void" to number of pixels in the label files.
        values: the label values that are there, with their shares, in words.
        indexed: label files that hold indices of a palette with colors. Not a problem.
        turned: photos that are turned by their EXIF orientation so that their labels fit. Not a problem.
        unused: files among the photos that are none by their suffix. Not a problem.
        without_anomaly: ids of frames without an anomalous pixel. Not a problem: some data sets have them.
        problems: kind of problem to descriptions, one per file.
    """

    name: str
    root: str
    layout: str
    protocol: str
    split: str
    frames: int
    expected: int | None
    sizes: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    values: str = ""
    indexed: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    without_anomaly: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {**asdict(self), "ok": self.ok}

    def text(self) -> str:
        """Format the findings for people, in lines."""
        published = "" if self.expected is None else f" ({self.expected} published)"
        lines = [
            f"{self.name}, split {self.split}, layout {self.layout}, protocol {self.protocol}: {self.root}",
            f"frames: {self.frames}{published}",
        ]
        if self.sizes:
            lines.append("photos: " + ", ".join(f"{n} of {size}" for size, n in self.sizes.items()))
        if total := sum(self.pixels.values()):
            shares = ", ".join(f"{kind} {pixels / total:.2%}" for kind, pixels in self.pixels.items())
            lines.append(f"labels: {shares}; {len(self.without_anomaly)} frames without an anomaly")
            lines.append(f"label values: {self.values}")
        for files, what in (
            (self.indexed, "label files with a palette of colors, of which the indices are read"),
            (self.turned, "photos turned by their EXIF orientation, as their labels are"),
            (self.unused, "files that are no photos by their suffix"),
        ):
            if files:
                lines.append(f"{what}: {len(files)} ({listed(Path(file).name for file in files)})")
        for kind, found in self.problems.items():
            shown, rest = first_few(found)
            lines += [f"{kind}: {len(found)}", *(f"  {problem}" for problem in shown)]
            lines += [f"  ... {rest}"] if rest else []
        lines.append("nothing is missing or odd" if self.ok else f"{sum(map(len, self.problems.values()))} problems")
        return "\n".join(lines)


def check(dataset: Dataset, frames: Iterable[Frame] | None = None) -> Check:
    """Read every photo and label of a data set and list the problems.

    Problems are missing photos and labels, a number of frames or sequences other than the published one, files that
    cannot be decoded, labels of another size than their photo, unknown label values, no anomaly at all, labels of a
    single value in place of those that a benchmark keeps back, labels stored as JPEG, and photos whose EXIF orientation
    leaves open how their labels belong to them. Of sequences the photos between the labeled ones are not read.

    Args:
        dataset: result of :func:`rwpm_fast.data.open_dataset` or :func:`rwpm_fast.data.folders`.
        frames: the frames of ``dataset``, if they are wrapped in a progress bar; None for the frames themselves.
    """
    report = Check(
        dataset.name,
        str(dataset.root),
        dataset.layout,
        dataset.protocol,
        dataset.split,
        len(dataset),
        dataset.expected,
        unused=[str(path) for path in dataset.unused],
    )
    problems: dict[str, list[str]] = {
        "photos without labels": [str(path) for path in dataset.without_label],
        "labels without photos": [str(path) for path in dataset.without_photo],
        "listed but not there": list(dataset.listed_only),
        "unexpected number of frames": [],
        "unexpected number of sequences": [],
        "files that cannot be read": [],
        "sizes that differ": [],
        "unknown label values": [],
        "no anomaly": [],
        "labels of a single value, as hidden ones are": [],
        "labels stored as JPEG, which alters values": [],
        "EXIF orientation in doubt": [],
    }
    if (described := _unexpected_count(dataset)) is not None:
        splits = {} if dataset.benchmark is None else dataset.benchmark.splits
        published = [f"{name} {split.count}" for name, split in splits.items() if split.count is not None]
        others = f" (published of each split: {', '.join(published)})" if len(published) > 1 else ""
        problems["unexpected number of frames"].append(described + others)
    if dataset.expected_sequences not in (None, sequences := len(dataset.sequences())):
        described = f"{dataset.expected_sequences} are published, {sequences} are here"
        problems["unexpected number of sequences"].append(described)
    sizes: Counter[str] = Counter()
    pixels = Counter({"inlier": 0, "anomaly": 0, "void": 0})
    survey: LabelSurvey | None = None
    for frame in dataset.frames if frames is None else frames:
        try:
            height, width = frame.stored_photo().shape[:2]
            sizes[f"{width}x{height}"] += 1
            if (orientation := frame.doubtful_orientation()) is not None:
                described = f"{frame.photo}: {orientation}, read as stored; say by orientation how labels belong to it"
                problems["EXIF orientation in doubt"].append(described)
            if frame.label is None:
                continue
            if frame.is_turned():
                report.turned.append(str(frame.photo))
            survey = survey or LabelSurvey(frame.values)
            labels = survey.add(frame)
            frame.read_instances()
        except ImageError as error:
            problems["files that cannot be read"].append(str(error))
            continue
        if labels.shape != (height, width):
            described = f"{frame.label}: {labels.shape[1]}x{labels.shape[0]}, its photo {width}x{height}"
            problems["sizes that differ"].append(described)
        if unknown := frame.values.unknown(labels):
            described = ", ".join(f"{value} at {n} pixels" for value, n in unknown.items())
            problems["unknown label values"].append(f"{frame.label}: {described} (known: {frame.values.described()})")
            continue
        mapped = frame.values.map(labels)
        found = {kind: int((mapped == value).sum()) for kind, value in _KINDS.items()}
        pixels.update(found)
        if not found["anomaly"]:
            report.without_anomaly.append(frame.id)
    report.sizes = dict(sizes.most_common())
    report.pixels = dict(pixels)
    if survey is not None:
        report.values, report.indexed = survey.shares(), survey.indexed
        problems["labels stored as JPEG, which alters values"] = survey.lossy
        if survey.lacks_anomalies():
            problems["no anomaly"].append(
                f"no pixel is labeled as one; the label values mean {survey.values.described()}"
            )
        if dataset.benchmark is not None and dataset.benchmark.blank_is_hidden:
            problems["labels of a single value, as hidden ones are"] = survey.blank_texts()
    report.problems = {kind: found for kind, found in problems.items() if found}
    return report


_KINDS = {"inlier": INLIER, "anomaly": ANOMALY, "void": VOID}


class LabelSurvey:
    """What the label files of frames hold.

    Attributes:
        values: meaning of the values.
        pixels: value to number of pixels.
        lossy: label files stored as JPEG, which alters values.
        indexed: label files that hold indices of a palette with colors.
        blank: label files of a single value, if it is a known one, with that value.
    """

    def __init__(self, values: LabelValues) -> None:
        self.values = values
        self.pixels: Counter[int] = Counter()
        self.lossy: list[str] = []
        self.indexed: list[str] = []
        self.blank: dict[str, int] = {}

    def add(self, frame: Frame) -> np.ndarray:
        """Read and count the labels of a frame, and return them as stored.

        Raises:
            ImageError: see :meth:`Frame.stored_labels`.
        """
        labels = frame.stored_labels()
        assert frame.label is not None
        header = read_header(frame.label)
        counts = count_values(labels)
        self.pixels.update(counts)
        if len(counts) == 1 and not self.values.unknown(labels):
            self.blank[str(frame.label)] = next(iter(counts))
        self.lossy += [str(frame.label)] if header.lossy else []
        self.indexed += [str(frame.label)] if header.indexed else []
        return labels

    def shares(self) -> str:
        """Name the values with their shares."""
        return self.values.shares(self.pixels)

    def lacks_anomalies(self) -> bool:
        """Whether there are labels, but none of an anomaly."""
        return bool(self.pixels) and not self.pixels.keys() & self.values.anomaly

    def require_anomalies(self) -> None:
        """Raise ImageError, with the values that are there, if there are labels, but none of an anomaly."""
        if self.lacks_anomalies():
            wanted = " or ".join(map(str, sorted(self.values.anomaly)))
            raise ImageError(
                f"labels: no pixel is labeled {wanted}; there are {self.shares()}; "
                "name the label value of anomalies by positive (--positive)"
            )

    def blank_texts(self) -> list[str]:
        """Name the label files of a single value, each with it."""
        return [f"{file} (all {value})" for file, value in self.blank.items()]

    def remarks(self) -> list[str]:
        """Say, in clauses, what a user may not expect of the files."""
        texts = []
        if self.lossy:
            texts.append(f"{len(self.lossy)} label files are stored as JPEG, which alters values: {listed(self.lossy)}")
        if self.indexed:
            count = f"{len(self.indexed)} label files have a palette of colors"
            texts.append(f"{count}, of which the indices are read: {listed(self.indexed)}")
        return texts


def survey_labels(frames: Sequence[Frame]) -> LabelSurvey:
    """Read the label files of frames.

    Args:
        frames: one or more frames with labels, whose values have one meaning. Files that cannot be read are left to
            whoever needs them.
    """
    survey = LabelSurvey(frames[0].values)
    for frame in frames:
        with suppress(ImageError):
            survey.add(frame)
    return survey


def require_public_labels(dataset: Dataset, survey: LabelSurvey) -> None:
    """Raise ImageError, with the files, if some labels of a benchmark stand for those that it keeps back.

    Args:
        dataset: of which ``blank_is_hidden`` tells that no published label file is blank.
        survey: of its label files.
    """
    if dataset.benchmark is None or not dataset.benchmark.blank_is_hidden or not survey.blank:
        return
    public = [name for name, split in dataset.benchmark.splits.items() if split.labeled]
    raise ImageError(
        f"{dataset.name} in {dataset.root}, split {dataset.split}: expected labels of inliers and anomalies, got "
        f"{len(survey.blank)} of a single value, as stand for those that the benchmark keeps to itself: "
        f"{listed(survey.blank_texts())}; labels are public of split {' and '.join(public)} only"
    )


def _unexpected_count(dataset: Dataset) -> str | None:
    """Say how many frames a data set has and was published with; None if they agree or nothing is published."""
    if dataset.expected in (None, len(dataset)):
        return None
    return f"{dataset.expected} are published, {len(dataset)} are here"


def remarks(dataset: Dataset, frames: Sequence[Frame]) -> list[str]:
    """Say what a user may not expect of the files of a data set, by their names and headers.

    Args:
        dataset: the data set.
        frames: its frames that are used.

    Returns:
        Clauses: another number of photos than is published, files that are not used, and photos whose EXIF orientation
        leaves open how labels belong to them.
    """
    count = _unexpected_count(dataset)
    texts = [] if count is None else [f"unexpected number of photos in split {dataset.split}: {count}"]
    texts += [unused_text(dataset.unused)] if dataset.unused else []
    if dataset.benchmark is None and dataset.without_photo:
        names = listed(Path(name).name for name in dataset.without_photo)
        texts.append(f"{len(dataset.without_photo)} labels have no photo and are not used: {names}")
    doubtful: dict[int, list[str]] = {}
    for frame in frames:
        with suppress(ImageError):  # told when the photo's turn comes
            if (orientation := frame.doubtful_orientation()) is not None:
                doubtful.setdefault(orientation, []).append(str(frame.photo))
    texts += [
        f"{len(photos)} photos have the EXIF orientation {orientation} and are read as stored; "
        f"orientation (stored or upright) says how their labels belong to them: {listed(photos)}"
        for orientation, photos in doubtful.items()
    ]
    return texts
