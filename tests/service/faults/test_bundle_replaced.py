"""A bundle replaced under load. Promised: every request is answered, each by the old bundle or by the new one, never by
a mixture; a broken bundle changes nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np

from slimpath.runtime.engine import Engine
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.service.faults.process import INFER, RAW, ServerProcess, sample
from slimpath.tests.service.running import encoded, picture, wait_until
from slimpath.tests.service.v2.conftest import array_of

PICTURE = encoded(".png", picture())
PLAIN = {**RAW, "Accept-Encoding": "identity"}


def swap(folder: Path, with_what: Path, old: Path) -> None:
    os.rename(folder, old)
    os.rename(with_what, folder)


def test_each_request_is_answered_by_the_old_bundle_or_by_the_new_one(
    bundle: Path, cache: Path, tmp_path: Path
) -> None:
    served = Path(shutil.copytree(bundle, tmp_path / "served"))
    other = build_tiny_bundle(tmp_path / "other", moe=False, detail=False)
    expected = []
    for folder in (served, other):
        with Engine.load(folder, threads=1) as engine:
            expected.append(engine(picture(), "depth")["depth"])
    assert not np.allclose(*expected, rtol=1e-2)
    answers: list[np.ndarray] = []
    stop, errors = threading.Event(), list[BaseException]()

    with ServerProcess(served, cache) as server, server.client() as watcher:

        def load() -> None:
            try:
                with server.client() as client:
                    while not stop.is_set():
                        answer = client.post(INFER, params={"task": "depth"}, content=PICTURE, headers=PLAIN)
                        answers.append(array_of(answer, "depth"))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(answers) > 10 or errors)
            swap(served, other, tmp_path / "old")
            server.signal(signal.SIGHUP)
            wait_until(lambda: sample(watcher, "slimpath_model_loads_total", result="loaded") == 2 or errors)
            seen = len(answers)
            wait_until(lambda: len(answers) > seen + 10 or errors)

            broken = Path(shutil.copytree(served, tmp_path / "broken"))
            (broken / "weights.safetensors").write_bytes(b"no weights")
            swap(served, broken, tmp_path / "second")
            server.signal(signal.SIGHUP)
            wait_until(lambda: sample(watcher, "slimpath_model_loads_total", result="refused") == 1 or errors)
            seen = len(answers)
            wait_until(lambda: len(answers) > seen + 10 or errors)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert not errors
        assert watcher.get("/v2/health/ready").status_code == 200
        reason = watcher.post("/v2/repository/index").json()[0]["reason"]
        assert "weights" in reason and str(tmp_path) not in reason
    by_which = [[np.allclose(answer, each, rtol=1e-3, atol=1e-3) for each in expected] for answer in answers]
    assert all(sum(which) == 1 for which in by_which)
    assert by_which[0] == [True, False] and by_which[-1] == [False, True]
