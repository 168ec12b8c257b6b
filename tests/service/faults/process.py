"""`slimpath serve` as a process of its own, which can be killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from slimpath.tests.service.running import wait_until

INFER = "/v2/models/tiny/infer"
RAW = {"Inference-Header-Content-Length": "0"}
_READY = re.compile(r"slimpath: ready on http://127\.0\.0\.1:(\d+)")


class ServerProcess:
    """A server that was started and is ready; `with` ends it, whatever happened.

    Args:
        options: of `slimpath serve`, behind the bundle.
        cache: SLIMPATH_CACHE, which a server that is started again finds as the first one left it.
    """

    def __init__(self, bundle: Path, cache: Path, *options: str) -> None:
        command = [sys.executable, "-m", "slimpath", "serve", str(bundle), "--runners", "1", "--threads", "1", *options]
        if "--port" not in options:
            command += ["--port", "0"]
        environment = {**os.environ, "SLIMPATH_CACHE": str(cache)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self._port() is not None or self.process.poll() is not None)
        port = self._port()
        assert port is not None, "".join(self.lines)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def _port(self) -> int | None:
        found = [match for line in list(self.lines) if (match := _READY.search(line))]
        return int(found[0][1]) if found else None

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(120)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        self._reader.join(60)
        assert self.process.stderr is not None
        self.process.stderr.close()


def sample(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum over all series of that name which have these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = [each for family in families for each in family.samples if each.name == name]
    return sum(each.value for each in found if labels.items() <= each.labels.items())
