"""What the load generator refuses.

LoadTestError (ServiceError)
├── TraceError     a trace that cannot be read or made
├── TargetError    a URL that is none, or a server that does not answer at all
└── ProtocolError  an answer that is not HTTP
"""

from __future__ import annotations

from ..errors import ServiceError


class LoadTestError(ServiceError):
    """The load test cannot be run."""


class TraceError(LoadTestError):
    """A trace that cannot be read or made."""


class TargetError(LoadTestError):
    """No such server."""


class ProtocolError(LoadTestError):
    """What came back is not HTTP, or ended too early."""
