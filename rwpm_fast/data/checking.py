"""What is missing or odd in a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..io.images import ImageError
from .dataset import Dataset
from .frames import ANOMALY, INLIER, VOID, Frame

_NAMED = 5  # files that a line of text names; the dict has them all


@dataclass
class Check:
    """What was found in a data set.

    Attributes:
        name, root, layout, protocol, split: those of the data set.
        frames: number of frames.
        expected: published number; None where none is.
        sizes: "WxH" of the photos' files to number of photos.
        pixels: "inlier", "anomaly", "void" to number of pixels in the label files.
        without_anomaly: frames without an anomalous pixel. No fault: some data sets have them.
        problems: kind of problem to descriptions, one a file.
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
    without_anomaly: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or odd."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "ok": self.ok}

    def text(self) -> str:
        """The same for people, in lines."""
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
        for kind, found in self.problems.items():
            more = [f"... and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
            lines += [f"{kind}: {len(found)}", *(f"  {one}" for one in found[:_NAMED] + more)]
        lines.append("nothing is missing or odd" if self.ok else f"{sum(map(len, self.problems.values()))} problems")
        return "\n".join(lines)


def check(dataset: Dataset, frames: Iterable[Frame] | None = None) -> Check:
    """Read every photo and label of a data set, and tell what is missing or odd.

    Missing photos and labels, a number of frames that is not the published one, files that cannot be decoded, labels of
    another size than their photo, label values that mean nothing.

    Args:
        dataset: what ``rwpm_fast.data.open`` gives.
        frames: its frames, for those who wrap them in a progress bar.
    """
    report = Check(
        dataset.name,
        str(dataset.root),
        dataset.layout,
        dataset.protocol,
        dataset.split,
        len(dataset),
        dataset.expected,
    )
    problems: dict[str, list[str]] = {
        "photos without labels": [str(path) for path in dataset.without_label],
        "labels without photos": [str(path) for path in dataset.without_photo],
        "unexpected number of frames": [],
        "files that cannot be read": [],
        "sizes that differ": [],
        "unknown label values": [],
    }
    if dataset.expected not in (None, len(dataset)):
        problems["unexpected number of frames"].append(f"{dataset.expected} are published, {len(dataset)} are here")
    sizes: Counter[str] = Counter()
    pixels = Counter({"inlier": 0, "anomaly": 0, "void": 0})
    for frame in dataset.frames if frames is None else frames:
        try:
            height, width = frame.stored_photo().shape[:2]
            sizes[f"{width}x{height}"] += 1
            if frame.label is None:
                continue
            labels = frame.stored_labels()
        except ImageError as error:
            problems["files that cannot be read"].append(str(error))
            continue
        if labels.shape != (height, width):
            described = f"{frame.label}: {labels.shape[1]}x{labels.shape[0]}, its photo {width}x{height}"
            problems["sizes that differ"].append(described)
        if unknown := frame.values.unknown(labels):
            counts = ", ".join(f"{value} at {n} pixels" for value, n in unknown.items())
            problems["unknown label values"].append(f"{frame.label}: {counts} (known: {frame.values.described()})")
            continue
        mapped = frame.values.map(labels)
        found = {kind: int((mapped == value).sum()) for kind, value in _KINDS.items()}
        pixels.update(found)
        if not found["anomaly"]:
            report.without_anomaly.append(frame.id)
    report.sizes = dict(sizes.most_common())
    report.pixels = dict(pixels)
    report.problems = {kind: found for kind, found in problems.items() if found}
    return report


_KINDS = {"inlier": INLIER, "anomaly": ANOMALY, "void": VOID}
