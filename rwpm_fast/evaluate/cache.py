"""What scorers gave for photos, kept in a folder or in memory, so that what was cut off goes on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from .. import __version__
from ..info import isa
from ..io.files import atomic_write
from ..networks import Network
from ..networks.digest import tensor_digest, weights_digest
from ..scoring.scorer import Scorer, device_of


class Store(Protocol):
    """Arrays by key and name."""

    def __contains__(self, key: str) -> bool: ...

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None: ...

    def get(self, key: str, name: str) -> np.ndarray: ...


class Memory:
    """A store that lasts as long as this object."""

    def __init__(self) -> None:
        self._kept: dict[str, Mapping[str, np.ndarray]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._kept[key] = arrays

    def get(self, key: str, name: str) -> np.ndarray:
        return self._kept[key][name]


class Folder:
    """A store of one ``.npz`` file a key, each written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, key: str) -> bool:
        return zipfile.is_zipfile(self._file(key))  # what was cut short elsewhere, by a copy say, is made anew

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the file.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        atomic_write(self._file(key), lambda file: np.savez(file, **arrays))

    def get(self, key: str, name: str) -> np.ndarray:
        """Read an array.

        Raises:
            OSError: the file is damaged.
        """
        try:
            with np.load(self._file(key)) as file:
                return file[name]
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            raise OSError(f"{self._file(key)}: damaged ({error}); delete it and run again") from error

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.npz"


def identity(network: Network, scores: Sequence[str]) -> bytes:
    """Digest of all but photo and walk that makes maps and times what they are."""
    settings = {name: value for name, value in vars(network).items() if isinstance(value, (str, bool))}
    photo = torch.arange(3 * 64 * 96, dtype=torch.int32).remainder(251).to(torch.uint8).reshape(1, 3, 64, 96)
    return _digest(
        {
            "versions": [__version__, torch.__version__],
            "isa": isa(),
            "threads": torch.get_num_threads(),
            "device": device_of(network).type,
            "network": [network.name, settings],
            "weights": weights_digest(network),
            # The functions and numbers behind it have no names to ask for.
            "preprocessing": tensor_digest(network.preprocess(photo.to(device_of(network)))),
            "scores": sorted(scores),
        }
    )


def walk_identity(scorer: Scorer) -> bytes:
    """Digest of a scorer's walk, which its ``repr`` stands for; without a walk its settings do not matter."""
    settings = [scorer.walk_values, scorer.calibrated, scorer.walk_padding]
    return _digest([repr(scorer.walk), *(settings if scorer.walk is not None else [])])


def key(frame_id: str, photo: np.ndarray, *identities: bytes) -> str:
    """Key of what a photo gave."""
    digest = hashlib.sha256(b"".join(identities) + str(photo.shape).encode() + photo.tobytes()).hexdigest()
    return f"{frame_id}-{digest[:16]}"


def _digest(facts: object) -> bytes:
    return hashlib.sha256(json.dumps(facts).encode()).digest()
