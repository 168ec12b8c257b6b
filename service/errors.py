"""Errors of the service itself.

ServiceError (SlimpathError)
├── SettingsError    settings that cannot be used
└── HttpError        a request that is refused, with its status and its code
"""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.errors import SlimpathError


class ServiceError(SlimpathError):
    """The service cannot do what was asked."""


class SettingsError(ServiceError):
    """A setting, or several together, cannot be used."""


class HttpError(ServiceError):
    """A request is refused.

    Args:
        status: of HTTP.
        code: a stable word for programs, as in the table of docs/service.md.
        headers: to send along.
    """

    def __init__(
        self, status: int, code: str, message: str, *, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
