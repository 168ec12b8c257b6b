"""`slimpath serve`: options made from the settings. What the server does is in tests/service."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slimpath.cli.serve import serve
from slimpath.service.settings import setting_fields


def test_every_setting_that_is_no_secret_has_an_option(slimpath: Any):
    helped = slimpath("serve", "--help")
    assert helped.exit_code == 0
    text = "".join(helped.stdout.split())
    options = inspect.signature(serve).parameters
    for item in setting_fields():
        assert (item.word in options) is not item.secret, item.key
        assert item.secret or item.flag in text


def test_print_config_shows_values_and_where_they_came_from(
    slimpath: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "s.json").write_text('{"limits": {"max_tasks": 5}}')
    monkeypatch.setenv("SLIMPATH_API_KEYS", "me:0123456789abcdef")
    done = slimpath(
        "serve", "a=b", "--port", "1", "--no-degrade", "--config", tmp_path / "s.json", "--print-config", "--json"
    )
    document = json.loads(done.stdout)
    assert document["server.port"] == {"value": 1, "from": "--port"}
    assert document["scheduler.degrade"] == {"value": False, "from": "--degrade"}
    assert document["limits.max_tasks"] == {"value": 5, "from": str(tmp_path / "s.json")}
    assert document["bundles"] == {"value": ["a=b"], "from": "arguments"}
    assert document["auth.api_keys"]["from"] == "SLIMPATH_API_KEYS" and "0123456789abcdef" not in done.stdout
    assert document["server.host"] == {"value": "127.0.0.1", "from": "default"}


def test_print_config_as_text_is_toml_with_origins(slimpath: Any):
    done = slimpath("serve", "--max-body-mib", "4", "--print-config")
    assert "[limits]\n" in done.stdout and "max_body_mib = 4.0  # --max-body-mib" in done.stdout
    assert "port = 8000  # default" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--port", "99999"), "between 0 and 65535"),
        (("--max-body-mib", "x"), "a number"),
        (("--log-format", "xml"), "one of text, json"),
        (("--host", "0.0.0.0"), "--insecure"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_2(slimpath: Any, arguments: tuple[str, ...], reason: str):
    done = slimpath("serve", *arguments, "--print-config")
    assert (done.exit_code, done.stdout) == (2, "") and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_the_extra_it_says_what_to_install(slimpath: Any, monkeypatch: pytest.MonkeyPatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name, *more)
    )
    done = slimpath("serve")
    assert done.exit_code == 2 and 'pip install "slimpath[service]"' in done.stderr


def test_the_command_line_loads_no_web_framework():
    names = ("fastapi", "uvicorn", "starlette", "httpx", "pydantic", "numpy")
    code = f"import sys, slimpath.cli.app; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
