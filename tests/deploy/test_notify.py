"""The wrapper that feeds systemd's watchdog: beats have a reason, and the command's end is its own."""

from __future__ import annotations

import http.server
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

import slimpath

FILE = Path(slimpath.__file__).parent / "deploy" / "jetson" / "notify.py"
PATIENCE_S = 60


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.1)
        self.heard: list[str] = []

    def listen_until(self, line: str, times: int = 1) -> bool:
        end = monotonic() + PATIENCE_S
        while self.heard.count(line) < times and monotonic() < end:
            try:
                self.heard += self._socket.recv(4096).decode().splitlines()
            except TimeoutError:
                continue
        return self.heard.count(line) >= times

    def listen_for(self, seconds: float) -> list[str]:
        """What is said in the next seconds."""
        before, end = len(self.heard), monotonic() + seconds
        while monotonic() < end:
            try:
                self.heard += self._socket.recv(4096).decode().splitlines()
            except TimeoutError:
                continue
        return self.heard[before:]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    made = Systemd(tmp_path_factory.mktemp("s"))
    yield made
    made.close()


class Start:
    """Starts wrappers, and ends those that a test left running."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, systemd: Systemd | None, *arguments: str, watchdog_s: float = 0.4) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY", "WATCHDOG"))}
        if systemd is not None:
            environment |= {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        command = [sys.executable, str(FILE), *arguments]
        pipe = subprocess.PIPE
        self.started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment))
        return self.started[-1]


@pytest.fixture
def start() -> Iterator[Start]:
    made = Start()
    yield made
    for process in made.started:
        process.terminate()  # passed on to the command
        process.communicate(timeout=PATIENCE_S)


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-u", "-c", code]


SLEEP = python("import time; time.sleep(600)")


def test_pictures_that_come_out_are_beats_and_lines_are_passed_on(start: Start, systemd: Systemd):
    code = (
        "import sys, time\n"
        "for pictures in range(1, 1000):\n"
        '    print(\'{"pictures": %d, "fps": 14.96}\' % pictures); time.sleep(0.05)'
    )
    process = start(systemd, "--lines", *python(code))
    assert systemd.listen_until("READY=1") and systemd.listen_until("WATCHDOG=1", times=4)
    assert any(line.startswith("STATUS=15.0 fps, ") for line in systemd.heard)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert output.splitlines()[0] == '{"pictures": 1, "fps": 14.96}'
    assert systemd.listen_until("STOPPING=1") and systemd.heard.count("READY=1") == 1


def test_stream_that_stands_still_gets_no_beat(start: Start, systemd: Systemd):
    code = (
        "import time\n"
        "for second in range(10000):\n"
        '    print(\'{"pictures": 5, "fps": 0.0}\'); time.sleep(0.02)'  # lines come, pictures do not
    )
    process = start(systemd, "--lines", *python(code))
    assert systemd.listen_until("READY=1")
    systemd.listen_for(1.0)  # the first picture's beats
    assert "WATCHDOG=1" not in systemd.listen_for(1.5)
    process.terminate()
    process.communicate(timeout=PATIENCE_S)


class Service(http.server.BaseHTTPRequestHandler):
    """Answers as slimpath serve does; `states` is what it answers 200 to."""

    states: set[str] = set()  # noqa: RUF012  tests change it

    def do_GET(self) -> None:
        self.send_response(200 if self.path in self.states else 503)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    Service.states = set()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_service_is_ready_when_it_says_so_and_alive_while_it_says_so(
    start: Start, systemd: Systemd, service: http.server.ThreadingHTTPServer
):
    start(systemd, "--http", f"http://127.0.0.1:{service.server_port}", *SLEEP)
    assert systemd.listen_until("WATCHDOG=1", times=3) and "READY=1" not in systemd.heard  # it loads, and may
    Service.states = {"/v2/health/ready", "/v2/health/live"}
    assert systemd.listen_until("READY=1")
    Service.states = {"/v2/health/live"}  # overloaded or draining: alive all the same
    systemd.listen_for(0.5)
    assert "WATCHDOG=1" in systemd.listen_for(1.5)
    Service.states = set()  # it hangs
    systemd.listen_for(0.5)
    assert "WATCHDOG=1" not in systemd.listen_for(1.5)


def test_service_whose_backend_hangs_gets_no_beat_after_five_minutes(service: http.server.ThreadingHTTPServer):
    """It still says that it lives; readiness is what the watchdog of its calls takes away."""
    spec = importlib.util.spec_from_file_location("notify", FILE)
    assert spec is not None and spec.loader is not None
    notify = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notify)
    now_s = [0.0]
    pulse = notify.HttpPulse(f"http://127.0.0.1:{service.server_port}", lambda: now_s[0])
    Service.states = {"/v2/health/live"}
    assert not pulse.beat() and pulse.status == "loading"
    Service.states |= {"/v2/health/ready"}
    now_s[0] = 1000.0
    assert pulse.beat() and pulse.status == "ready"
    Service.states = {"/v2/health/live"}
    now_s[0] = 1299.0
    assert pulse.beat() and pulse.ready and pulse.status == "not ready"
    now_s[0] = 1301.0
    assert not pulse.beat() and pulse.ready
    Service.states |= {"/v2/health/ready"}  # a call that was only slow
    assert pulse.beat() and pulse.status == "ready"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137), ("pass", 0)],
)
def test_exit_code_is_the_commands(start: Start, code: str, expected: int):
    process = start(None, "--lines", *python(code))  # without systemd it is a plain wrapper
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == expected


def test_command_does_not_hear_systemds_words(start: Start, systemd: Systemd):
    process = start(
        systemd, "--lines", *python("import os; print([n for n in os.environ if 'OTIFY' in n or 'DOG' in n])")
    )
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert output == "[]\n"


@pytest.mark.parametrize("arguments", [["--lines"], ["--", "true"], ["--lines", "--http", "http://x", "--", "true"]])
def test_wrong_arguments_are_refused(start: Start, arguments: list[str]):
    process = start(None, *arguments)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2 and "usage:" in errors


def test_command_that_is_not_there_is_told_in_one_line(start: Start):
    process = start(None, "--lines", "--", "/no/such/command")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 127
    assert errors == "notify.py: /no/such/command: No such file or directory\n"


def test_wrapper_needs_the_standard_library_only():
    process = subprocess.run([sys.executable, "-I", "-S", str(FILE), "--help"], capture_output=True, timeout=PATIENCE_S)
    assert process.returncode == 0
