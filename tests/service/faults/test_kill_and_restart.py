"""SIGKILL in the middle of load: clients are told by their connection, and the next process starts as if nothing was.

Promised: nothing that a killed server leaves behind (cache, bundle, port) hinders the next one.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import httpx

from slimpath.tests.service.faults.process import INFER, RAW, ServerProcess
from slimpath.tests.service.running import encoded


def test_after_sigkill_under_load_the_same_command_serves_again_on_the_same_port(bundle: Path, cache: Path) -> None:
    before = sorted((path.name, path.stat().st_size) for path in bundle.iterdir())
    answered, failed = [0] * 4, [0] * 4
    loaded = threading.Event()

    def load(number: int, url: str) -> None:
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                while True:
                    assert client.post(INFER, content=encoded(), headers=RAW).status_code == 200
                    answered[number] += 1
                    if all(answered):
                        loaded.set()
        except httpx.TransportError:  # told at once, not after a timeout
            failed[number] += 1

    with ServerProcess(bundle, cache) as server:
        threads = [threading.Thread(target=load, args=(number, server.url)) for number in range(4)]
        for thread in threads:
            thread.start()
        assert loaded.wait(60)
        server.signal(signal.SIGKILL)
        assert server.end() == -signal.SIGKILL
        for thread in threads:
            thread.join(30)
        assert failed == [1] * 4
        port = server.port
    with ServerProcess(bundle, cache, "--port", str(port)) as again, again.client() as client:
        assert again.port == port
        assert client.get("/v2/health/ready").status_code == 200
        assert client.post(INFER, content=encoded(), headers=RAW).status_code == 200
    assert sorted((path.name, path.stat().st_size) for path in bundle.iterdir()) == before
