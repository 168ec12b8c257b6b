"""The server as a process: ready when warm, SIGTERM answers what was accepted, a second signal ends it."""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from slimpath.service.server import Server
from slimpath.tests.service.running import encoded, wait_until

JPEG = {"content-type": "image/jpeg"}
# The command line, with an engine whose calls take this long.
SLOW = """
import sys, time
from slimpath.runtime.running.answering import Answerer
run = Answerer.run
def slowly(self, *arguments, **options):
    time.sleep({seconds})
    return run(self, *arguments, **options)
Answerer.run = slowly
sys.argv = ["slimpath", *sys.argv[1:]]
from slimpath.cli.app import main
main()
"""


@contextmanager
def process(*arguments: str, cache: Path, seconds: float = 0.0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`slimpath serve`, ready; yields it and its address."""
    environment = {**os.environ, "SLIMPATH_CACHE": str(cache)}
    command = [sys.executable, "-c", SLOW.format(seconds=seconds), "serve", "--port", "0", *arguments]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert running.stderr is not None
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(running.stderr or ()))  # a full pipe would stop it
    reading.start()
    try:
        wait_until(lambda: running.poll() is not None or any("ready on" in line for line in lines))
        found = re.search(r"ready on (\S+)", "".join(lines))
        assert found is not None, lines
        yield running, found[1]
    finally:
        running.kill()
        running.wait(60)
        reading.join(60)
        running.stderr.close()


def waiting(url: str) -> float:
    """Requests in the queue."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    (line,) = [line for line in text.splitlines() if line.startswith("slimpath_queue_length")]
    return float(line.rpartition(" ")[2])


def ask(url: str) -> int:
    try:
        return httpx.post(f"{url}/v1/infer?tasks=depth", content=encoded(), headers=JPEG, timeout=60).status_code
    except httpx.HTTPError:
        return 0


ONE_BY_ONE = ("--runners", "1", "--max-batch", "1", "--no-degrade", "--log-level", "error")


def test_sigterm_answers_every_accepted_request_and_nothing_new(bundle: Path, tmp_path: Path):
    with process(str(bundle), *ONE_BY_ONE, cache=tmp_path, seconds=0.3) as (running, url):
        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, url) for _ in range(8)]
            wait_until(lambda: waiting(url) >= 6)
            running.send_signal(signal.SIGTERM)
            wait_until(lambda: ask(url) == 0)
            statuses = [one.result() for one in asking]
        assert statuses == [200] * 8
        assert running.wait(60) == 0


def test_a_second_signal_ends_it_at_once(bundle: Path, tmp_path: Path):
    slow = process(str(bundle), *ONE_BY_ONE, cache=tmp_path, seconds=1.0)
    with slow as (running, url), ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask, url) for _ in range(8)]
        wait_until(lambda: waiting(url) >= 6)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        running.send_signal(signal.SIGTERM)
        running.wait(60)
        assert any(one.result() != 200 for one in asking)


def test_it_says_that_it_is_not_ready_before_it_stops_accepting(bundle: Path, tmp_path: Path):
    with process(str(bundle), "--drain-delay-s", "3", "--log-level", "error", cache=tmp_path) as (running, url):
        running.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/v2/health/ready", timeout=30).status_code == 503)
        assert httpx.get(f"{url}/v2/health/live", timeout=30).status_code == 200
        assert ask(url) == 200
        assert running.wait(60) == 0


def test_a_killed_server_can_be_started_again(bundle: Path, tmp_path: Path):
    for _ in range(2):
        with process(str(bundle), "--log-level", "error", cache=tmp_path) as (running, url):
            assert ask(url) == 200
            running.send_signal(signal.SIGKILL)
            assert running.wait(60) == -signal.SIGKILL


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slimpath", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nowhere",), "nothing"),
        (("--host", "0.0.0.0"), "without a key"),
        (("--port", "x"), "a whole number"),
        (("a b=.",), "name"),
        (("--config", "nowhere.toml"), "no such file"),
        (("--tls-cert", "x"), "tls_key is missing"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_exit_code_2(arguments: tuple[str, ...], reason: str):
    done = start(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and reason in done.stderr


def test_a_taken_port_is_one_line_and_exit_code_2(bundle: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start(str(bundle), "--port", str(taken.getsockname()[1]), "--log-level", "error")
    assert done.returncode == 2 and "cannot listen on" in done.stderr.splitlines()[-1]


def test_a_bundle_that_breaks_while_loading_ends_the_server(bundle: Path, tmp_path: Path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    done = start(str(broken), "--port", "0", "--log-level", "error")
    assert done.returncode == 2 and "weights" in done.stderr


def test_a_signal_while_a_log_line_is_written_does_not_wait_for_the_lock_of_the_logs() -> None:
    """The handler runs in the thread that it interrupts: a log line there could wait for that thread's own lock."""
    server = Server(uvicorn.Config(lambda: None), drain_delay_s=0, on_drain=lambda: None)
    queue_of_logs: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = logging.handlers.QueueHandler(queue_of_logs)
    logger = logging.getLogger("slimpath.service")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with queue_of_logs.mutex:  # not reentrant: a handler that logs would hang here
            done = threading.Thread(target=server.handle_exit, args=(signal.SIGTERM, None), daemon=True)
            done.start()
            done.join(10)
            assert not done.is_alive() and server.should_exit
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
