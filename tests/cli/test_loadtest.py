"""`slimpath loadtest`: its arguments, what it prints and writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimpath.cli.app import app
from slimpath.cli.errors import InputError
from slimpath.cli.loadtest_input import parse_deadline, parse_options, read_bodies
from slimpath.service.loadtest.picture import made_up_photograph
from slimpath.tests.service.loadtest.conftest import Behaviour, Server, answering, response, serve

needs_service = pytest.mark.skipif(find_spec("httptools") is None, reason="the service extra is not installed")

__all__ = ["serve"]  # a fixture
Serve = Callable[[Behaviour], Server]
ANSWER = response(200, b'{"quality": {"kept": {"depth": 0.9}}}', Slimpath_Degraded="true", Slimpath_Width="0.5")
SHORT = ("--rate", "50", "--duration", "0.2", "--warm", "1")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["loadtest", *arguments])
    return result.exit_code, result.stdout, result.stderr


@needs_service
def test_it_prints_the_figures(serve: Serve) -> None:
    code, out, err = run(serve(answering(ANSWER)).url, *SHORT, "--deadline", "10s")
    assert code == 0, err
    assert "attainment" in out and "100.0 % of what was offered" in out
    assert "90.0 % of the full accuracy kept" in out


@needs_service
def test_json_is_one_document(serve: Serve) -> None:
    code, out, err = run(serve(answering(ANSWER)).url, *SHORT, "--trace", "steady", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["load"] == {
        "kind": "steady", "rate_per_s": 50.0, "seconds": 0.2, "seed": 0, "burstiness": 0.0, "requests": 10,
    }  # fmt: skip
    assert document["counts"]["answered"] == 10
    assert document["quality"] == pytest.approx(0.9)


@needs_service
def test_trace_samples_and_plot_are_written(serve: Serve, tmp_path: Path) -> None:
    server = serve(answering(ANSWER))
    folder = tmp_path / "out"
    folder.mkdir()
    trace, samples, plot = (str(folder / name) for name in ("t.json", "s.csv", "p.png"))
    code, _, err = run(server.url, *SHORT, "--save-trace", trace, "--samples", samples, "--plot", plot)
    assert code == 0, err
    rows = list(csv.DictReader(Path(samples).read_text().splitlines()))
    assert rows and all(row["kind"] == "answered" for row in rows)
    assert sorted(path.name for path in folder.iterdir()) == ["p.png", "s.csv", "t.json"]
    before = len(server.seen)
    code, out, err = run(server.url, "--trace", trace, "--warm", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["offered"] == len(rows) == len(server.seen) - before - 1


@needs_service
def test_key_tasks_and_options_reach_the_server(serve: Serve, tmp_path: Path) -> None:
    server = serve(answering(ANSWER))
    image = tmp_path / "a.jpg"
    image.write_bytes(made_up_photograph((32, 32)))
    code, _, err = run(
        server.url, *SHORT, "--key", "secret", "--tasks", "depth,edge", "--budget", "0.5", "--option", "format=rle",
        "--image", str(tmp_path), "--closed", "2",
    )  # fmt: skip
    assert code == 0, err
    seen = server.seen[-1]
    assert seen.headers["x-api-key"] == "secret"
    assert seen.query == {"tasks": "depth,edge", "budget": "0.5", "format": "rle"}
    assert seen.body == image.read_bytes()


@pytest.mark.parametrize("arguments", [
    ("ftp://x",),
    ("http://127.0.0.1:1", "--warm", "1"),
    ("http://h", "--trace", "square"),
    ("http://h", "--rate", "0"),
    ("http://h", "--deadline", "soon"),
    ("http://h", "--option", "format"),
    ("http://h", "--closed", "0"),
    ("http://h", "--warm", "0"),
    ("http://h", "--image", "/nonexistent.jpg"),
    ("http://h", "--closed", "2", "--save-trace", "x.json"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("slimpath: ") and err.count("\n") == 1


@pytest.mark.parametrize(("text", "expected"), [
    (None, (None, None)), ("200ms", (0.2, None)), ("0.5 s", (0.5, None)), ("3x", (None, 3.0)), (".5X", (None, 0.5)),
])  # fmt: skip
def test_deadlines_are_read(text: str | None, expected: tuple[float | None, float | None]) -> None:
    assert parse_deadline(text) == expected


@pytest.mark.parametrize("text", ["", "200", "0ms", "-1s", "3 y", "1e3ms"])
def test_what_is_no_deadline_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_deadline(text)


def test_an_option_may_hold_equals_signs() -> None:
    assert parse_options(["format=semseg=rle"], tasks=None, budget=None) == {"format": "semseg=rle"}


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_bodies([tmp_path])


def test_the_made_up_photograph_is_always_the_same_and_of_usual_size() -> None:
    assert made_up_photograph() == made_up_photograph()
    assert 40_000 < len(made_up_photograph()) < 250_000
