"""The pictures of the page in docs/service.md: `python benchmarks/page_pictures.py` (needs Chromium and Playwright).

Starts `slimpath serve` with the bundled model, chooses a photograph, turns the knob, and keeps what the browser shows.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from graphs import photographs

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
TURNS = {"full": 100, "quarter": 0}  # of the knob, in parts of 100


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a server of the bundled model."""
    command = [sys.executable, "-m", "slimpath", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"http://[\d.]+:\d+", line):
                    yield found.group()
                    return
            raise SystemExit("slimpath serve ended without an address")
        finally:
            process.terminate()


def take(address: str, width: int, dark: bool) -> Iterator[tuple[str, Any]]:
    """The page at each turn of the knob."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photo = Path(folder) / "photo.png"
        cv2.imwrite(str(photo), cv2.cvtColor(photographs(1)[0], cv2.COLOR_RGB2BGR))
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", device_scale_factor=1.0
        )
        page.goto(address)
        page.wait_for_selector("#tasks input", timeout=60_000)
        page.set_input_files("#file", photo)
        page.wait_for_selector("#pictures figure", timeout=60_000)
        for name, turn in TURNS.items():
            page.fill("#budget", str(turn))
            for _ in range(12):  # some answers for the chart
                page.dispatch_event("#budget", "input")
                page.wait_for_timeout(250)
            yield name, page.screenshot()
        browser.close()


def main() -> None:
    """Write docs/images/page-*.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    with served() as address:
        for name, picture in take(address, arguments.width, arguments.dark):
            (arguments.out / f"page-{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
