"""What the long targets of make would run exists: scripts, modules, verbs and their options."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import slimpath
from slimpath.cli.app import app
from slimpath.tests.scripts import load_script

ROOT = Path(slimpath.__file__).resolve().parent
PLAIN = {"rm", "cp"}
MAKE = shutil.which("make")


def planned(target: str) -> list[list[str]]:
    """The command lines that `make TARGET` would run, those that install left out."""
    assert MAKE is not None
    done = subprocess.run(
        [MAKE, "-n", "--no-print-directory", target, "RUNS=runs/test", "VENV=venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words and " pip " not in f" {' '.join(words)} "]


def commands(target: str) -> Iterator[tuple[str, list[str]]]:
    """(program, arguments) of everything that is not plain shell."""
    for words in planned(target):
        program = words[0].removeprefix("venv/bin/")
        if program != words[0]:
            yield program, words[1:]
        elif words[0] not in PLAIN:
            # What the installation does, and a `make` that was already expanded.
            assert words[0] in ("python3", "mkdir", "touch", "make", MAKE), words


def check_slimpath(words: list[str]) -> None:
    """The verb exists and has every option."""
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    assert words[0] in verbs, words[0]
    known = {name for parameter in verbs[words[0]].params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known, (words, known)


def check_module(name: str, words: list[str]) -> None:
    """The module exists and names every option."""
    if name == "slimpath":
        return check_slimpath(words)
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None, name
    source = Path(found.origin).read_text(encoding="utf-8")
    assert all(f'"{word}"' in source for word in words if word.startswith("--")), (name, words)
    return None


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["train-bundled", "train-fixed", "docs-tables"])
def test_everything_that_a_target_runs_exists(target: str):
    seen = []
    for program, words in commands(target):
        seen.append(program)
        if program == "slimpath":
            check_slimpath(words)
        elif program == "torchrun":
            module = words.index("-m")
            check_module(words[module + 1], words[module + 2 :])
        elif program == "python" and words[0] == "-m":
            check_module(words[1], words[2:])
        else:
            assert program == "python", program
            source = (ROOT / words[0]).read_text(encoding="utf-8")
            assert all(f'"{word}"' in source for word in words[1:] if word.startswith("--")), words
    assert len(seen) >= 3 and "python" in seen
    assert ("torchrun" in seen) == target.startswith("train")


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
def test_bundled_model_is_replaced_by_what_was_measured_and_by_nothing_else():
    plan = planned("train-bundled")
    places = [words for words in plan if words[0] in PLAIN]
    assert ["rm", "-rf", "assets/m3vit_nano"] in places
    assert ["cp", "-r", "runs/test/measured/m3vit_nano", "assets/m3vit_nano"] in places
    removed = [words[2:] for words in places if words[0] == "rm"]
    assert removed == [["runs/test/m3vit_nano", "runs/test/measured"], ["assets/m3vit_nano"]]
    (written,) = [words for words in plan if "--write" in words]
    assert written[written.index("--write") + 1] == "runs/test/measured/m3vit_nano"


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
def test_tables_that_quote_the_bundled_model_are_all_redone(monkeypatch: pytest.MonkeyPatch):
    """Every script that opens the bundled model and writes a page or keeps figures, and the page of `slimpath eval`."""
    run = {words[1] for words in planned("docs-tables") if words[0] == "venv/bin/python" and words[1] != "-m"}
    page = load_script("page", monkeypatch)
    if "benchmarks/page.py" in run:  # --measure
        run |= {f"benchmarks/{script}" for _, (script, *_) in (page.PARTS | page.OWN_PAGES).values()}
    quoting = {
        f"benchmarks/{path.name}"
        for path in (ROOT / "benchmarks").glob("*.py")
        if "bundled_path" in (text := path.read_text(encoding="utf-8"))
        and '__name__ == "__main__"' in text
        and any(word in text for word in ("keep(", "keep_beside(", "put_figures(", "with_figures(", "write_page("))
    }
    assert len(quoting) >= 5
    assert quoting <= run, quoting - run
