"""Does `slimpath stream` hold the rate? `python benchmarks/stream.py` plays a film of 30 s through the command line.

Several rates, each with the knob and, beside it, with the full model pinned; once with a neighbour that takes a core
for the second half. Prints a table and keeps it for docs/benchmarks.md unless --quick; `--videos DIR` keeps the videos,
`--picture FILE` draws the picture of docs/stream.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
from film import write_film
from method import table
from neighbour import Neighbour
from page import keep

SECONDS = 30.0
FULL = "width=1,decoder_width=1"
EVERY_TASK = "depth,semseg,normals,edge,saliency,scene"
PICTURE_S = 4.0
CASES: tuple[tuple[str, float, bool], ...] = (
    # tasks, frames a second, with a neighbour?
    ("depth,semseg", 5, False),
    ("depth,semseg", 10, False),
    ("depth,semseg", 15, False),
    ("depth,semseg", 25, False),
    (EVERY_TASK, 8, False),
    ("depth,semseg", 15, True),
)


def play(film: Path, tasks: str, fps: float, *, budget: str | None, neighbour: bool, out: Path) -> dict[str, Any]:
    """One run of the command line: its JSON lines, and what is in the video."""
    command = [sys.executable, "-m", "slimpath", "stream", str(film), "--tasks", tasks, "--fps", f"{fps:g}"]
    command += ["--out", str(out), "--json", *(["--budget", budget] if budget else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    disturbing = threading.Thread(target=_disturb, daemon=True)
    documents: list[dict[str, Any]] = []
    assert process.stdout is not None
    for line in process.stdout:
        if not documents and neighbour:
            disturbing.start()
        documents.append(json.loads(line))
    if process.wait() != 0:
        raise SystemExit(f"the stream failed: {' '.join(command)}")
    capture = cv2.VideoCapture(str(out))
    frames = 0
    while capture.grab():
        frames += 1
    video = {"frames": frames, "fps": capture.get(cv2.CAP_PROP_FPS)}
    return {"last": documents[-1], "seconds": documents[:-1], "video": video}


def _disturb() -> None:
    time.sleep(SECONDS / 2)
    with Neighbour():
        time.sleep(SECONDS)


def row(tasks: str, fps: float, how: str, run: dict[str, Any]) -> list[str]:
    """One line of the table."""
    last, seconds = run["last"], run["seconds"]
    shares = sorted(document["plan"]["share"] for document in seconds if document["plan"])
    worst = min((document["fps"] for document in seconds[3:]), default=0.0)
    off = last["mean_fps"] / fps - 1
    length_s = run["video"]["frames"] / run["video"]["fps"]
    return [
        f"{len(tasks.split(','))}", f"{fps:g}", how, f"{last['mean_fps']:.2f}", f"{100 * off:+.1f} %", f"{worst:.1f}",
        f"{shares[len(shares) // 2]:.0%}", f"{last['latency_ms']:.1f}", str(last["dropped"]), f"{length_s:.1f}",
    ]  # fmt: skip


HEAD = [
    "tasks", "asked fps", "how", "held fps", "off by", "worst 2 s", "of full (median)", "latency, ms", "dropped",
    "video, s",
]  # fmt: skip


def measure(seconds: float, videos: Path | None) -> tuple[str, str, dict[str, object]]:
    """Title, table and raw figures of all cases."""
    rows, raw = [], {}
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        write_film(film, seconds)
        for tasks, fps, neighbour in CASES:
            for budget in (None, FULL):
                how = ("knob" if budget is None else "full model") + (
                    ", neighbour from the middle" if neighbour else ""
                )
                name = f"{len(tasks.split(','))}-tasks-{fps:g}-fps-{how.replace(', ', '-').replace(' ', '-')}.mp4"
                out = (videos or Path(folder)) / name
                run = play(film, tasks, fps, budget=budget, neighbour=neighbour, out=out)
                rows.append(row(tasks, fps, how, run))
                raw[name] = run | {"seconds": [one["fps"] for one in run["seconds"]]}
                run["last"].pop("out")
                print(" | ".join(rows[-1]), flush=True)
    title = f"`slimpath stream` on a film of {seconds:g} s (640 x 480, 30 frames a second), video written"
    return title, table(HEAD, rows), raw


def write_picture(path: Path) -> None:
    """One frame of a stream of every task, as JPEG: the picture of docs/stream.md."""
    with tempfile.TemporaryDirectory() as folder:
        film, out = Path(folder) / "film.mp4", Path(folder) / "out.mp4"
        write_film(film, PICTURE_S + 2)
        play(film, EVERY_TASK, 8, budget=None, neighbour=False, out=out)
        capture = cv2.VideoCapture(str(out))
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(PICTURE_S * 8))
        done, frame = capture.read()
        assert done and cv2.imwrite(str(path), frame, [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--quick", action="store_true", help="nothing is kept")
    parser.add_argument("--videos", type=Path, default=None)
    parser.add_argument("--picture", type=Path, default=None, help="write one frame of every task, and nothing else")
    arguments = parser.parse_args()
    if arguments.picture is not None:
        write_picture(arguments.picture)
        return
    if arguments.videos is not None:
        arguments.videos.mkdir(parents=True, exist_ok=True)
    title, text, raw = measure(arguments.seconds, arguments.videos)
    print(f"\n## {title}\n\n{text}")
    if not arguments.quick:
        keep("stream", [(title, text, raw)])


if __name__ == "__main__":
    main()
