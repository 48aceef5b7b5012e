"""Read what weight files hold, without running anything in them and without room for numbers that they only promise."""

from __future__ import annotations

import argparse
import io
import math
import mmap
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..io.text import listed

# How a file of torch before 1.6 begins: with a pickled number.
_BEFORE_ZIP = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)

_FORMATS = {".npz": "npz", ".safetensors": "safetensors"}  # by suffix; anything else is of torch
_NAMES = {"npz": "an npz file", "safetensors": "a safetensors file", "torch": "a file of torch.save"}
_SUFFIXES = {"npz": ".npz", "safetensors": ".safetensors", "torch": ".pth"}


def read_weight_file(path: Path) -> Any:
    """Read a file of ``torch.save``, npz or safetensors, on the CPU.

    The format follows from the suffix. Nothing in a file is executed: pickled objects other than tensors, containers,
    numbers and ``argparse.Namespace`` are refused. Tensors of a torch file may be mapped from the file: they are read
    when used.

    Args:
        path: weight file.

    Returns:
        Tensors by name, or whatever a torch file holds around them.

    Raises:
        OSError: there is no such file (``FileNotFoundError``), or it cannot be opened.
        ImportError: a ``.safetensors`` file without that package.
        ValueError: the file is of another format than its suffix says, is cut short or damaged, or promises more
            numbers than it has.
    """
    try:
        with path.open("rb") as file:  # so that a missing file gives the same error in every format
            start = file.read(len(_BEFORE_ZIP))
    except OSError as error:
        raise type(error)(f"weights: expected a weight file, got {path}: {error.strerror}") from error
    wanted, found = _FORMATS.get(path.suffix.lower(), "torch"), _format(path, start)
    if found not in (None, wanted):
        raise ValueError(
            f"weights: expected a weight file that is {_NAMES[wanted]}, as its suffix says, got {path}, which is "
            f"{_NAMES[found]}; give it the suffix {_SUFFIXES[found]}"
        )
    if wanted == "npz":
        return _read_npz(path)
    if wanted == "safetensors":
        return _read_safetensors(path)
    return _read_torch(path, start)


def _format(path: Path, start: bytes) -> str | None:
    """Name the format that a file has by its content; None if that is not clear."""
    if zipfile.is_zipfile(path):
        names = _names(path)
        if any(map(_is_pickle, names)):
            return "torch"
        return "npz" if any(name.endswith(".npy") for name in names) else None
    if start == _BEFORE_ZIP:
        return "torch"
    header = int.from_bytes(start[:8], "little")  # its length
    return "safetensors" if start[8:9] == b"{" and header < path.stat().st_size else None


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # of a damaged archive, which is told when it is read
        return []


def _read_npz(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"weights: expected an npz file, got {path}, which is none or is cut short")
    state, broken = {}, []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                try:
                    state[name] = torch.from_numpy(_array(archive.read(entry)))
                except Exception as error:  # whatever a damaged archive leads zipfile and NumPy to
                    broken.append(f"{name} ({error})")
    except Exception as error:
        raise ValueError(f"weights: expected an npz file, got {path}, which is damaged ({error})") from error
    if broken:
        raise ValueError(f"weights: arrays of {path} cannot be read: {listed(broken)}")
    return state


def _array(content: bytes) -> np.ndarray:
    """Read an npy file; NumPy would make room for all that its header promises."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:  # a later one is for field names beyond Latin-1
        raise ValueError(f"expected version 1 or 2 of the npy format, got {version[0]}")
    shape, _, dtype = headers[version](file)
    promised, there = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if promised > there:
        raise ValueError(f"its header promises {promised} bytes of numbers, the file has {there}")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import torch as safetensors
    except ImportError as error:
        raise ImportError(f"weights: reading {path} needs safetensors: pip install safetensors") from error
    try:
        return safetensors.load_file(path)
    except Exception as error:  # whatever a damaged file leads safetensors to
        raise ValueError(
            f"weights: expected a safetensors file, got {path}, which is none or is cut short ({error})"
        ) from error


def _read_torch(path: Path, start: bytes) -> Any:
    # Only zip archives can be mapped; files of torch before 1.6 are none.
    mapped = zipfile.is_zipfile(path)
    if mapped and (damaged := _damaged(path)):
        raise ValueError(
            f"weights: {path} is damaged: the checksums of {listed(damaged)} do not hold; fetch or copy it again"
        )
    if mapped or start == _BEFORE_ZIP:
        # A number takes a byte or more, in whatever dtype.
        promised, there = _promised_numbers(path, mapped), path.stat().st_size
        if promised > there:
            raise ValueError(
                f"weights: {path} is damaged: it promises {promised} numbers, in a file of {there} bytes; fetch or "
                "copy it again"
            )
    try:
        with _harmless_objects():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if not any(text in str(error) for text in ("Unsupported global", "Unsupported class")):
            raise _not_torch(path, error) from error
        raise ValueError(
            f"weights: {path} holds objects besides tensors, which are not loaded because unpickling them may run any "
            "code; if you trust the file, read it with torch.load(..., weights_only=False) and save its tensors alone"
        ) from error
    except Exception as error:  # whatever a damaged file leads torch to
        raise _not_torch(path, error) from error


def _damaged(path: Path) -> list[str]:
    """List the entries of a zip archive whose checksum does not match their content; torch does not check this."""
    damaged = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.CRC == 0:  # torch.save has an option that leaves the checksums out
                    continue
                try:
                    with archive.open(entry) as content:
                        while content.read(2**20):
                            pass
                except Exception:
                    damaged.append(entry.filename)
    except Exception as error:
        raise _not_torch(path, error) from error
    return damaged


class _Inert:
    """Stands for every object of a pickle: takes whatever the pickle does to it, and does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return object.__new__(cls)

    def _ignore(self, *_args: object) -> None:
        pass

    __call__ = __setstate__ = __setitem__ = append = extend = add = _ignore


# Python's own unpickler: the C one makes room for as many memos as a pickle promises.
class _StorageCounter(pickle._Unpickler):
    """Goes through a pickle without making any of its objects, and notes the numbers that its storages promise."""

    def __init__(self, file: io.BytesIO | mmap.mmap, numbers: dict[str, int]) -> None:
        super().__init__(file)
        self.numbers = numbers  # by the key of the storage

    def find_class(self, _module: str, _name: str) -> type[_Inert]:
        return _Inert

    def persistent_load(self, storage: Any) -> _Inert:
        """Note a storage: the word, its type, its key, its device, its numbers."""
        if isinstance(storage, tuple) and len(storage) > 4 and isinstance(storage[4], int):
            self.numbers[str(storage[2])] = max(storage[4], 0)
        return _Inert()


def _promised_numbers(path: Path, zipped: bool) -> int:
    """Add up the numbers of the storages that a torch file promises."""
    numbers: dict[str, int] = {}
    with suppress(Exception):  # torch refuses such a file, and says why
        for file in _pickles(path, zipped):
            _StorageCounter(file, numbers).load()
    return sum(numbers.values())


def _pickles(path: Path, zipped: bool) -> Iterator[io.BytesIO | mmap.mmap]:
    """Yield the pickles of a torch file, each at its beginning, to be read to its end."""
    if zipped:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                # torch writes it uncompressed, and reads no other.
                if _is_pickle(entry.filename) and entry.compress_type == zipfile.ZIP_STORED:
                    yield io.BytesIO(archive.read(entry))
    else:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for _ in ("magic number", "version", "machine", "tensors"):
                yield content


def _is_pickle(name: str) -> bool:
    """Whether an entry of a torch archive is the one that names its tensors."""
    return name.rpartition("/")[-1] == "data.pkl"


def _not_torch(path: Path, error: Exception) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ValueError(
        f"weights: expected a weight file (of torch.save, or with suffix .npz or .safetensors), got {path}, which is "
        f"none or is cut short ({reason})"
    )


def _harmless_objects() -> AbstractContextManager[None]:
    """Allow the objects that many checkpoints hold besides their tensors: NumPy numbers, such as an accuracy, and the
    arguments of a command."""
    if torch.__version__ < "2.6":  # cannot allow a function under another name than its own
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?")}
    # NumPy 2 moved the function; a file has the name of the NumPy that wrote it.
    places = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    allowed: list[Any] = [*((scalar, place) for place in places), np.dtype, *dtypes, argparse.Namespace]
    return torch.serialization.safe_globals(allowed)
