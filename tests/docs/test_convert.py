"""docs/convert.md holds the tables as they are, and names what exists."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch", reason="converting needs torch")

from slimpath.cli.convert import Format, Normalisation
from slimpath.export.convert.convert import FORMATS, NORMALISATION
from slimpath.export.convert.page import PAGE, with_tables


def test_tables_are_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_tables(text), "run `python -m slimpath.export.convert.page`"
    assert set(re.findall(r"<!-- table ([\w-]+) -->", text)) == FORMATS.keys() - {"hydravit"}


def test_command_line_offers_every_format_and_normalisation() -> None:
    assert [choice.value for choice in Format] == list(FORMATS)
    assert [choice.value for choice in Normalisation] == list(NORMALISATION)


def test_every_option_of_the_page_exists() -> None:
    import inspect

    from slimpath.cli.convert import convert

    source = inspect.getsource(convert)
    own = set(re.findall(r"`(--[a-z-]+)", PAGE.read_text(encoding="utf-8")))
    assert own and all(f'"{option}' in source or option in ("--regu", "--json") for option in own)
