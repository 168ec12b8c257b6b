"""A server in a process of its own, as users start it, for the benchmarks of the service."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

START_S, POLL_S = 180.0, 0.05
_READY = re.compile(r"ready on (https?://\S+)")


class Served:
    """`with Served("--runners", "2") as server:` a `slimpath serve` that is ready, on a free port.

    Args:
        arguments: of `slimpath serve`.
        cores: that it may run on; None for all.
        program: what Python runs, `slimpath` or a script that ends in it.
    """

    def __init__(
        self, *arguments: str, cores: set[int] | None = None, program: Sequence[str] = ("-m", "slimpath")
    ) -> None:
        self._arguments = arguments
        self._cores = cores
        self._program = program
        self.url = ""

    def __enter__(self) -> Served:
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        quiet = ("--port", "0", "--log-level", "warning", "--no-log-access", "--per-client-limit", "100000")
        command = [sys.executable, *self._program, "serve", *quiet, *self._arguments]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        if self._cores is not None:
            os.sched_setaffinity(self._process.pid, self._cores)
        # By the times that it was asked, not by the clock: this process and the server may be stopped in between.
        for _ in range(int(START_S / POLL_S)):
            if self._process.poll() is not None:
                break
            if found := _READY.search(self.log()):
                self.url = found[1]
                return self
            time.sleep(POLL_S)
        self._process.kill()
        raise RuntimeError(f"the server did not start: {self.log()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def log(self) -> str:
        """What it has printed."""
        return Path(self._log.name).read_text()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def memory_mb(self) -> float:
        """Its proportional set size, in 1e6 bytes."""
        return self._memory_mb("Pss:")

    def resident_mb(self) -> float:
        """Its resident memory, in 1e6 bytes: what others do, who use the same libraries, does not change it."""
        return self._memory_mb("Rss:")

    def _memory_mb(self, what: str) -> float:
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError("the kernel does not say how much memory the server has")

    def open_files(self) -> int:
        """File descriptors."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def cpu_s(self) -> float:
        """CPU time of its process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
