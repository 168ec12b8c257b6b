"""What a Client raises.

ServiceError (SlimpathError)
├── ConnectionFailed      no answer came: nothing listens, a broken connection, the client's own timeout
└── ServerError           an answer other than 200; `status`, `code`, `retry_after_s`
    ├── RequestRefused    400, 404, 413, 415, 422: the request has to change
    ├── KeyRefused        401, 403
    ├── ServerBusy        429, 503: the same request may do later, see `retry_after_s`
    └── DeadlineMissed    504
"""

from __future__ import annotations

import msgspec

from .errors import ServiceError
from .v1.schemas import ErrorAnswer


class ConnectionFailed(ServiceError):
    """There is no answer."""


class ServerError(ServiceError):
    """The server did not answer as asked.

    Args:
        status: of HTTP.
        code: the server's word for it.
        retry_after_s: when to try again, where the server says so.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class RequestRefused(ServerError):
    """The request cannot be answered as it is."""


class KeyRefused(ServerError):
    """The API key is missing, unknown, or not for this."""


class ServerBusy(ServerError):
    """Not now."""


class DeadlineMissed(ServerError):
    """Accepted, and not answered in time."""


_KINDS: dict[int, type[ServerError]] = {
    400: RequestRefused, 404: RequestRefused, 413: RequestRefused, 415: RequestRefused, 422: RequestRefused,
    401: KeyRefused, 403: KeyRefused, 429: ServerBusy, 503: ServerBusy, 504: DeadlineMissed,
}  # fmt: skip


def error_of(status: int, body: bytes, retry_after: str | None) -> ServerError:
    """The error for an answer."""
    try:
        detail = msgspec.json.decode(body, type=ErrorAnswer).error
        code, message = detail.code, detail.message
    except (msgspec.DecodeError, UnicodeDecodeError):  # a proxy's page
        code, message = "unknown", f"status {status}: {body[:200].decode('utf-8', 'replace')}"
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return _KINDS.get(status, ServerError)(status, code, message, retry_after_s=seconds)
