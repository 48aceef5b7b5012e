"""What the server answers: the page's files, photos and samples, maps and neighbors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import __version__
from ..io.text import listed
from ..memory import is_out_of_memory
from ..ops.maps import Walk
from ..ops.settings import WalkSettings
from ..scoring.scorer import Scorer
from .guard import Guard, refusal_headers
from .limits import Limits, Rate, Refusal
from .photos import decode_upload
from .samples import MAX_SEED, sample
from .session import Picture, Session, Sessions
from .worker import Gone, Worker

Result = TypeVar("Result")

PAGE_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DRAINED = 4  # times the limit of an upload
SETTINGS: dict[str, type] = {
    "alpha": float,
    "steps": int,
    "temperature": float,
    "parts": int,
    "tolerance": float,
    "anchor_share": float,
}


def page_files() -> dict[str, tuple[bytes, str]]:
    """Read the page's files, content and media type by name."""
    found = {}
    for file in files(__package__).joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in PAGE_TYPES:
            found[file.name] = (file.read_bytes(), PAGE_TYPES[suffix])
    return found


class PageServer:
    """The application of one scorer.

    Args:
        scorer: its walk's settings are those that the page begins with.
        bound: the host that the server listens on.
        limits: of the server.
        sample_size: height and width of the rendered streets.

    Attributes:
        app: the ASGI application.
        sessions: the photos that are kept.
    """

    def __init__(
        self, scorer: Scorer, bound: str, limits: Limits, *, sample_size: tuple[int, int] = (512, 1024)
    ) -> None:
        assert isinstance(scorer.walk, Walk)
        self._scorer, self._limits, self._sample_size = scorer, limits, sample_size
        self._defaults = scorer.walk.settings
        self._worker = Worker(limits.waiting)
        self._photo_rate = Rate(limits.photos_a_minute / 60, max(1.0, limits.photos_a_minute / 2), limits.clients)
        self._files = page_files()
        self._uploads_bytes = 0  # in memory
        self.sessions = Sessions(limits.sessions)
        routes = [
            Route("/", self._file),
            Route("/page/{name}", self._file),
            Route("/api/about", self._about),
            Route("/api/photos", self._upload, methods=["POST"]),
            Route("/api/samples/{seed}", self._sample, methods=["POST"]),
            Route("/api/photos/{id}/photo.jpg", self._photo),
            Route("/api/photos/{id}/plain", self._plain),
            Route("/api/photos/{id}/walked", self._walked),
            Route("/api/photos/{id}/neighbors", self._neighbors),
        ]
        handlers: dict[Any, Any] = {Refusal: _refused, Gone: _left, 404: _not_found, 405: _not_found}
        self.app = Guard(Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers), bound, limits)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._worker.submit(self._warm_up)
        yield
        await asyncio.to_thread(self._worker.close)

    def _warm_up(self) -> None:
        """Render the first street and score it once, so that the first visitor does not wait for first calls."""
        session = Session(self._scorer, sample(0, self._sample_size), self._limits)
        session.walked_map(self._defaults)

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            raise Refusal(404, f"there is no file {name}")
        content, media_type = self._files[name]
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})

    async def _about(self, _request: Request) -> Response:
        limits = self._limits
        return JSONResponse(
            {
                "version": __version__,
                "network": self._scorer.network.name,
                "score": self._scorer.score,
                "classes": self._scorer.network.classes,
                "defaults": {name: getattr(self._defaults, name) for name in SETTINGS},
                "most": {"steps": limits.steps, "parts": limits.parts, "upload_bytes": limits.upload_bytes},
            }
        )

    async def _upload(self, request: Request) -> Response:
        self._take_photo(request)
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise Refusal(415, "the upload: expected the photo's file as the body of the request, got a form")
        body = bytearray()

        def open_photo() -> Session:
            photo, size = decode_upload(body, self._limits)
            return Session(self._scorer, Picture("Your photo", photo, None, size), self._limits)

        try:
            await self._read(request, body)
            return await self._open(request, open_photo)
        finally:
            self._uploads_bytes -= len(body)

    async def _sample(self, request: Request) -> Response:
        self._take_photo(request)
        text = request.path_params["seed"]
        if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= MAX_SEED):
            raise Refusal(404, f"street: expected a number from 0 to {MAX_SEED}, got {text[:20]}")
        seed = int(text)
        return await self._open(request, lambda: Session(self._scorer, sample(seed, self._sample_size), self._limits))

    def _take_photo(self, request: Request) -> None:
        if self._photo_rate.take(request.client.host if request.client else ""):
            raise Refusal(429, "too many photos; wait a few seconds")

    async def _open(self, request: Request, job: Callable[[], Session]) -> Response:
        session = await self._compute(request, job)
        self.sessions.add(session)
        return JSONResponse(session.about(), status_code=201)

    async def _photo(self, request: Request) -> Response:
        session = self._session(request)
        return Response(await self._compute(request, lambda: session.jpeg), media_type="image/jpeg")

    async def _plain(self, request: Request) -> Response:
        return _binary(await self._compute(request, self._session(request).plain_map))

    async def _walked(self, request: Request) -> Response:
        settings = self._settings(request)
        return _binary(await self._compute(request, partial(self._session(request).walked_map, settings)))

    async def _neighbors(self, request: Request) -> Response:
        place = [_number(name, request.query_params.get(name, ""), int) for name in ("row", "column")]
        job = partial(self._session(request).neighbors, self._settings(request), *place)
        found = await self._compute(request, job)
        return JSONResponse({"own_weight": found.own_weight, "neighbors": found.neighbors, "half": found.half})

    def _session(self, request: Request) -> Session:
        return self.sessions.get(request.path_params["id"])

    def _settings(self, request: Request) -> WalkSettings:
        """Settings of the walk in a query; what it leaves out is the page's default."""
        query = request.query_params
        if unknown := query.keys() - SETTINGS.keys() - {"row", "column"}:
            names = listed(sorted(name[:32] for name in unknown), 5)
            raise Refusal(422, f"{names}: expected settings out of {', '.join(SETTINGS)}")
        given = {name: _number(name, query[name], kind) for name, kind in SETTINGS.items() if name in query}
        if "anchor_share" in given:
            given["anchor"] = -1.0
        try:
            settings = replace(self._defaults, **given)
        except (TypeError, ValueError) as error:
            raise Refusal(422, str(error)) from error
        for name in ("steps", "parts"):
            if getattr(settings, name) > getattr(self._limits, name):
                got = getattr(settings, name)
                raise Refusal(422, f"{name}: expected at most {getattr(self._limits, name)} on this page, got {got}")
        return settings

    async def _read(self, request: Request, body: bytearray) -> None:
        """Read the body of a request, up to the limits of size and time; ``_uploads_bytes`` counts it."""
        limits = self._limits
        most = limits.upload_bytes
        too_large = Refusal(413, f"the upload: expected at most {most / 2**20:g} MiB; make the photo smaller")

        async def read() -> None:
            # What is somewhat too large is read to its end: a client that is still sending would not see the answer.
            if int(request.headers.get("content-length", "0")) > _DRAINED * most:
                raise too_large
            received = 0
            async for chunk in request.stream():
                received += len(chunk)
                if received > _DRAINED * most:
                    raise too_large
                if received > most:
                    continue
                if self._uploads_bytes + len(chunk) > limits.uploads_bytes:
                    raise Refusal(503, "the server is busy with other uploads; wait a second and try again")
                body.extend(chunk)
                self._uploads_bytes += len(chunk)
            if received > most:
                raise too_large

        try:
            await asyncio.wait_for(read(), limits.upload_seconds)
        except asyncio.TimeoutError:
            raise Refusal(408, f"the upload took more than {limits.upload_seconds:g} s") from None
        except ClientDisconnect:
            raise Gone from None

    async def _compute(self, request: Request, job: Callable[[], Result]) -> Result:
        """Run a job in the worker, unless the client leaves first."""
        try:
            return await self._worker.run(job, _disconnected(request))
        except ValueError as error:  # settings that do not fit the photo, or a network that cannot take it
            raise Refusal(422, str(error)) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise Refusal(503, "the server has no memory left for this photo and these settings") from error


async def _disconnected(request: Request) -> None:
    """Wait until the client leaves; the body is read or left out."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _number(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text[:32])
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise Refusal(422, f"{name}: expected {what}, got {text[:32]!r}") from None


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


async def _refused(_request: Request, refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.message}, refusal.status, headers=refusal_headers(refusal))


async def _left(request: Request, _error: Gone) -> Response:
    return await _refused(request, Refusal(499, "the client has left"))  # read by nobody


async def _not_found(request: Request, _error: Exception) -> Response:
    return await _refused(request, Refusal(404, "there is nothing here"))
