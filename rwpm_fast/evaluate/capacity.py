"""Whether memory holds the score maps, and where they go without a cache folder if it does not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ..data import Frame
from ..io.images import ImageError, read_header
from ..memory import available_memory
from .cache import Cache, MemoryCache, TemporaryCache
from .config import ConfigError
from .distributed import Processes

_SHARE = 0.5  # of the memory that is available; network, walk and metrics take some too
_SAMPLES = 32  # photos whose size is read


def make_cache(frames: Sequence[Frame], maps: int, processes: Processes, on_remark: Callable[[str], object]) -> Cache:
    """Make a cache with room for the score maps of all frames, before any is scored.

    Args:
        frames: those of all processes.
        maps: number of maps of a photo.
        processes: the processes that share the frames; all make this call, and use one folder if any.
        on_remark: told in the first process where the maps go, if not to memory.

    Raises:
        ConfigError: there is room neither in memory nor in the temporary folder.
    """
    folder = None
    if processes.first:
        need = score_map_bytes(frames, maps)
        # The processes of a machine share its memory and its disk.
        need = need * int(os.environ.get("LOCAL_WORLD_SIZE", processes.count)) // processes.count
        memory = available_memory()
        if need > _SHARE * memory:
            folder = _temporary_folder(len(frames), need, memory)
            on_remark(
                f"the score maps of {len(frames)} photos take some {_gib(need)}, {_gib(memory)} of memory are "
                f"available: they are in {folder} until the end (if it does not come: --cache {folder} goes on)"
            )
    folder = processes.broadcast(folder)
    if folder is None:
        return MemoryCache()
    folder.mkdir(exist_ok=True)  # on the other machines
    return TemporaryCache(folder)


def announce_passes(frames: Sequence[Frame], maps: int, on_remark: Callable[[str], object]) -> None:
    """Say that maps in files are read twice, where memory would not hold them.

    Args:
        frames: those of all processes.
        maps: number of maps of a photo.
        on_remark: told so.
    """
    need, memory = score_map_bytes(frames, maps), available_memory()
    if need > _SHARE * memory:
        on_remark(
            f"the score maps of {len(frames)} photos take some {_gib(need)}, {_gib(memory)} of memory are available: "
            "exact metrics take two passes over the files, and hold the scores of anomalies only"
        )


def score_map_bytes(frames: Sequence[Frame], maps: int) -> int:
    """Estimate the bytes of the score maps of frames, by the headers of some of their photos.

    Args:
        frames: the frames.
        maps: number of maps of a photo.
    """
    pixels = []
    for frame in frames[:: max(1, len(frames) // _SAMPLES)]:
        try:
            height, width = frame.size or read_header(frame.background or frame.photo).size
        except ImageError:
            continue  # told when its turn comes
        pixels.append(height * width)
    return 4 * maps * len(frames) * sum(pixels) // max(1, len(pixels))


def _temporary_folder(photos: int, need: int, memory: int) -> Path:
    """Make a folder for so many bytes."""
    # /tmp may itself be memory; /var/tmp is for what is large.
    base = os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())
    free = shutil.disk_usage(base).free
    if need > free:
        facts = {"photos": photos, "need": _gib(need), "memory": _gib(memory), "base": base, "free": _gib(free)}
        raise ConfigError(
            "{cache}: the score maps of {photos} photos take some {need}; {memory} of memory and {free} in {base} are "
            "free; name a folder with room, or evaluate fewer photos by {limit}",
            facts,
        )
    return Path(tempfile.mkdtemp(prefix="rwpm-maps-", dir=base))


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
