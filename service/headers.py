"""What every answer says to browsers, and which host names are answered.

A web page anywhere can make a browser call a server that only listens on this machine, by a name that resolves to
127.0.0.1 (DNS rebinding). So such a server answers to its own names only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .errors import HttpError
from .problems import problem_of, send_problem
from .settings import ServerSettings
from .settings_check import is_loopback

# The page's scripts and styles are files of their own; its pictures are made by the browser (data:, blob:).
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class Headers:
    """ASGI middleware: security headers on every answer, foreign host names refused."""

    def __init__(self, app: Any, settings: ServerSettings) -> None:
        self.app = app
        self.hosts = allowed_hosts(settings)
        self._headers = [(name.encode(), value.encode()) for name, value in security_headers(settings).items()]

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent = message.get("headers") or []
                names = {name for name, _ in sent}
                added = [header for header in self._headers if header[0] not in names]
                message = {**message, "headers": [*sent, *added]}
            await send(message)

        if self.hosts is not None and _host_of(scope) not in self.hosts:
            error = HttpError(
                400, "unknown_host", "this server is not called by that name",
                hint="call it by its own name, or allow this one with --allowed-hosts",
            )  # fmt: skip
            await send_problem(problem_of(error), scope, send_on, close=True)
            return
        await self.app(scope, receive, send_on)


def allowed_hosts(settings: ServerSettings) -> frozenset[str] | None:
    """Host names that are answered, None for any."""
    if settings.allowed_hosts:
        return None if "*" in settings.allowed_hosts else frozenset(name.lower() for name in settings.allowed_hosts)
    return frozenset((*LOOPBACK_HOSTS, settings.host.lower())) if is_loopback(settings.host) else None


def _host_of(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1").strip().lower()
            without_port, colon, port = host.rpartition(":")
            return without_port if colon and port.isdigit() else host
    return ""


def security_headers(settings: ServerSettings) -> dict[str, str]:
    """What every answer says, by lower-case names."""
    headers = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "permissions-policy": "camera=(self), microphone=(), geolocation=()",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "cross-origin" if settings.cors_origins else "same-origin",
        "cache-control": "no-store",
    }
    if settings.tls_cert:
        headers["strict-transport-security"] = "max-age=31536000"
    return headers
