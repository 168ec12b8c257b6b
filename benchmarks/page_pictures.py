"""The pictures of the page in docs/service.md: `python benchmarks/page_pictures.py` (needs Chromium and Playwright).

Starts `slimpath serve` with the bundled model, chooses the bundled room, turns the knob, keeps what the browser shows:
wide and light at both ends of the knob, and narrow and dark.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from service_process import Served

from slimpath.cli.demo import load_room

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
QUALITY = 80  # of the JPEG files: less than 200 kB each
ANSWERS = 12  # at each turn of the knob, for the chart


@dataclass(frozen=True)
class View:
    """A browser's window.

    Args:
        turns: name of a picture -> where the knob stands, 0 to 100.
    """

    width: int
    height: int
    dark: bool
    turns: dict[str, int]


VIEWS = (
    View(1440, 900, False, {"full": 100, "quarter": 0}),
    View(420, 1400, True, {"phone": 50}),
)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        opened = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield opened
        opened.close()


def take(chromium: Any, address: str, view: View, photo: Path) -> Iterator[tuple[str, bytes]]:
    """The page at each turn of the knob, as JPEG."""
    page = chromium.new_page(
        viewport={"width": view.width, "height": view.height}, color_scheme="dark" if view.dark else "light"
    )
    page.set_default_timeout(0)  # however long it takes: nothing is measured here
    page.goto(address)
    page.wait_for_selector("#tasks input")
    page.set_input_files("#file", photo)
    page.wait_for_selector("#pictures figure")
    for name, turn in view.turns.items():
        for _ in range(ANSWERS):
            shown = page.locator("#chart rect").count()
            page.fill("#budget", str(turn))  # which also asks anew
            page.wait_for_function("n => document.querySelectorAll('#chart rect').length > n", arg=shown)
        yield name, page.screenshot(type="jpeg", quality=QUALITY)
    page.close()


def main() -> None:
    """Write docs/images/page-*.jpg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=IMAGES)
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder, Served() as server, browser() as chromium:
        photo = Path(folder) / "photo.png"
        room = load_room()  # rendered: what the bundled model knows are such rooms
        cv2.imwrite(str(photo), cv2.cvtColor(room.image_HWC, cv2.COLOR_RGB2BGR))
        for view in VIEWS:
            for name, picture in take(chromium, server.url, view, photo):
                (out / f"page-{name}.jpg").write_bytes(picture)


if __name__ == "__main__":
    main()
