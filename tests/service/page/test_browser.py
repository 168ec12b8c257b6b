"""The page in a real browser: headless Chromium, driven by Playwright. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from slimpath.tests.service.running import on_socket, settings_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]  # fmt: skip
SLOW_MS = 60_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    with on_socket(settings_for(bundle)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page()
        opened.set_default_timeout(SLOW_MS)
        opened.errors = []  # type: ignore[attr-defined]
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))  # type: ignore[attr-defined]
        opened.on("request", lambda request: _only_here(opened, request.url, address))
        opened.goto(address)
        opened.wait_for_selector("#tasks input")
        yield opened
        assert opened.errors == []  # type: ignore[attr-defined]
        browser.close()


def _only_here(page: Any, url: str, address: str) -> None:
    if not url.startswith((address, "data:", "blob:")):
        page.errors.append(f"asked {url}")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    return path


def test_a_chosen_picture_is_answered_for_every_task(page: Page, photo: Path) -> None:
    tasks = page.locator("#tasks input[type=checkbox]").count()
    page.set_input_files("#file", photo)
    page.wait_for_selector("#pictures figure")
    assert page.locator("#pictures figure").count() == tasks + 1  # and the picture itself
    assert "Answered in" in page.inner_text("#status")
    assert page.locator("#chart rect").count() >= 1


def test_the_knob_is_turned_with_the_keyboard_and_changes_the_plan(page: Page, photo: Path) -> None:
    page.set_input_files("#file", photo)
    page.wait_for_selector("#pictures figure")
    before = page.inner_text("#plan")
    page.focus("#budget")
    page.keyboard.press("Home")
    page.wait_for_function("before => document.getElementById('plan').innerText !== before", arg=before)
    assert "%" in page.inner_text("#budget-text")
    assert "by the budget" in page.inner_text("#plan")


def test_unticking_a_task_takes_its_answer_away(page: Page, photo: Path) -> None:
    page.set_input_files("#file", photo)
    page.wait_for_selector("#pictures figure")
    count = page.locator("#pictures figure").count()
    page.locator("#tasks input[type=checkbox]").first.focus()
    page.keyboard.press("Space")
    page.wait_for_function("count => document.querySelectorAll('#pictures figure').length === count", arg=count - 1)


def test_what_is_no_picture_is_said_so(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#status.error")
    assert "JPEG or PNG" in page.inner_text("#status")


def test_the_camera_feeds_the_page_until_it_is_switched_off(page: Page) -> None:
    page.click("#camera")
    page.wait_for_function("() => document.querySelectorAll('#chart rect').length >= 2")
    assert page.get_attribute("#camera", "aria-pressed") == "true"
    page.click("#camera")
    assert page.get_attribute("#camera", "aria-pressed") == "false"
