"""LitServe with the bundled model at full width, beside `slimpath serve`: `service_load.py --litserve PYTHON`.

LitServe needs an environment of its own, whose interpreter is PYTHON:

    python -m venv /somewhere/litserve && /somewhere/litserve/bin/pip install litserve -e .

`python benchmarks/rival_litserve.py --tune PYTHON` looks for the settings that suit it best on this machine: workers,
threads and spinning together, then batches, then queue and HTTP processes; the fastest three once more in turn. It
keeps the table, and `service_load.py` takes the best of it. Some ten minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from method import table
from page import MEASURED, Section, keep, kept
from service_overload import closed_loop

from slimpath.runtime.cpus import usable_cpus
from slimpath.service.loadtest.client import Client, read_target
from slimpath.service.loadtest.picture import made_up_photograph

HERE = Path(__file__).resolve().parent
PART = "rival_litserve"
START_S, POLL_S, TRIAL_S, FINAL_ROUNDS = 120.0, 0.1, 8.0, 4
BATCHES = ((2, 0.0), (2, 0.002), (4, 0.002), (4, 0.005), (8, 0.005))  # images, seconds of waiting for them


@dataclass(frozen=True)
class Settings:
    """What is tuned.

    Args:
        workers: processes that run the model (workers_per_device).
        threads: of each ONNX Runtime session.
        spinning: how they wait: "slimpath" (50 us), "default" (ONNX Runtime's own), "off".
        batch: images that may share a call (max_batch_size).
        batch_timeout_s: how long a batch waits to be filled.
        fast_queue: answers come by ZeroMQ instead of a queue of multiprocessing.
        api_servers: processes that speak HTTP (num_api_servers).
    """

    workers: int = 1
    threads: int = 2
    spinning: str = "slimpath"
    batch: int = 1
    batch_timeout_s: float = 0.0
    fast_queue: bool = True
    api_servers: int = 1

    def __str__(self) -> str:
        batch = f"batches of {self.batch} in {self.batch_timeout_s * 1e3:g} ms" if self.batch > 1 else "no batches"
        queue = "ZeroMQ" if self.fast_queue else "multiprocessing queue"
        return (
            f"{self.workers} x {self.threads} threads, spinning {self.spinning}, {batch}, {queue}, "
            f"{self.api_servers} HTTP"
        )


class LitServed:
    """`with LitServed(python, settings) as rival:` LitServe with the bundled model, ready, on a free port.

    Args:
        python: interpreter of the environment that has LitServe.
    """

    def __init__(self, python: str, settings: Settings) -> None:
        self._python, self._settings = python, settings
        self.url = ""

    def __enter__(self) -> LitServed:
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        port = _free_port()
        shim = HERE.parent / ".shim"
        # A group of its own, to end all of it, but not a session: Linux shares the CPUs out between sessions first, and
        # LitServe would get more of them than the server that it is compared with.
        environment = {**os.environ, **({"PYTHONPATH": str(shim)} if shim.exists() else {})}
        self._process = subprocess.Popen(
            [self._python, str(HERE / "rival_litserve_server.py"), str(port), json.dumps(asdict(self._settings))],
            stdout=self._log, stderr=subprocess.STDOUT, env=environment, preexec_fn=os.setpgrp,
        )  # fmt: skip
        try:
            self._wait(f"http://127.0.0.1:{port}/health")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.url = f"http://127.0.0.1:{port}/predict"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Workers, manager and HTTP processes of LitServe outlive a SIGTERM to their parent: end the group of all.
        _signal_group(self._process.pid, 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        _signal_group(self._process.pid, 9)
        self._process.wait()
        self._log.close()

    def _wait(self, health: str) -> None:
        for _ in range(int(START_S / POLL_S)):
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(health, timeout=5) as answer:
                    if answer.status == 200:  # every worker has run the model
                        return
            except OSError:
                time.sleep(POLL_S)
        raise RuntimeError(f"LitServe did not start: {Path(self._log.name).read_text()[-2000:]}")


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def version(python: str) -> str:
    """Of LitServe in that environment."""
    code = (
        "from importlib.metadata import version as v; print('LitServe', v('litserve'), 'onnxruntime', v('onnxruntime'))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def best_settings() -> Settings:
    """Those that `--tune` found last; else what is good on two cores."""
    if not (MEASURED / f"{PART}.json").exists():
        return Settings()
    return Settings(**kept(PART)["sections"][0]["figures"]["best"])


def answered_arrays(url: str, query: str = "") -> dict[str, np.ndarray]:
    """What a server answers to the photograph of the load test: task -> array.

    Raises:
        RuntimeError: it did not answer 200.
    """

    async def ask() -> bytes:
        client = Client(read_target(url))
        try:
            answer = await client.post(lambda: query, b"Content-Type: image/jpeg\r\n", made_up_photograph())
        finally:
            client.close()
            await asyncio.sleep(0)
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {answer.body[:300]!r}")
        return answer.body

    with zipfile.ZipFile(io.BytesIO(asyncio.run(ask()))) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        return {name[:-4]: np.load(io.BytesIO(archive.read(name))) for name in names}


def check_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Both must have done the same work: a class in a thousand pixels and rounding apart.

    Raises:
        RuntimeError: they have not.
    """
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"tasks differ: {sorted(ours)} and {sorted(theirs)}")
    for task, mine in ours.items():
        other = theirs[task]
        if mine.shape != other.shape or mine.dtype != other.dtype:
            raise RuntimeError(f"{task}: {mine.dtype}{mine.shape} and {other.dtype}{other.shape}")
        if mine.dtype == np.uint8:
            same = float(np.mean(mine != other)) < 1e-3
        else:
            same = float(np.mean(~np.isclose(mine, other, rtol=1e-3, atol=1e-3, equal_nan=True))) < 1e-3
        if not same:
            raise RuntimeError(f"{task}: the answers differ")


# Tuning.


def tune(python: str, seconds: float, rounds: int) -> Section:
    """Try settings in stages, and the fastest three once more in turn."""
    cpus = usable_cpus()
    shapes = sorted({(1, 1), (1, cpus), (2, 1), (2, cpus), (cpus, 1)})
    base = Settings()
    stages = [
        [replace(base, workers=w, threads=t, spinning=s) for w, t in shapes for s in ("slimpath", "default", "off")],
        [{"batch": batch, "batch_timeout_s": timeout_s} for batch, timeout_s in BATCHES],
        [{"fast_queue": False}, {"api_servers": 2}],
    ]
    rates: dict[Settings, list[tuple[float, float]]] = {}
    for stage in stages:
        fastest = max(rates, key=lambda s: rates[s][0][0]) if rates else base
        _try(python, [c if isinstance(c, Settings) else replace(fastest, **c) for c in stage], seconds, rates)
    finalists = sorted(rates, key=lambda s: -rates[s][0][0])[:3]
    for _ in range(rounds):
        _try(python, finalists, seconds, rates)
    best = max(finalists, key=lambda s: statistics.median(rate for rate, _ in rates[s]))
    rows = [
        [str(s), f"{statistics.median(r for r, _ in found):.2f}", f"{statistics.median(p for _, p in found):.0f}",
         str(len(found)), "best" if s == best else ""]
        for s, found in sorted(rates.items(), key=lambda item: -statistics.median(r for r, _ in item[1]))
    ]  # fmt: skip
    text = table(["settings", "images/s", "p99, ms", "runs", ""], rows) + f"\n{version(python)}, 8 in flight.\n"
    return "LitServe, tuned", text, {"best": asdict(best), "version": version(python)}


def _try(
    python: str, candidates: Iterable[Settings], seconds: float, rates: dict[Settings, list[tuple[float, float]]]
) -> None:
    for settings in candidates:
        with LitServed(python, settings) as rival:
            report = closed_loop(rival.url, seconds, {}).report
        rates.setdefault(settings, []).append((report.throughput_per_s, report.latency_ms.get("p99", float("nan"))))
        print(f"{rates[settings][-1][0]:6.2f}/s  p99 {rates[settings][-1][1]:5.0f} ms  {settings}", file=sys.stderr)


def main() -> None:
    """Tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", metavar="PYTHON", help="interpreter that has LitServe; without one nothing is done")
    parser.add_argument("--quick", action="store_true", help="short runs, nothing written")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that LitServe does not outlive this
    if arguments.tune is None:  # as `make bench` calls it: LitServe is in an environment that it does not know
        print("LitServe is not tuned without --tune PYTHON; see --help", file=sys.stderr)
        return
    section = tune(arguments.tune, 2.0 if arguments.quick else TRIAL_S, 1 if arguments.quick else FINAL_ROUNDS)
    print(f"\n{section[0]}\n\n{section[1]}")
    if not arguments.quick:
        keep(PART, [section])


if __name__ == "__main__":
    main()
