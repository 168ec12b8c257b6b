"""`slimpath train` under torchrun: two processes, one training, one document; the same command goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

SETTINGS = [
    "stages=32x32:8:1",
    "steps=4",
    "warmup_steps=1",
    "tasks=depth,edge",
    "data.scenes=4",
    "data.render_hw=32x32",
    "model=m3vit_micro",
]


def torchrun(out: Path, *options: str) -> dict[str, Any]:
    """What two processes print together, which must be one JSON document."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [sys.executable, *launch, "-m", "slimpath", "train", "smoke", *SETTINGS, "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=560, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_processes_print_once_stop_together_and_go_on(tmp_path: Path):
    # Without time the first step is the last of its slice, but its end is only told with the next one's gradients.
    first = torchrun(tmp_path, "--minutes", "0")
    assert (first["step"], first["finished"]) == (2, False)
    second = torchrun(tmp_path)
    assert (second["step"], second["finished"]) == (4, True)
    assert Path(second["checkpoint"]).stat().st_size == second["bytes"] > 0
    assert {file.name for file in tmp_path.iterdir()} >= {"state.pt", "log.csv", "log-rank1.csv", "config.json"}
