"""The page works offline: nothing in it comes from, or goes to, anywhere but this server."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

STATIC = Path(__file__).resolve().parents[3] / "service" / "page" / "static"
FILES = sorted(path.name for path in STATIC.iterdir())


def test_the_page_is_served_at_the_root(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<title>slimpath</title>" in answer.text


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_page_is_served_with_its_type(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/{name}")
    assert answer.status_code == 200
    types = {".js": "javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    assert types[Path(name).suffix] in answer.headers["content-type"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host(name: str) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", (STATIC / name).read_text())
    assert set(addresses) <= {"http://www.w3.org"}  # the names of SVG's elements, which nobody fetches


def test_scripts_and_styles_are_files_of_their_own_as_the_content_policy_wants() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)


def test_answers_are_shown_as_text_never_as_markup() -> None:
    for name in FILES:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", (STATIC / name).read_text()
        )


def test_every_control_has_a_label() -> None:
    page = (STATIC / "index.html").read_text()
    for control in re.findall(r"<(?:input|select)[^>]*\bid=\"([\w-]+)\"", page):
        before = page[: page.index(f'id="{control}"')]
        inside_a_label = before.rfind("<label") > before.rfind("</label>")
        assert inside_a_label or f'for="{control}"' in page, control
