"""The command as a whole: quick to start, helpful, and one line per error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimpath import __version__
from slimpath.cli.app import app
from slimpath.cli.common import describe, is_expected, need, parse_numbers, parse_size
from slimpath.cli.errors import InputError, MissingExtraError
from slimpath.runtime.errors import BudgetError

VERBS = (
    "demo", "run", "plan", "stream", "serve", "loadtest", "calibrate", "doctor", "inspect", "export", "convert",
    "compile", "train", "adapt", "add-task", "merge", "eval",
)  # fmt: skip
HEAVY = ("torch", "cv2", "onnxruntime", "onnx", "numpy", "skimage", "matplotlib")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_verbs_are_these():
    assert tuple(command.name for command in app.registered_commands) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_examples_of_it(slimpath: Callable[..., Any], verb: str):
    shown = slimpath(verb, "--help")
    assert shown.exit_code == 0
    assert "Examples:" in shown.stdout
    assert shown.stdout.count(f"slimpath {verb}") >= 2  # on a line of its own each, not run together
    assert "--json" in shown.stdout


def test_examples_in_the_help_use_options_that_exist():
    from slimpath.cli.reference import parameters

    for command in app.registered_commands:
        assert command.callback is not None
        known = {word for row in parameters(command.callback) for word in row.spelling.split()[0].split("/")}
        examples = [
            line for line in (command.callback.__doc__ or "").splitlines() if line.startswith("      slimpath ")
        ]
        assert examples, command.name
        for example in examples:
            used = {word for word in example.split() if word.startswith("--")}
            assert used <= known, example


def test_help_loads_no_library():
    listed = python(
        "-c",
        "import sys; from slimpath.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])",
    )
    assert listed.stdout.splitlines()[-1] == "[]", listed.stderr


def test_help_is_quick():
    def once() -> float:
        before = os.times()
        assert python("-m", "slimpath", "--help").returncode == 0
        after = os.times()
        return (after.children_user - before.children_user) + (after.children_system - before.children_system)

    # Processor time: what else the machine is doing does not count. 0.13 s on a core of a Xeon.
    assert min(once() for _ in range(3)) < 0.5


def test_module_prints_its_version():
    assert python("-m", "slimpath", "--version").stdout == f"slimpath {__version__}\n"


def test_no_arguments_show_the_help(slimpath: Callable[..., Any]):
    shown = slimpath()
    assert "Start here:" in shown.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nowhere.png", "--bundle", "no-bundle"], "no-bundle"),
        (["plan", "--bundle", "no-bundle"], "no-bundle"),
        (["inspect", "no-bundle"], "no-bundle"),
        (["train", "no-such-preset"], "no-such-preset"),
        (["train", "nowhere.json"], "nowhere.json"),
        (["export", "nowhere.safetensors", "--out", "made"], "nowhere.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], says: str):
    if arguments[0] in ("train", "export"):
        pytest.importorskip("torch", reason="these verbs need torch")
    done = python("-m", "slimpath", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("slimpath: ")
    assert list(Path.cwd().iterdir()) == []  # nothing was written


def test_unknown_option_is_exit_code_2(slimpath: Callable[..., Any]):
    assert slimpath("plan", "--bogus").exit_code == 2


def test_debug_shows_the_traceback():
    done = python("-m", "slimpath", "inspect", "no-bundle", "--debug")
    assert "Traceback" in done.stderr
    assert "BundleError" in done.stderr


def test_defect_is_named_as_one(slimpath: Callable[..., Any], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError("this\nshould not happen")

    monkeypatch.setattr("slimpath.cli.inspect.describe_bundle", broken)
    done = slimpath("inspect", tiny_bundle)
    assert done.exit_code == 1
    assert "internal error: RuntimeError: this should not happen" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.output


def test_error_of_a_folder_that_knows_nothing_of_runtime_is_expected():
    pytest.importorskip("torch", reason="models/ needs torch")
    from slimpath.models import ConfigError

    assert is_expected(ConfigError("x"))


def test_errors_of_slimpath_and_of_files_are_expected_and_others_are_not():
    assert is_expected(BudgetError("x"))
    assert is_expected(FileNotFoundError(2, "No such file or directory", "here"))
    assert not is_expected(ValueError("x"))
    assert not is_expected(KeyError("x"))


def test_description_has_the_hint_and_no_line_breaks():
    assert describe(BudgetError("a\n b", hint="do c")) == "a b; do c"
    assert describe(FileNotFoundError(2, "No such file or directory", "here")) == "here: no such file or directory"


def test_missing_library_names_the_command_that_helps():
    need(("json",), "export", "it")
    with pytest.raises(MissingExtraError, match=r'it needs no_such_library; pip install "slimpath\[export\]"'):
        need(("json", "no_such_library"), "export", "it")


def test_export_without_torch_says_what_to_install():
    done = python(
        "-c",
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else real(name, *rest)\n"
        "from slimpath.cli.app import app; app(['export', 'x', '--out', 'y'])",
    )
    assert done.returncode == 2
    assert "needs torch" in done.stderr
    assert 'pip install "slimpath[export]"' in done.stderr


def test_sizes_and_numbers_parse_or_say_what_they_must_be():
    assert parse_size("224x320") == (224, 320)
    assert parse_size("224") == (224, 224)
    assert parse_numbers("1,0.5", "--widths", 0, 1) == [1.0, 0.5]
    for bad in ("0x5", "x", "224x", "-1", "1x2x3"):
        with pytest.raises(InputError, match="HEIGHTxWIDTH"):
            parse_size(bad)
    for bad in ("0", "1.1", "a", "", "1,,2", "nan"):
        with pytest.raises(InputError, match="--widths must be numbers above 0, at most 1"):
            parse_numbers(bad, "--widths", 0, 1)


def test_json_document_is_all_of_stdout(slimpath: Callable[..., Any], tiny_bundle: Path):
    for arguments in (["inspect", tiny_bundle], ["plan", "--bundle", tiny_bundle, "--curve"]):
        done = slimpath(*arguments, "--json")
        assert done.exit_code == 0, done.output
        assert isinstance(json.loads(done.stdout), dict)
