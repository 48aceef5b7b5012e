"""Check a data set: missing files, unexpected sizes, unknown label values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..io.images import ImageError
from ..io.text import first_few
from .dataset import Dataset
from .frames import ANOMALY, INLIER, VOID, Frame


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
        for kind, found in self.problems.items():
            shown, rest = first_few(found)
            lines += [f"{kind}: {len(found)}", *(f"  {problem}" for problem in shown)]
            lines += [f"  ... {rest}"] if rest else []
        lines.append("nothing is missing or odd" if self.ok else f"{sum(map(len, self.problems.values()))} problems")
        return "\n".join(lines)


def check(dataset: Dataset, frames: Iterable[Frame] | None = None) -> Check:
    """Read every photo and label of a data set and list the problems.

    Problems are missing photos and labels, a number of frames other than the published one, files that cannot be
    decoded, labels of another size than their photo, and unknown label values.

    Args:
        dataset: result of :func:`rwpm_fast.data.open_dataset`.
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
