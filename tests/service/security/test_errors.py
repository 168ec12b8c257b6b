"""Errors: every one in the form of its API, with a stable code, and without anything of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.runtime.errors import BackendError, BudgetError, ImageError, InfeasibleBudgetError, SizeError, TaskError
from slimpath.service.errors import HttpError
from slimpath.service.model_errors import LoadFailed, NotReady, UnknownModel
from slimpath.service.problems import INTERNAL, body_of, problem_of, scrub
from slimpath.service.scheduler.errors import Late, Refused, Unavailable
from slimpath.tests.service.running import encoded, on_socket, settings_for

JPEG = {"content-type": "image/jpeg"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ImageError("x"), 400, "bad_image"),
        (TaskError("x"), 422, "bad_tasks"),
        (BudgetError("x"), 422, "bad_budget"),
        (InfeasibleBudgetError("x"), 422, "budget_infeasible"),
        (SizeError("x"), 422, "bad_size"),
        (UnknownModel("x"), 404, "unknown_model"),
        (NotReady("x"), 503, "not_ready"),
        (LoadFailed("x"), 400, "load_failed"),
        (Refused("x", retry_after_s=2.1), 503, "refused"),
        (Refused("x", retry_after_s=2.1, per_client=True), 429, "client_limit"),
        (Late("x"), 504, "late"),
        (Unavailable("x"), 503, "unavailable"),
        (BackendError("x"), 500, "internal"),
        (RuntimeError("x"), 500, "internal"),
    ],
)
def test_every_error_has_its_status_and_code(error: Exception, status: int, code: str):
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert ("Retry-After" in problem.headers) == (status in (429, 503))


def test_retry_after_is_whole_seconds_rounded_up():
    assert problem_of(Refused("x", retry_after_s=2.1)).headers == {"Retry-After": "3"}
    assert problem_of(Refused("x", retry_after_s=0.001)).headers == {"Retry-After": "1"}


def test_what_is_not_the_clients_doing_is_not_told():
    for error in (BackendError("cannot load /secret/model.onnx"), RuntimeError("boom at 0x7f"), KeyError("password")):
        assert problem_of(error).message == INTERNAL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open /home/me/model.onnx", "cannot open [path]"),
        ("OpenCV(5.0) /io/opencv/modules/imgcodecs/src/grfmt.cpp:12: error", "OpenCV(5.0) [path]: error"),
        ("at (C:\\models\\a.onnx)", "at ([path])"),
        ("use 3/4 of it", "use 3/4 of it"),
        ("images/s, 1/2, and/or", "images/s, 1/2, and/or"),
        ("a body of type 'image/png' is not read", "a body of type 'image/png' is not read"),
    ],
)
def test_paths_are_taken_out_of_messages(text: str, expected: str):
    assert scrub(text) == expected


@given(st.lists(st.text("abcxyz._-", min_size=1, max_size=8), min_size=2, max_size=6))
def test_no_absolute_path_survives(parts: list[str]):
    path = "/" + "/".join(parts)
    assert path not in scrub(f"failed: {path}")


def test_the_form_of_an_error_is_that_of_its_api():
    problem = problem_of(TaskError("no such task"))
    assert body_of(problem, "/v1/infer") == (422, b'{"error":{"code":"bad_tasks","message":"no such task"}}')
    assert body_of(problem, "/v2/models/a/infer") == (400, b'{"error":"no such task"}')
    assert body_of(problem, "/v2") == (400, b'{"error":"no such task"}')
    assert body_of(problem, "/v20")[0] == 422


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/infer", 405), ("DELETE", "/v1/models", 405), ("GET", "/v2/nothing", 404)],
)
def test_the_router_answers_in_json_too(client: httpx.Client, method: str, path: str, status: int):
    answer = client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert isinstance(error, str) if path.startswith("/v2") else set(error) == {"code", "message"}


def test_malformed_http_gets_a_json_error(client: httpx.Client):
    import socket

    port = client.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400") and b'"bad_http"' in answer


def test_a_backend_that_fails_is_an_internal_error_without_detail(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    from slimpath.runtime.running.execution import Executor

    with on_socket(settings_for(bundle)) as port:

        def fail(*_: Any, **__: Any) -> Any:
            raise BackendError("ONNX Runtime failed in /secret/place/model.onnx")

        monkeypatch.setattr(Executor, "run", fail)
        url = f"http://127.0.0.1:{port}"
        answer = httpx.post(f"{url}/v1/infer", content=encoded(), headers=JPEG, timeout=60)
        assert answer.status_code == 500
        assert answer.json() == {"error": {"code": "internal", "message": INTERNAL}}
        monkeypatch.undo()
        again = httpx.post(f"{url}/v1/infer", content=encoded(), headers=JPEG, timeout=60)
        assert again.status_code == 200


def test_an_http_error_keeps_its_headers():
    problem = problem_of(HttpError(401, "key_missing", "a key", headers={"WWW-Authenticate": "Bearer"}))
    assert problem.headers == {"WWW-Authenticate": "Bearer"}
