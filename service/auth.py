"""Who may call: API keys, checked before a body is read. Closed unless a path is listed as open.

The path is that of the request line (`scope["path"]`), never one rebuilt from a Host header.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from .auth_keys import KeyRing, read_keys
from .errors import HttpError
from .problems import problem_of, send_problem
from .settings import AuthSettings

PROBES = frozenset(("/v2/health/live", "/v2/health/ready"))
METRICS = "/metrics"
ADMIN_PREFIX = "/v2/repository/models/"


class Auth:
    """ASGI middleware. Puts `client`, whom fairness and logs count by, into the request's state.

    Args:
        open_paths: that need no key besides the health probes: the page's files, none of which says anything secret.
    """

    def __init__(self, app: Any, settings: AuthSettings, open_paths: Collection[str] = ()) -> None:
        self.app = app
        self.settings = settings
        self.keys = read_keys(settings)
        self.open_paths = PROBES.union(open_paths)

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "http":
            try:
                name = self._admit(scope)
            except HttpError as error:
                await send_problem(problem_of(error), scope, send, close=True)
                return
            address = scope["client"][0] if scope.get("client") else "unknown"
            scope.setdefault("state", {})["client"] = f"key:{name}" if name else f"address:{address}"
        await self.app(scope, receive, send)

    def _admit(self, scope: Any) -> str | None:
        """The name of the caller's key, None where none is needed.

        Raises:
            HttpError: 401 or 403.
        """
        path: str = scope["path"]
        if path in self.open_paths:
            return None
        if path.startswith(ADMIN_PREFIX):
            if not self.settings.admin:
                raise HttpError(403, "admin_off", "loading and unloading over HTTP is off", hint="start with --admin")
            rings = (self.keys.admin,) if self.keys.admin else (self.keys.api,)
        elif path == METRICS:
            if self.settings.public_metrics:
                return None
            rings = (self.keys.metrics,) if self.keys.metrics else (self.keys.api,)
        else:
            rings = (self.keys.api,)
        return _check(rings, scope["headers"])


def _check(rings: tuple[KeyRing, ...], headers: list[tuple[bytes, bytes]]) -> str | None:
    if not any(rings):
        return None
    key = _given_key(headers)
    if key is None:
        raise _unauthorised("key_missing", "this server needs an API key")
    for ring in rings:
        if (name := ring.find(key)) is not None:
            return name
    raise _unauthorised("key_unknown", "this API key is not known, or not for this path")


def _given_key(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            return value.strip().decode("latin-1")
    return None


def _unauthorised(code: str, message: str) -> HttpError:
    return HttpError(
        401, code, message, hint="send it as Authorization: Bearer KEY, or as X-API-Key: KEY",
        headers={"WWW-Authenticate": "Bearer"},
    )  # fmt: skip
