"""deploy/ray in a real Ray, where that is installed: answers over HTTP, more replicas under load, fewer after it."""

from __future__ import annotations

import importlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import slimpath
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.service.running import encoded

ray: Any = pytest.importorskip("ray", reason="needs ray[serve], which none of the extras brings: docs/scale-out.md")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to end on
FOLDER = Path(slimpath.__file__).parent / "deploy" / "ray"
ASK = "/v1/infer?format=npy&response=zip"
WAIT_S = 180.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One replica of a tiny bundle, up to two under load, in a Ray of two CPUs of its own."""
    bundle = build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(str(FOLDER))
        paths = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
        ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
        serve = importlib.import_module("ray.serve")
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            build = importlib.import_module("slimpath_ray").build
            quick = {"upscale_delay_s": 1, "downscale_delay_s": 2, "target_ongoing": 1}
            serve.run(build({"bundles": [str(bundle)], "max_replicas": 2, **quick}), name="slimpath")
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def replicas() -> int:
    """That answer now."""
    serve = importlib.import_module("ray.serve")
    return serve.status().applications["slimpath"].deployments["slimpath"].replica_states.get("RUNNING", 0)


def wait_until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.2)


def ask(client: httpx.Client) -> httpx.Response:
    return client.post(ASK, content=encoded(), headers={"Content-Type": "image/jpeg"})


def test_it_answers_as_the_server_does(url: str):
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/v2/health/ready").status_code == 200
        answer = ask(client)
        assert answer.status_code == 200 and answer.content.startswith(b"PK"), answer.text
        assert answer.headers["Slimpath-Share"] == "1.0000"
        refused = client.post("/v1/infer", content=b"no image", headers={"Content-Type": "image/jpeg"})
        assert refused.status_code == 415 or refused.json()["error"]["code"] == "bad_image"
        metadata = client.get("/v2").json()
        assert "binary_tensor_data" in metadata["extensions"]


def test_a_queue_brings_a_second_replica_and_none_is_lost_when_it_goes(url: str):
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                statuses.append(ask(client).status_code)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: replicas() == 2)
        seen = len(statuses)
        wait_until(lambda: len(statuses) > seen + 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert set(statuses) == {200}
    wait_until(lambda: replicas() == 1)
    with httpx.Client(base_url=url, timeout=60) as client:
        assert ask(client).status_code == 200
