"""Loading and unloading through the real client's repository methods."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from tritonclient.utils import InferenceServerException

from slimpath.tests.service.running import on_socket, picture, settings_for
from slimpath.tests.service.v2.conftest import make_client, pixels


def test_the_index_lists_the_model(triton: Any) -> None:
    assert triton.get_model_repository_index() == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]


def test_unload_and_load_again(triton: Any) -> None:
    triton.unload_model("tiny")
    (entry,) = triton.get_model_repository_index()
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
    assert triton.is_model_ready("tiny") is False
    assert triton.is_server_ready() is True  # nobody wants it
    with pytest.raises(InferenceServerException, match="not ready: unloaded") as error:
        triton.infer("tiny", [pixels(picture())])
    assert error.value.status() == "503"
    triton.load_model("tiny")
    assert triton.is_model_ready("tiny") is True
    assert triton.infer("tiny", [pixels(picture())]).as_numpy("depth") is not None


def test_loading_a_loaded_model_reads_it_again(triton: Any) -> None:
    triton.load_model("tiny")
    assert triton.infer("tiny", [pixels(picture())]).as_numpy("depth") is not None


def test_unloading_with_dependents_and_twice_does_nothing_more(triton: Any) -> None:
    triton.unload_model("tiny", unload_dependents=True)
    triton.unload_model("tiny")
    triton.load_model("tiny")


def test_unknown_models_cannot_be_loaded(triton: Any) -> None:
    for call in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match="unknown model 'nobody'") as error:
            call("nobody")
        assert error.value.status() == "404"


def test_neither_files_nor_settings_can_be_uploaded(triton: Any) -> None:
    with pytest.raises(InferenceServerException, match="cannot be uploaded") as error:
        triton.load_model("tiny", config="{}", files={"file:1/model.onnx": b"bytes"})
    assert error.value.status() == "400"


@pytest.mark.parametrize("name", ["..%2F..%2Fetc", "a%00b", ".hidden", "x" * 200, "a%20b"])
def test_names_that_are_no_names_reach_nothing(port: int, name: str) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/v2/repository/models/{name}/load")
    assert answer.status_code in (400, 404) and isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"parameters": 3}', b'{"parameters": {"a": [1]}}', b"[" * 10_000])
def test_bodies_that_are_none_are_400(port: int, body: bytes) -> None:
    for path in ("index", "models/tiny/load", "models/tiny/unload"):
        answer = httpx.post(f"http://127.0.0.1:{port}/v2/repository/{path}", content=body)
        assert answer.status_code == 400 and isinstance(answer.json()["error"], str)


def test_the_index_can_be_asked_for_what_is_ready(port: int) -> None:
    url = f"http://127.0.0.1:{port}/v2/repository"
    httpx.post(f"{url}/models/tiny/unload", timeout=60)
    assert httpx.post(f"{url}/index", json={"ready": True}).json() == []
    assert len(httpx.post(f"{url}/index", json={"ready": False}).json()) == 1
    assert httpx.post(f"{url}/models/tiny/load", timeout=60).status_code == 200


def test_loading_is_off_unless_it_was_asked_for(bundle: Path) -> None:
    with on_socket(settings_for(bundle)) as port:
        client = make_client("sync", port)
        with pytest.raises(InferenceServerException, match="is off") as error:
            client.unload_model("tiny")
        assert error.value.status() == "403"
        assert client.get_model_repository_index()[0]["state"] == "READY"
        client.close()


def test_a_broken_bundle_is_400_and_the_old_one_still_answers(bundle: Path, tmp_path: Path) -> None:
    served = Path(shutil.copytree(bundle, tmp_path / "served"))
    with on_socket(settings_for(served, auth={"admin": True})) as port:
        client = make_client("sync", port)
        (served / "manifest.json").write_text("{}")
        with pytest.raises(InferenceServerException, match="was not loaded") as error:
            client.load_model("tiny")
        assert error.value.status() == "400" and str(tmp_path) not in str(error.value)
        assert client.is_server_ready() and client.is_model_ready("tiny")
        assert client.infer("tiny", [pixels(picture())]).as_numpy("depth") is not None
        (entry,) = client.get_model_repository_index()
        assert entry["state"] == "READY" and "manifest" in entry["reason"]
        client.close()
