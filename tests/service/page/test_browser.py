"""The page in a real browser: headless Chromium, driven by Playwright. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
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
    assert page.locator("#chart rect.server").count() == page.locator("#chart rect.engine").count() >= 1
    height = "name => Number(document.querySelector(`#chart rect.${name}`).getAttribute('height'))"
    assert 0 < page.evaluate(height, "engine") <= page.evaluate(height, "server")


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
    page.wait_for_function("() => document.querySelectorAll('#chart rect.server').length >= 2")
    assert page.get_attribute("#camera", "aria-pressed") == "true"
    page.click("#camera")
    assert page.get_attribute("#camera", "aria-pressed") == "false"


SHOWN = "#pictures figure:first-child img"
SIZE = f"() => {{ const shown = document.querySelector('{SHOWN}'); return [shown.naturalWidth, shown.naturalHeight]; }}"


def test_beside_the_answers_is_the_picture_of_the_camera_not_the_one_uploaded_before(page: Page, photo: Path) -> None:
    page.set_input_files("#file", photo)
    page.wait_for_selector(SHOWN)
    page.wait_for_function(f"() => document.querySelector('{SHOWN}').naturalWidth === 80")
    page.click("#camera")
    page.wait_for_function(f"() => document.querySelector('{SHOWN}')?.naturalWidth === 640")
    first = page.get_attribute(SHOWN, "src")
    page.wait_for_function(f"first => document.querySelector('{SHOWN}').src !== first", arg=first)
    page.click("#camera")
    assert page.evaluate(SIZE) == [640, 480]
    gone = page.evaluate("url => new Promise(done => { const probe = new Image(); probe.onload = () => done(false); "
                         "probe.onerror = () => done(true); probe.src = url; })", first)  # fmt: skip
    assert gone, "the pictures of the camera are kept for ever"


def test_the_camera_waits_after_an_error_as_long_as_the_server_says(page: Page) -> None:
    page.evaluate("""() => {
        window.asked = [];
        const plain = window.fetch;
        window.fetch = (path, options) => {
            if (path === "/v1/infer") window.asked.push(performance.now());
            return plain(path, options);
        };
    }""")
    refused = {"error": {"code": "refused", "message": "the queue is full"}}
    page.route("**/v1/infer", lambda route: route.fulfill(status=503, json=refused, headers={"Retry-After": "1"}))
    page.click("#camera")
    page.wait_for_function("() => window.asked.length >= 3")
    page.click("#camera")
    times_ms = page.evaluate("() => window.asked")
    assert min(later - sooner for sooner, later in pairwise(times_ms)) >= 990
    assert "queue is full" in page.inner_text("#status")


def test_a_slider_says_how_much_a_task_matters(page: Page, photo: Path) -> None:
    page.set_input_files("#file", photo)
    page.wait_for_selector("#pictures figure")
    page.focus("#tasks .task:first-child input[type=range]")
    with page.expect_request(lambda request: "/v1/plan" in request.url) as sent:
        page.keyboard.press("ArrowRight")
    name = page.input_value("#tasks .task:first-child input[type=checkbox]")
    assert f"{name}%3D2" in sent.value.url
    assert page.inner_text("#tasks .task:first-child output") == "2 x"
    assert page.get_attribute("#tasks .task:first-child input[type=range]", "aria-valuetext") == "2 x"


def test_milliseconds_are_offered_where_the_device_was_calibrated(page: Page, photo: Path) -> None:
    assert page.is_hidden("#units")

    def calibrated(route: Any) -> None:
        """The server's own answer, as if it had a profile."""
        answer = route.fetch()
        body = answer.json()
        for model in body.get("models", []):
            model["predicts"] = "latency"
        for place, choice in enumerate(body.get("curve", [])):
            choice["predicted"]["p95_ms"] = 10.0 + place
        route.fulfill(response=answer, json=body)

    page.route("**/v1/models", calibrated)
    page.route("**/v1/plan*", calibrated)
    page.route("**/v1/infer", lambda route: route.abort())  # this one would refuse milliseconds
    page.reload()
    page.wait_for_selector("#units", state="visible")
    page.set_input_files("#file", photo)
    page.check("input[value=ms]")
    page.focus("#budget")
    with page.expect_request(lambda request: b'name="budget"' in (request.post_data_buffer or b"")) as sent:
        page.keyboard.press("Home")
    assert b"10.2ms" in (sent.value.post_data_buffer or b"")
    assert page.inner_text("#budget-text") == "10.2 ms"


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page: Page, photo: Path, kind: str) -> None:
    page.evaluate("""([kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "photo.png", { type: "image/png" }));
        document.dispatchEvent(kind === "drop" ? new DragEvent("drop", { dataTransfer: data, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data }));
    }""", [kind, list(photo.read_bytes())])  # fmt: skip
    page.wait_for_selector("#pictures figure")
    assert "Answered in" in page.inner_text("#status")


def test_a_server_with_keys_asks_for_one_and_answers_with_it(bundle: Path, photo: Path) -> None:
    from playwright.sync_api import sync_playwright

    key = "0123456789abcdef"
    settings = settings_for(bundle, auth={"api_keys": (f"me:{key}",)})
    with on_socket(settings) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(SLOW_MS)
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_selector("#key", state="visible")
        assert page.locator("#tasks input").count() == 0
        page.fill("#key", key)
        page.keyboard.press("Tab")
        page.wait_for_selector("#tasks input")
        page.set_input_files("#file", photo)
        page.wait_for_selector("#pictures figure")
        browser.close()
