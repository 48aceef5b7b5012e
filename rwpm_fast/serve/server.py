"""Run the application on a socket: time limits of connections, signals, a clean end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits


def timed_protocol(limits: Limits) -> type[H11Protocol]:
    """Return uvicorn's protocol with limits of time, since by itself it waits for ever: for a request's head, its body,
    and a client that does not take its answer.

    Args:
        limits: of the server.
    """

    class TimedProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._reading: asyncio.TimerHandle | None = None
            self._writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._reading = self.loop.call_later(limits.head_seconds, transport.abort)

        def data_received(self, data: bytes) -> None:
            before = self.conn.their_state
            super().data_received(data)
            state = self.conn.their_state
            if state is before and self._reading is not None:
                return  # more of the same: its time goes on
            self._stop("_reading")
            if state is h11.IDLE:  # the head of the next request has begun
                self._reading = self.loop.call_later(limits.head_seconds, self.transport.abort)
            elif state is h11.SEND_BODY:  # the application answers after upload_seconds; this is for one that cannot
                self._reading = self.loop.call_later(limits.upload_seconds + 5, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop("_writing")
            self._writing = self.loop.call_later(limits.answer_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop("_writing")

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop("_reading")
            self._stop("_writing")
            super().connection_lost(exc)

        def shutdown(self) -> None:
            super().shutdown()
            if self._reading is not None:  # a request that may never be whole is not waited for
                self.transport.abort()

        def _stop(self, timer: str) -> None:
            handle = getattr(self, timer)
            if handle is not None:
                handle.cancel()
            setattr(self, timer, None)

    return TimedProtocol


def listen(host: str, port: int) -> socket.socket:
    """Open the socket of a server.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Raises:
        OSError: the port is in use, or there is no such host.
        ValueError: no such port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port: expected 0 to 65535, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OSError(f"--host {host} --port {port}: {error.strerror or error}; choose another") from error


def make_server(app: Any, limits: Limits) -> Server:
    """Make the server of an application; ``run(sockets=[...])`` ends at SIGINT and SIGTERM.

    Args:
        app: the ASGI application.
        limits: of the server.
    """
    return Server(
        Config(
            app,
            http=timed_protocol(limits),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=limits.end_seconds,
            h11_max_incomplete_event_size=16 * 1024,
        )
    )
