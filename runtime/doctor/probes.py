"""Tries libraries out, each in a process of its own: an import that crashes or hangs is a finding, not the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT_S = 120.0  # importing torch from an SD card takes half a minute


@dataclass(frozen=True)
class Probe:
    """What came of one trial: what the library says, or in one line why it did not work."""

    found: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def version(self) -> str:
        """As the library itself says."""
        return str(self.found.get("version", ""))


def probe(name: str, *arguments: str, python: str | None = None, timeout_s: float = TIMEOUT_S) -> Probe:
    """Run one function of probe.py.

    Args:
        name: of the function.
        python: the interpreter; by default this one.
    """
    source = (Path(__file__).parent / "probe.py").read_text(encoding="utf-8")
    # The source as an argument: were the file run, its folder would come first where modules are looked for.
    command = [python or sys.executable, "-c", source, name, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False, cwd=os.path.sep
        )
    except subprocess.TimeoutExpired:
        return Probe(error=f"did not answer within {timeout_s:.0f} s")
    except OSError as error:
        return Probe(error=f"{command[0]} does not start: {error.strerror or error}")
    if done.returncode < 0:
        return Probe(error=f"crashed: {_signal_name(-done.returncode)}")
    if done.returncode > 0:
        return Probe(error=_last_line(done.stderr) or f"exit code {done.returncode}")
    try:
        return Probe(dict(json.loads(_last_line(done.stdout))))
    except ValueError:
        return Probe(error="printed something else than its findings")


def probe_all(wanted: Sequence[tuple[str, ...]], *, timeout_s: float = TIMEOUT_S) -> dict[tuple[str, ...], Probe]:
    """Several, two at a time: they wait for the disk more than they compute."""
    with ThreadPoolExecutor(2) as threads:
        found = threads.map(lambda call: probe(*call, timeout_s=timeout_s), wanted)
        return dict(zip(wanted, found))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""
