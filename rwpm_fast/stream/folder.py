"""Photos of a folder or a glob pattern as the frames of a video."""

from __future__ import annotations

from collections.abc import Generator

from ..io.images import ImageError, list_images, read_image
from ..io.listing import unused_text
from .base import Source, SourceError
from .frame import BrokenFrame, SourceInfo, VideoFrame


class FolderSource(Source):
    """The photos of a folder, a pattern or a file, in natural order, turned upright.

    Args:
        name: the folder, pattern or file.
        rate: frames per second, which gives the time stamps; None for frames without.

    Raises:
        ImportError: Pillow is missing.
        SourceError: there is no photo.
        ValueError: the rate is not positive.
    """

    def __init__(self, name: str, rate: float | None = None) -> None:
        try:
            listing = list_images(name)
        except ImageError as error:
            raise SourceError(str(error)) from error
        self._photos = listing.used
        self._rate = rate
        notes = [unused_text(listing.unused)] if listing.unused else []
        super().__init__(SourceInfo(name, "frames", "Pillow", rate=rate, frames=len(self._photos), notes=notes))

    def _frames(self) -> Generator[VideoFrame | BrokenFrame, None, None]:
        broken = 0
        for index, path in enumerate(self._photos):
            seconds = None if self._rate is None else index / self._rate
            try:
                photo = read_image(path, upright=True)
            except ImageError as error:
                broken += 1
                yield BrokenFrame(index, seconds, str(error))
            else:
                yield VideoFrame(index, seconds, photo)
        if broken:
            self.info.notes.append(f"{broken} of {len(self._photos)} frames are broken")

    def _release(self) -> None:
        """Between frames no file is open."""
