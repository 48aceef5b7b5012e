"""Who may ask, and what every answer says: the check of hosts and origins, rates, and the headers of security."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

from .limits import Limits, Rate, Refusal

SECURITY_HEADERS = {
    # Everything comes from this server; blob: is a photo that the visitor has chosen.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this machine as it sees itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_allowed(header: str, bound: str) -> bool:
    """Whether a request's Host header names this server, and not a name that somebody points at it (DNS rebinding).

    Args:
        header: value of the header.
        bound: the host that the server listens on. On loopback only loopback's names are taken; elsewhere addresses,
            which nobody can rebind, and ``bound`` itself.
    """
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if is_loopback(host) or host == bound.lower():
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not is_loopback(bound)


def foreign(headers: dict[str, str], path: str) -> bool:
    """Whether another site's page makes the request, by what browsers say of it. A link to the page itself is none.

    Args:
        headers: of the request, names in lower case. Programs that are no browsers send neither of the two.
        path: of the request.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None and origin not in (f"http://{headers.get('host')}", f"https://{headers.get('host')}"):
        return True
    followed = path == "/" and headers.get("sec-fetch-mode") == "navigate"
    return site not in ("same-origin", "none") and not followed


class Guard:
    """ASGI application around another: refuses what is not meant for it, and adds headers to every answer.

    Args:
        app: the application.
        bound: the host that the server listens on.
        limits: of the server.
    """

    def __init__(self, app: Any, bound: str, limits: Limits) -> None:
        self._app, self._bound = app, bound
        self._rate = Rate(limits.requests_a_second, max(1.0, 2 * limits.requests_a_second), limits.clients)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, or the start and the end of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def guarded_send(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name.lower() for name, _ in message["headers"]}
                extra = {"cache-control": "no-store", **SECURITY_HEADERS}
                more = [(name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, guarded_send)
        except Refusal as refusal:
            await _send_refusal(refusal, guarded_send)
        except asyncio.CancelledError:
            if started:
                raise
            await _send_refusal(Refusal(503, "the server is ending"), guarded_send)

    def _check(self, scope: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not host_allowed(headers.get("host", ""), self._bound):
            raise Refusal(421, "host: expected this server's own address; open the one that it printed")
        if foreign(headers, scope["path"]):
            raise Refusal(403, "another site's page may not use this server; open the server's own page")
        if self._rate.take(scope["client"][0] if scope.get("client") else ""):
            raise Refusal(429, "too many requests; wait a second")


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    """Headers of a refusal: its connection ends, since the body of the request may not have been read."""
    return {"connection": "close", **({"retry-after": "1"} if refusal.status in (429, 503) else {})}


async def _send_refusal(refusal: Refusal, send: Any) -> None:
    body = json.dumps({"error": refusal.message}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **refusal_headers(refusal)}
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
