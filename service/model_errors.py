"""What the registry refuses; each kind says its status and its code (`problems`).

ServiceError (SlimpathError)
├── UnknownModel   no such name
├── NotReady       known, but it cannot answer now
└── LoadFailed     a bundle that cannot be opened; what served before still does
"""

from __future__ import annotations

from .errors import ServiceError


class UnknownModel(ServiceError):
    """No model of that name is served here."""

    status, code = 404, "unknown_model"


class NotReady(ServiceError):
    """The model, or the server, cannot answer now."""

    status, code = 503, "not_ready"
    retry_after_s = 1.0


class LoadFailed(ServiceError):
    """A bundle could not be opened. The message holds no path."""

    status, code = 400, "load_failed"
