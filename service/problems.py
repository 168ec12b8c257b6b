"""Any error -> what the client is told: a status, a stable code, one sentence without anything of this machine in it.

Under /v1 (and everywhere but /v2) the body is {"error": {"code", "message"}}, under /v2 {"error": "<text>"}, where bad
input is always 400: that is what clients of the Open Inference Protocol read.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from ..runtime.errors import (
    BudgetError,
    ImageError,
    InfeasibleBudgetError,
    SizeError,
    SlimpathError,
    TaskError,
)
from .errors import HttpError

if TYPE_CHECKING:
    from starlette.responses import Response

log = logging.getLogger("slimpath.service")

INTERNAL = "the server failed; its log says why"
_REQUEST_ERRORS: tuple[tuple[type[SlimpathError], int, str], ...] = (
    (InfeasibleBudgetError, 422, "budget_infeasible"),
    (BudgetError, 422, "bad_budget"),
    (TaskError, 422, "bad_tasks"),
    (SizeError, 422, "bad_size"),
    (ImageError, 400, "bad_image"),
)
# Codes of errors that come with a status alone (from the router, mostly).
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}
_OIP_BAD_INPUT = frozenset((415, 422))
# Two or more components, as in "/home/me/model.onnx" or "C:\\models\\a": libraries put theirs into messages.
_PATH = re.compile(r"(?:(?<![\w/.])|(?<=\()|(?<='))(?:[A-Za-z]:)?(?:[\\/][\w.+@~-]+){2,}[\\/]?(?::\d+)?")


@dataclass(frozen=True)
class Problem:
    """What one failed request is told."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)


def problem_of(error: BaseException) -> Problem:
    """Classify an error. What is not the client's doing is told without detail; the caller logs it."""
    if isinstance(error, HttpError):
        return Problem(error.status, error.code, scrub(str(error)), dict(error.headers))
    for kind, status, code in (*_REQUEST_ERRORS, *_service_errors()):
        if isinstance(error, kind):
            if getattr(error, "per_client", False):
                status, code = 429, "client_limit"
            return Problem(status, code, scrub(str(error)), _retry_headers(error, status))
    return Problem(500, "internal", INTERNAL)


@lru_cache(maxsize=1)
def _service_errors() -> tuple[tuple[type[SlimpathError], int, str], ...]:
    """Those of the registry and the scheduler; both import this package, so not at the top."""
    from .model_errors import LoadFailed, NotReady, UnknownModel
    from .scheduler.errors import Late, Refused, Unavailable

    return (
        (UnknownModel, 404, "unknown_model"),
        (NotReady, 503, "not_ready"),
        (LoadFailed, 400, "load_failed"),
        (Refused, 503, "refused"),
        (Late, 504, "late"),
        (Unavailable, 503, "unavailable"),
    )


def problem_of_status(status: int, message: str = "", headers: dict[str, str] | None = None) -> Problem:
    """For errors that are only a status, such as those of the router."""
    text = message or HTTPStatus(status).phrase.lower()
    return Problem(status, _STATUS_CODES.get(status, "bad_request"), scrub(text), dict(headers or {}))


def _retry_headers(error: BaseException, status: int) -> dict[str, str]:
    retry_after_s = getattr(error, "retry_after_s", 1.0)
    if status not in (429, 503) or not math.isfinite(retry_after_s):
        return {}
    return {"Retry-After": str(max(1, math.ceil(retry_after_s)))}  # whole seconds: that is all the header can say


def scrub(text: str) -> str:
    """The text without anything that looks like a path of this machine."""
    return _PATH.sub("[path]", text)


def is_oip(path: str) -> bool:
    """Does this path speak the Open Inference Protocol?"""
    return path == "/v2" or path.startswith("/v2/")


def body_of(problem: Problem, path: str) -> tuple[int, bytes]:
    """Status and JSON body, in the form of the path's API."""
    if is_oip(path):
        status = 400 if problem.status in _OIP_BAD_INPUT else problem.status
        return status, msgspec.json.encode({"error": problem.message})
    return problem.status, msgspec.json.encode({"error": {"code": problem.code, "message": problem.message}})


def response_of(error: BaseException, path: str) -> Response:
    """The answer to a request that ended with `error`."""
    problem = problem_of(error)
    if problem.status == 500:
        log.error("unexpected error in %s", path, exc_info=error)
    return render(problem, path)


def render(problem: Problem, path: str) -> Response:
    """A problem as a response."""
    from starlette.responses import Response

    status, body = body_of(problem, path)
    return Response(body, status, headers=problem.headers, media_type="application/json")


async def send_problem(problem: Problem, scope: dict[str, Any], send: Any, *, close: bool = False) -> None:
    """The same from below any framework, for middlewares."""
    status, body = body_of(problem, scope["path"])
    headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
    if close:
        headers["connection"] = "close"
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
