"""`slimpath stream`: films in, films and figures out; ends well however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import slimpath.runtime.stream.sources
from slimpath.tests.runtime.stream.conftest import ListSource, numbered, read_film, write_film

Cli = Callable[..., Any]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A second and a half at 20 frames a second."""
    return write_film(tmp_path / "film.mp4", 30, fps=20)


def test_film_becomes_a_film_of_its_tasks(slimpath: Cli, tiny_bundle: Path, film: Path) -> None:
    done = slimpath(
        "stream", film, "--bundle", tiny_bundle, "--tasks", "depth,scene", "--fps", 10, "--out", "new/out.mp4"
    )
    assert done.exit_code == 0, done.output
    fps, frames = read_film(Path("new/out.mp4"))
    assert fps == pytest.approx(10) and 12 <= len(frames) <= 16
    assert re.search(r"\d+ pictures in 00:0\d, [\d.]+ of 10 fps, \d+ dropped; video in new/out.mp4", done.stdout)
    assert [path.name for path in Path("new").iterdir()] == ["out.mp4"]


def test_every_frame_is_answered_without_pace(slimpath: Cli, tiny_bundle: Path, film: Path) -> None:
    options = ["--no-pace", "--fps", 20, "--out", "out.mp4", "--cell", 96, "--budget", "0.5"]
    done = slimpath("stream", film, "--bundle", tiny_bundle, *options)
    assert done.exit_code == 0, done.output
    assert len(read_film(Path("out.mp4"))[1]) == 30
    assert "30 pictures" in done.stdout and " 0 dropped" in done.stdout


def test_json_is_one_document_a_line_and_the_last_says_so(slimpath: Cli, tiny_bundle: Path, film: Path) -> None:
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--tasks", "depth", "--json")
    assert done.exit_code == 0, done.output
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document.get("end", False) for document in documents] == [False] * (len(documents) - 1) + [True]
    last = documents[-1]
    assert last["pictures"] > 10 and last["asked_fps"] == 15 and last["out"] is None
    assert {"fps", "latency_ms", "dropped", "budget_ms", "slowdown", "mean_fps"} <= last.keys()
    assert last["plan"]["decoder_widths"].keys() == {"depth"}


def test_folder_is_a_film_at_the_asked_rate(slimpath: Cli, tiny_bundle: Path, photos: Path) -> None:
    assert cv2.imwrite(str(photos / "c.png"), numbered(50))
    done = slimpath("stream", photos, "--bundle", tiny_bundle, "--fps", 5, "--out", "out.avi", "--codec", "MJPG")
    assert done.exit_code == 0, done.output
    assert len(read_film(Path("out.avi"))[1]) == 2


def test_duration_ends_it(slimpath: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    film = write_film(tmp_path / "long.mp4", 600, fps=20)
    started = time.monotonic()
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--tasks", "depth", "--duration", 0.6, "--out", "out.mp4")
    assert done.exit_code == 0, done.output
    assert time.monotonic() - started < 15
    assert 3 <= len(read_film(Path("out.mp4"))[1]) <= 20


def test_source_slower_than_asked_is_said(slimpath: Cli, tiny_bundle: Path, film: Path) -> None:
    done = slimpath("stream", film, "--bundle", tiny_bundle, "--tasks", "depth", "--fps", 60)
    assert done.exit_code == 0, done.output
    assert "gives 20 frames a second" in done.stderr


def test_dying_source_leaves_a_whole_video_and_exit_code_2(
    slimpath: Cli, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ListSource([numbered(n) for n in range(12)], fps=30, live=True, dies=True)
    monkeypatch.setattr(slimpath_sources(), "open_source", lambda *a, **o: source)
    done = slimpath("stream", "rtsp://camera", "--bundle", tiny_bundle, "--tasks", "depth", "--out", "out.mp4")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "slimpath: list: gone"
    assert len(read_film(Path("out.mp4"))[1]) >= 3
    assert "video in out.mp4" in done.stdout
    assert source.closed


def slimpath_sources() -> Any:
    return slimpath.runtime.stream.sources


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("gone.mp4", [], "no such file or folder"),
        ("FILM", ["--out", "out.txt"], "must end in .mp4"),
        ("FILM", ["--out", "FILM"], "the source itself"),
        ("FILM", ["--out", "out.mp4", "--codec", "ZZZZ"], "cannot write ZZZZ"),
        ("FILM", ["--serve", "here"], "HOST:PORT"),
        ("FILM", ["--tasks", "flying", "--out", "out.mp4"], "unknown task"),
        ("FILM", ["--budget", "lots", "--out", "out.mp4"], "lots"),
        ("FILM", ["--bundle", "nowhere", "--out", "out.mp4"], "nowhere"),
        ("FILM", ["--show"], "window"),
        ("a ! b", [], "GStreamer"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    slimpath: Cli, tiny_bundle: Path, film: Path, source: str, options: list[str], says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:  NONE\n    GStreamer:  NO\n")
    words = [str(film) if word == "FILM" else word for word in [source, *options]]
    bundle = [] if "--bundle" in words else ["--bundle", tiny_bundle]
    done = slimpath("stream", *words, *bundle)
    assert done.exit_code == 2, done.output
    assert says in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(Path().iterdir())
    assert len(read_film(film)[1]) == 30


def wait_for(pattern: str, lines: list[str], process: subprocess.Popen[str]) -> str:
    for _ in range(1200):
        found = re.search(pattern, "\n".join(lines))
        if found:
            return found[1]
        assert process.poll() is None, lines
        time.sleep(0.05)
    raise AssertionError(lines)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_running_stream_can_be_watched_and_ends_cleanly_on_a_signal(
    how: signal.Signals, tiny_bundle: Path, tmp_path: Path
) -> None:
    film = write_film(tmp_path / "long.mp4", 1200, fps=20)
    out = tmp_path / "out.mp4"
    command = [
        sys.executable,
        "-m",
        "slimpath",
        "stream",
        film,
        "--bundle",
        tiny_bundle,
        "--tasks",
        "depth",
        "--fps",
        10,
    ]
    command += ["--out", out, "--serve", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said: list[str] = []
    assert process.stderr is not None and process.stdout is not None
    listener = threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)
    listener.start()
    url = wait_for(r"watch at (\S+)", said, process)
    printed: list[str] = [process.stdout.readline()]  # it runs
    with urllib.request.urlopen(f"{url}stats", timeout=10) as response:
        assert json.load(response)["asked_fps"] == 10
    with urllib.request.urlopen(f"{url}stream.mjpg", timeout=10) as response:
        head = b"".join(response.readline() for _ in range(4))
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # pyright: ignore[reportOptionalSubscript]
        assert cv2.imdecode(np.frombuffer(response.read(length), np.uint8), cv2.IMREAD_COLOR) is not None
    process.send_signal(how)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    last = json.loads((printed + rest.splitlines())[-1])
    assert last["end"] is True and last["out"] == str(out)
    assert len(read_film(out)[1]) == last["pictures"] + last["repeated"]
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name]
    assert "Traceback" not in "".join(said)
