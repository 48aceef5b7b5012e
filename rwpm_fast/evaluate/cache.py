"""Cache of what scorers found in images, in memory or in a folder, so that an interrupted sweep can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from .. import __version__
from ..info import isa
from ..io.files import atomic_write
from ..networks.base import Network, device_of
from ..networks.digest import tensor_digest, weights_digest
from ..scoring.scorer import Scorer

_FORMAT = 3  # of the files of DiskCache; files of another format have other keys


@dataclass(frozen=True, eq=False)
class CacheEntry:
    """What a scorer found in an image.

    Attributes:
        score_maps: name of a score to its map [H, W] float32.
        network_seconds: time of the network, before and after the walk, and of SynBoost's chain where there is one.
        walk_seconds: time of the walk; 0 without one.
        own_weights: weight of every map pixel's own value in the anchored walk, [h, w] float32; None without an anchor.
    """

    score_maps: Mapping[str, np.ndarray]
    network_seconds: float
    walk_seconds: float
    own_weights: np.ndarray | None = None


class MapStore(Protocol):
    """Score maps by key, wherever they are from."""

    def score_map(self, key: str, score: str) -> np.ndarray:
        """Return the map [H, W] of a score, floating point."""

    def own_weights(self, key: str) -> np.ndarray | None:
        """Return the weights [h, w] of the anchored walk; None without an anchor."""


class Cache(MapStore, Protocol):
    """Entries by key, as :func:`cache_key` makes it."""

    def __contains__(self, key: str) -> bool: ...

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry."""

    def seconds(self, key: str) -> tuple[float, float]:
        """Return the times of network and walk."""


class MemoryCache:
    """A cache that lasts as long as this object. Its entries stay in this process: a pickled copy is empty."""

    def __init__(self) -> None:
        self._entries: dict[str, CacheEntry] = {}

    def __reduce__(self) -> tuple:
        return MemoryCache, ()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry."""
        self._entries[key] = entry

    def score_map(self, key: str, score: str) -> np.ndarray:
        """Return the map [H, W] float32 of a score.

        Raises:
            OSError: another process made the entry.
        """
        return self._entry(key).score_maps[score]

    def own_weights(self, key: str) -> np.ndarray | None:
        """Return the weights [h, w] of the anchored walk; None without an anchor.

        Raises:
            OSError: another process made the entry.
        """
        return self._entry(key).own_weights

    def seconds(self, key: str) -> tuple[float, float]:
        """Return the times of network and walk.

        Raises:
            OSError: another process made the entry.
        """
        entry = self._entry(key)
        return entry.network_seconds, entry.walk_seconds

    def _entry(self, key: str) -> CacheEntry:
        if key not in self._entries:
            raise OSError(f"{key}: only in the memory of the process that made it; give a cache folder to share it")
        return self._entries[key]


class DiskCache:
    """A cache of one ``.npz`` file per key, each written atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, key: str) -> bool:
        return zipfile.is_zipfile(self._file(key))  # a truncated file, such as of an interrupted copy, is replaced

    def put(self, key: str, entry: CacheEntry) -> None:
        """Write an entry.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        seconds = np.array([entry.network_seconds, entry.walk_seconds])
        arrays: dict[str, Any] = {_array_name(score): score_map for score, score_map in entry.score_maps.items()}
        if entry.own_weights is not None:
            arrays["own_weights"] = entry.own_weights
        atomic_write(self._file(key), lambda file: np.savez(file, **arrays, seconds=seconds))

    def score_map(self, key: str, score: str) -> np.ndarray:
        """Read the map [H, W] float32 of a score.

        Raises:
            OSError: the file is missing or damaged.
        """
        return self._read(key, _array_name(score))

    def own_weights(self, key: str) -> np.ndarray | None:
        """Read the weights [h, w] of the anchored walk; None without an anchor.

        Raises:
            OSError: the file is missing or damaged.
        """
        return self._read(key, "own_weights", missing=True)

    def seconds(self, key: str) -> tuple[float, float]:
        """Read the times of network and walk.

        Raises:
            OSError: the file is missing or damaged.
        """
        network, walk = self._read(key, "seconds")
        return float(network), float(walk)

    def _read(self, key: str, array: str, *, missing: bool = False) -> Any:
        """Read an array; None if it is ``missing`` and may be."""
        try:
            with np.load(self._file(key)) as file:
                return None if missing and array not in file else file[array]
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            raise OSError(f"{self._file(key)}: damaged ({error}); delete it and run again") from error

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.npz"


class TemporaryCache(DiskCache):
    """A cache in a folder that goes with this object. A pickled copy is empty, as that of a cache in memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._removal = weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)

    def __reduce__(self) -> tuple:
        return MemoryCache, ()

    def keep(self) -> None:
        """Leave the folder, such as for a run that goes on where this one failed."""
        self._removal.detach()


def _array_name(score: str) -> str:
    """Return the name of a score map in a file, where it cannot be mistaken for the times."""
    return f"score_{score}"


def fingerprint(network: Network, scores: Sequence[str]) -> bytes:
    """Digest everything but image and walk that score maps and times depend on."""
    settings = {name: value for name, value in vars(network).items() if isinstance(value, (str, bool))}
    photo = torch.arange(3 * 64 * 96, dtype=torch.int32).remainder(251).to(torch.uint8).reshape(1, 3, 64, 96)
    return _digest(
        {
            "format": _FORMAT,
            "versions": [__version__, torch.__version__],
            "isa": isa(),
            "threads": torch.get_num_threads(),
            "device": device_of(network).type,
            "network": [network.name, settings, network.padded_size((61, 93))],  # a size that no padding divides
            "weights": weights_digest(network),
            # Functions and constants of the preprocessing cannot be digested; its result for one image can.
            "preprocessing": tensor_digest(network.preprocess(photo.to(device_of(network)))),
            "scores": sorted(scores),
        }
    )


def walk_fingerprint(scorer: Scorer) -> bytes:
    """Digest a scorer's walk, which its ``repr`` describes, and what else its scores depend on besides the network;
    without a walk its other settings do not matter."""
    settings = [scorer.walk_values, scorer.calibrated, scorer.walk_padding] if scorer.walk is not None else []
    identity = scorer.identity()
    return _digest([repr(scorer.walk), *settings, *([identity] if identity else [])])


def cache_key(frame_id: str, photo: np.ndarray, *fingerprints: bytes) -> str:
    """Make the key of a scorer's entry for an image.

    Args:
        frame_id: id of the frame, whose beginning leads the key, for people; the rest tells entries apart.
        photo: [H, W, 3] uint8.
        fingerprints: of :func:`fingerprint` and :func:`walk_fingerprint`.
    """
    digest = hashlib.sha256(b"".join(fingerprints) + str(photo.shape).encode() + photo.tobytes()).hexdigest()
    return f"{_beginning(frame_id)}-{digest[:16]}"


def _beginning(name: str) -> str:
    """Cut a name to a hundred bytes, since the names of files are limited, on some file systems to 143."""
    return os.fsencode(name)[:100].decode(errors="ignore")


def _digest(facts: object) -> bytes:
    return hashlib.sha256(json.dumps(facts).encode()).digest()
