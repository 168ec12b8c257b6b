"""slimpath.Client against a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slimpath import Client, Engine
from slimpath.runtime.imaging.pictures import image_part
from slimpath.service.client_errors import ConnectionFailed, KeyRefused, RequestRefused, ServerError, error_of
from slimpath.tests.service.running import encoded, on_socket, picture, settings_for

KEY = "a-key-of-many-characters"


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    with on_socket(settings_for(bundle, auth={"api_keys": (f"me:{KEY}",)})) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def caller(url: str) -> Iterator[Client]:
    with Client(url, api_key=KEY) as client:
        yield client


def test_arrays_come_back_as_the_engine_gives_them(caller: Client, bundle: Path):
    rgb = picture()
    answer = caller.infer(rgb, {"depth": 2, "semseg": 1}, "width=0.5")
    with Engine.load(bundle) as engine:
        expected = engine(rgb, "depth=2,semseg", "width=0.5")
    assert set(answer) == {"depth", "semseg"} and answer.plan.encoder_width == 0.5
    for task in answer:
        np.testing.assert_allclose(answer[task], image_part(expected[task], expected), atol=1e-4)


def test_paths_bytes_and_arrays_are_images(caller: Client, tmp_path: Path):
    data = encoded(".png")
    (tmp_path / "a.png").write_bytes(data)
    answers = [caller.infer(image, ["depth"])["depth"] for image in (tmp_path / "a.png", data, picture())]
    assert (answers[0] == answers[1]).all() and (answers[0] == answers[2]).all()


def test_labels_panel_and_what_it_cost(caller: Client):
    answer = caller.infer(picture(), panel=True, deadline_ms=60_000)
    label, probability = answer.label("scene")
    assert label in answer.classes["scene"] and 0 < probability <= 1
    assert answer.panel_png is not None and answer.panel_png.startswith(b"\x89PNG")
    assert answer.cost.measured.engine_ms > 0 and answer.plan.reasons


def test_models_and_plans_are_typed(caller: Client):
    (model,) = caller.models()
    assert model.tasks["depth"].unit == "m" and model.encoder_widths == [0.5, 1.0]
    found = caller.plan("depth", "width=0.5", curve=True)
    assert found.chosen.plan.encoder_width == 0.5 and len(found.curve) >= 1


def test_ready_is_false_where_nothing_listens(caller: Client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{unused.getsockname()[1]}", timeout_s=2) as nobody:
            assert not nobody.ready()
            with pytest.raises(ConnectionFailed, match="no answer"):
                nobody.models()
    assert caller.ready()


def test_refusals_are_raised_with_their_code(caller: Client, url: str):
    with pytest.raises(RequestRefused, match="unknown task") as caught:
        caller.infer(picture(), "nothing")
    assert (caught.value.status, caught.value.code) == (422, "bad_tasks")
    with Client(url, api_key="wrong-key-of-many-letters") as stranger, pytest.raises(KeyRefused):
        stranger.models()


def test_the_key_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLIMPATH_API_KEY", KEY)
    with Client(url) as client:
        assert client.models()


def test_a_page_of_a_proxy_is_an_error_too():
    error = error_of(502, b"<html>bad gateway</html>", None)
    assert type(error) is ServerError and "bad gateway" in str(error)
    assert error_of(503, b'{"error": {"code": "refused", "message": "full"}}', "3").retry_after_s == 3
