"""A photo of a data set with its labels: the paths of its files, and how they are read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..io.images import ImageError, read_header, read_image, read_labels
from ..io.text import listed

INLIER, ANOMALY, VOID = 0, 1, 255
ORIENTATIONS = ("stored", "upright")


@dataclass(frozen=True)
class LabelValues:
    """Meaning of the values of a label file.

    Attributes:
        anomaly: values of anomalies.
        inlier: values of inliers.
        void: values that are ignored; None for all others.
        hint: what other values come from and the way out, for messages; empty without one.
    """

    anomaly: frozenset[int]
    inlier: frozenset[int]
    void: frozenset[int] | None
    hint: str = ""

    @classmethod
    def from_values(
        cls,
        *,
        anomaly: Iterable[int] = (1,),
        inlier: Iterable[int] = (0,),
        void: Iterable[int] | None = (255,),
        hint: str = "",
    ) -> LabelValues:
        """Make label values of any collections of integers.

        Args:
            anomaly: values of anomalies.
            inlier: values of inliers.
            void: values that are ignored; None for all others.
            hint: what other values come from and the way out, for messages.
        """
        return cls(frozenset(anomaly), frozenset(inlier), None if void is None else frozenset(void), hint)

    def map(self, labels: np.ndarray) -> np.ndarray:
        """Map labels [H, W] to 0 inlier, 1 anomaly, 255 void, uint8.

        Raises:
            ValueError: unknown values, with the number of their pixels.
        """
        if unknown := self.unknown(labels):
            found = ", ".join(f"{value} ({pixels} pixels)" for value, pixels in unknown.items())
            raise ValueError(f"expected the values {self.described()}, got {found}{self.hint and f'; {self.hint}'}")
        mapped = np.full(labels.shape, VOID, np.uint8)
        mapped[np.isin(labels, list(self.inlier))] = INLIER
        mapped[np.isin(labels, list(self.anomaly))] = ANOMALY
        return mapped

    def unknown(self, labels: np.ndarray) -> dict[int, int]:
        """Count the pixels of each unknown value."""
        if self.void is None:
            return {}
        known = self.anomaly | self.inlier | self.void
        return {value: pixels for value, pixels in count_values(labels).items() if value not in known}

    def described(self) -> str:
        """Describe the values, such as "0 inlier, 1 anomaly, 255 void"."""
        parts = [f"{_ranges(self.inlier)} inlier", f"{_ranges(self.anomaly)} anomaly"]
        if self.void is None:
            parts.append("others void")
        elif self.void:
            parts.append(f"{_ranges(self.void)} void")
        return ", ".join(parts)

    def shares(self, pixels: Mapping[int, int]) -> str:
        """Describe the values that are there, such as "inlier values 0 (80.00%), void values 2, 255 (20.00%)".

        Args:
            pixels: value to number of pixels.
        """
        rest = pixels.keys() - self.inlier - self.anomaly
        void = rest if self.void is None else self.void
        kinds = {"inlier": self.inlier, "anomaly": self.anomaly, "void": void, "unknown": rest - void}
        total = max(sum(pixels.values()), 1)
        return ", ".join(
            f"{kind} values {_ranges(found)} ({sum(pixels[value] for value in found) / total:.2%})"
            for kind, values in kinds.items()
            if (found := pixels.keys() & values)
        )


@dataclass(frozen=True)
class Frame:
    """A photo, with its labels if there are any.

    Attributes:
        id: name in its data set, unique there.
        photo: the photo's file, or an overlay (``.npz``) that is added to ``background``.
        label: the label file; None for a photo of a test split.
        values: meaning of the label file's values.
        background: the photo under an overlay; None without an overlay.
        size: height and width that photo (bilinear) and labels (nearest) are resized to; None to keep their own.
        orientation: "stored" if the label file belongs to the photo's pixels as they are stored, "upright" if it
            belongs to the photo turned by its EXIF orientation; None to tell by their sizes, and take "stored" where
            both fit: see :meth:`doubtful_orientation`.
        instances: the file that numbers the objects; None if there is none.
    """

    id: str
    photo: Path
    label: Path | None
    values: LabelValues
    background: Path | None = None
    size: tuple[int, int] | None = None
    orientation: str | None = None
    instances: Path | None = None

    def files(self) -> list[Path]:
        """Return the files that it consists of."""
        return [file for file in (self.photo, self.label, self.background, self.instances) if file is not None]

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Read photo [H, W, 3] uint8 and labels [H, W] uint8: 0 inlier, 1 anomaly, 255 void.

        Raises:
            ImageError: one of them is missing or cannot be read, their sizes differ, or labels have unknown values.
        """
        photo, labels = self.stored_photo(), self.stored_labels()
        if labels.shape != photo.shape[:2]:
            raise ImageError(
                f"labels {self.label}: expected the photo's size {photo.shape[0]}x{photo.shape[1]}, "
                f"got {labels.shape[0]}x{labels.shape[1]}"
            )
        return self._resized_photo(photo), self._mapped(labels)

    def read_image(self) -> np.ndarray:
        """Read the photo alone, [H, W, 3] uint8.

        Raises:
            ImageError: it is missing or cannot be read.
        """
        return self._resized_photo(self.stored_photo())

    def read_labels(self) -> np.ndarray:
        """Read the labels alone, [H, W] uint8: 0 inlier, 1 anomaly, 255 void.

        Raises:
            ImageError: they are missing or cannot be read, or have unknown values.
        """
        return self._mapped(self.stored_labels())

    def read_instances(self) -> np.ndarray | None:
        """Read the numbers of the objects, [H, W] integer; None without a file of them.

        Among anomalous pixels those of one number are one object, whatever the number; others mean nothing.

        Raises:
            ImageError: the file or the labels cannot be read, or their sizes differ.
        """
        if self.instances is None:
            return None
        numbers, labels = read_labels(self.instances), self.stored_labels()
        if numbers.shape != labels.shape:
            raise ImageError(
                f"instances {self.instances}: expected the size of the labels {labels.shape[0]}x{labels.shape[1]}, "
                f"got {numbers.shape[0]}x{numbers.shape[1]}"
            )
        return self._resized_labels(numbers)

    def stored_photo(self) -> np.ndarray:
        """Read the photo in its own size, turned as its labels are; an overlay is composited.

        Raises:
            ImageError: it cannot be read, or overlay and background do not belong together.
        """
        if self.background is None:
            return read_image(self.photo, upright=self.is_turned())
        return composite(read_image(self.background), self.photo)

    def is_turned(self) -> bool:
        """Whether the photo is turned by its EXIF orientation, so that its labels fit.

        Raises:
            ImageError: photo or labels cannot be read.
        """
        if self.background is not None or self.orientation == "stored":
            return False
        photo = read_header(self.photo)
        if photo.orientation == 1 or self.orientation == "upright":
            return photo.orientation != 1
        size = None if self.label is None else read_header(self.label).size
        return size not in (None, photo.size) and size == photo.upright_size

    def doubtful_orientation(self) -> int | None:
        """Return the photo's EXIF orientation if neither ``orientation`` nor sizes tell how the labels belong to it.

        Raises:
            ImageError: photo or labels cannot be read.
        """
        if self.background is not None or self.orientation is not None:
            return None
        photo = read_header(self.photo)
        sizes_tell = self.label is not None and photo.size != photo.upright_size
        return None if photo.orientation == 1 or sizes_tell else photo.orientation

    def stored_labels(self) -> np.ndarray:
        """Read the labels as stored, neither mapped nor resized.

        Raises:
            ImageError: there is no label file, or it cannot be read.
        """
        if self.label is None:
            raise ImageError(f"{self.id}: expected labels, but this photo has none (a test split?)")
        return read_labels(self.label)

    def _resized_photo(self, photo: np.ndarray) -> np.ndarray:
        if self.size is None or photo.shape[:2] == self.size:
            return photo
        pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float()  # [1, 3, H, W]
        resized = F.interpolate(pixels, self.size, mode="bilinear", align_corners=False)
        return resized[0].permute(1, 2, 0).round().to(torch.uint8).numpy()

    def _mapped(self, labels: np.ndarray) -> np.ndarray:
        try:
            mapped = self.values.map(labels)
        except ValueError as error:
            raise ImageError(f"labels {self.label}: {error}") from error
        return self._resized_labels(mapped)

    def _resized_labels(self, labels: np.ndarray) -> np.ndarray:
        if self.size is None or labels.shape == self.size:
            return labels
        # By their places, since nearest interpolation takes 8 bits and floating point only.
        places = torch.arange(labels.size, dtype=torch.float64).view(1, 1, *labels.shape)
        nearest = F.interpolate(places, self.size, mode="nearest")[0, 0].long().numpy()
        return labels.ravel()[nearest]


def composite(background: np.ndarray, overlay: Path) -> np.ndarray:
    """Composite a photo of Fishyscapes Static: background plus the overlay's signed ``rgb``, clipped to 0..255.

    Args:
        background: [H, W, 3] uint8.
        overlay: npz file with an integer array ``rgb`` [H, W, 3].

    Returns:
        Photo: [H, W, 3] uint8.

    Raises:
        ImageError: the overlay is missing, not an npz file with such an array, or of another size.
    """
    try:
        with np.load(overlay, allow_pickle=False) as file:
            rgb = file["rgb"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ImageError(f"overlay {overlay}: expected an npz file with an array rgb: {error}") from error
    if rgb.shape != background.shape or rgb.dtype.kind not in "iu":
        raise ImageError(
            f"overlay {overlay}: expected integers {list(background.shape)} as the background, "
            f"got {rgb.dtype} {list(rgb.shape)}"
        )
    return np.clip(background.astype(np.int64) + rgb, 0, 255).astype(np.uint8)


def count_values(labels: np.ndarray) -> dict[int, int]:
    """Count the pixels of each label value, in ascending order."""
    if labels.dtype == np.uint8:  # many times faster than to sort
        pixels = np.bincount(labels.ravel(), minlength=256)
        values = np.flatnonzero(pixels)
        return dict(zip(values.tolist(), pixels[values].tolist(), strict=True))
    values, pixels = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def _ranges(values: Iterable[int]) -> str:
    """Format integers as ranges, such as "0, 2..200"."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return listed((str(a) if a == b else f"{a}..{b}" for a, b in runs), 20)
