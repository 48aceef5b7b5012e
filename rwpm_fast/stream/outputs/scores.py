"""Write the scores of a stream: a file for each frame, or one for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...io.extras import import_extra
from ...io.files import UnfinishedFile, atomic_write
from ..result import Outcome, SkippedFrame, StreamResult
from ..summary import Summary
from . import Draw
from .lasting_file import LastingFile

HDF5_SUFFIXES = (".h5", ".hdf5")


class NumpyOutput:
    """A file ``000123.npy`` [H, W] float32 for each scored frame, named by its place in the source.

    Args:
        folder: that exists.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"--save-scores {folder}"
        self._folder = folder

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Write the score of a frame."""
        if isinstance(outcome, StreamResult):
            atomic_write(self._folder / f"{outcome.index:06d}.npy", lambda file: np.save(file, outcome.score))

    def finish(self, summary: Summary) -> None:
        """Every file is whole."""

    def discard(self) -> None:
        """Files that are there are whole, and stay."""


class Hdf5Output:
    """One HDF5 file: ``scores`` [N, H, W] float16 in chunks of a frame, with ``index``, ``seconds``, ``latency`` and
    ``degradations`` of each.

    float16 resolves scores of 16 to 32 in steps of 1/64; the attribute ``largest_rounding_error`` says what was lost.

    Args:
        file: .h5 or .hdf5.

    Raises:
        ImportError: h5py is not installed.
    """

    def __init__(self, file: Path) -> None:
        self._h5py = import_extra("h5py", "--save-scores")
        self.name = f"--save-scores {file}"
        self._file = UnfinishedFile(file)
        self._bytes: LastingFile | None = None
        self._data: Any = None
        self._count = 0
        self._largest_error = 0.0

    def write(self, outcome: Outcome, draw: Draw) -> None:
        """Append the score of a frame.

        Raises:
            ValueError: it has another size than the first, or scores beyond the range of float16.
        """
        if isinstance(outcome, SkippedFrame):
            return
        with np.errstate(over="ignore"):
            score = outcome.score.astype(np.float16)
        if not np.isfinite(score).all():
            raise ValueError(f"expected scores that float16 holds, up to 65504, got {np.abs(outcome.score).max():g}")
        if self._data is None:
            self._open(score.shape)
        scores = self._data["scores"]
        if scores.shape[1:] != score.shape:
            raise ValueError(
                f"expected frames of {list(scores.shape[1:])} as the first, got {list(score.shape)}; "
                "a folder of .npy files takes any sizes"
            )
        row = {
            "scores": score,
            "index": outcome.index,
            "seconds": np.nan if outcome.seconds is None else outcome.seconds,
            "latency": outcome.latency,
            "degradations": ", ".join(outcome.degradations),
        }
        for name, value in row.items():
            self._data[name].resize(self._count + 1, axis=0)
            self._data[name][self._count] = value
        self._count += 1
        error = np.abs(score.astype(np.float32) - outcome.score).max()
        self._largest_error = max(self._largest_error, float(error))
        self._check()

    def finish(self, summary: Summary) -> None:
        """Close the file and give it its name; without any frame there is no file."""
        if self._data is None:
            return
        self._data.attrs["largest_rounding_error"] = self._largest_error
        self._close()
        self._check()
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        self._close()
        self._file.discard()

    def _check(self) -> None:
        if self._bytes is not None and self._bytes.error is not None:
            raise self._bytes.error

    def _close(self) -> None:
        if self._data is not None and self._bytes is not None:
            self._data.close()
            self._bytes.close()

    def _open(self, size: tuple[int, ...]) -> None:
        self._bytes = LastingFile(self._file.temporary)
        self._data = self._h5py.File(self._bytes, "w")
        self._data.create_dataset(
            "scores",
            (0, *size),
            np.float16,
            maxshape=(None, *size),
            chunks=(1, *size),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        types = {"index": np.int64, "seconds": np.float64, "latency": np.float64, "degradations": None}
        for name, dtype in types.items():
            dtype = self._h5py.string_dtype() if dtype is None else dtype
            self._data.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1024,))
