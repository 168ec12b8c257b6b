#!/usr/bin/env python3
"""Runs a command as a systemd service of Type=notify, and feeds systemd's watchdog only while the command works.

    notify.py --http http://127.0.0.1:8000 -- slimpath serve        ready and alive by what the service answers
    notify.py --lines -- slimpath stream /dev/video0 --json         ready and alive by pictures that come out

A process that hangs is still a process: systemd would let it be. Here each beat has a reason, a 200 from
/v2/health/ready (for five minutes /v2/health/live will do) or a picture more than before. Only the standard library.
Source: sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import IO

LOOK_S = 1.0
ANSWER_S = 5.0  # an overloaded service answers late, yet answers
NOT_READY_S = 300.0  # longer than it drains, or than a call takes that is only slow: the backend hangs
_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Systemd:
    """Speaks to systemd; says nothing where there is none.

    Args:
        environment: with NOTIFY_SOCKET, and WATCHDOG_USEC where a watchdog waits for this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        pid = environment.get("WATCHDOG_PID")
        mine = pid is None or pid == str(os.getpid())
        self.watchdog_s = int(environment.get("WATCHDOG_USEC") or 0) / 1e6 if mine else 0.0

    def say(self, *lines: str) -> None:
        """Such as "READY=1", "WATCHDOG=1", "STATUS=...". One that cannot be said is left out."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.sendto("\n".join(lines).encode(), self._address)


class HttpPulse:
    """Alive while the service says so.

    Args:
        url: without a path.
        clock: in seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/")
        self._clock = clock
        self._ready_s = 0.0
        self.ready = False
        self.status = "loading"

    def beat(self) -> bool:
        """Look once: is it ready? Once it was, it may not be for a while, if it is alive."""
        if self._ok("/v2/health/ready"):
            self.ready, self.status, self._ready_s = True, "ready", self._clock()
            return True
        self.status = "not ready" if self.ready else "loading"
        return self.ready and self._clock() - self._ready_s < NOT_READY_S and self._ok("/v2/health/live")

    def _ok(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self._url + path, timeout=ANSWER_S) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError, ValueError):
            return False


class LinePulse:
    """Alive while lines tell of more pictures; lines that are not JSON count each. They are passed on.

    Args:
        lines: the command's output.
        out: where they are passed on to.
    """

    def __init__(self, lines: IO[str], out: IO[str]) -> None:
        self._lines, self._out = lines, out
        self._pictures = 0
        self._beats = 0
        self._seen = 0
        self.ready = False
        self.status = "loading"
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)
        self._thread.start()

    def beat(self) -> bool:
        """Has a line come since the last look that tells of work?"""
        before, self._seen = self._seen, self._beats
        self.ready = self.ready or self._seen > 0
        return self._seen > before

    def close(self) -> None:
        """Wait until everything was passed on."""
        self._thread.join(ANSWER_S)

    def _read(self) -> None:
        for line in self._lines:
            print(line, end="", file=self._out, flush=True)
            self._beats += self._tells_of_work(line)

    def _tells_of_work(self, line: str) -> bool:
        try:
            document = json.loads(line)
            pictures = int(document["pictures"])
        except (ValueError, TypeError, KeyError):
            return bool(line.strip())
        self.status = f"{document.get('fps', 0):.1f} fps, {pictures} pictures"
        more, self._pictures = pictures > self._pictures, pictures
        return more


def run(command: list[str], url: str | None, *, clock: Callable[[], float] = time.monotonic) -> int:
    """Run the command until it ends; its exit code, 128 + N where signal N ended it."""
    systemd = Systemd(os.environ)
    environment = {name: value for name, value in os.environ.items() if name not in _OWN}
    output = subprocess.PIPE if url is None else None
    with subprocess.Popen(command, env=environment, stdout=output, text=True) as child:
        _pass_signals_on(child)
        pulse = LinePulse(child.stdout, sys.stdout) if child.stdout is not None else HttpPulse(str(url), clock)
        look_s = min(LOOK_S, systemd.watchdog_s / 4 or LOOK_S)
        told_ready, said = False, ""
        while not _ended(child, look_s):
            beat = pulse.beat()
            lines = ["WATCHDOG=1"] if beat or not pulse.ready else []  # while loading, systemd's start limit counts
            if pulse.ready and not told_ready:
                told_ready = True
                lines.append("READY=1")
            if pulse.status != said:
                said = pulse.status
                lines.append(f"STATUS={said}")
            if lines:
                systemd.say(*lines)
        systemd.say("STOPPING=1")
        if isinstance(pulse, LinePulse):
            pulse.close()
        return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _ended(child: subprocess.Popen[str], within_s: float) -> bool:
    try:
        child.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _pass_signals_on(child: subprocess.Popen[str]) -> None:
    def pass_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run a command under systemd's watchdog.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--http", metavar="URL", help="the service's address; it is asked for its health")
    kind.add_argument("--lines", action="store_true", help="the command's output tells that it works")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("a command is needed after --")
    try:
        return run(command, given.http)
    except OSError as error:
        print(f"notify.py: {command[0]}: {error.strerror or error}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
