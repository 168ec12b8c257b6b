"""docs/cli.md is what the verbs say of themselves."""

from __future__ import annotations

from pathlib import Path

import slimpath
from slimpath.cli.app import app
from slimpath.cli.reference import reference

DOCS = Path(slimpath.__file__).parent / "docs" / "cli.md"


def test_page_is_up_to_date():
    assert DOCS.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_page_has_every_option_once_per_verb():
    sections = reference().split("\n## slimpath ")[1:]
    assert [section.split("\n", 1)[0] for section in sections] == [command.name for command in app.registered_commands]
    for section in sections:
        assert section.count("| `--json` |") == 1
