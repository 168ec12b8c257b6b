"""The tables of docs/convert.md, written from the tables themselves: `python -m slimpath.export.convert.page`."""

import re
from collections.abc import Iterable
from pathlib import Path

from .convert import FORMATS
from .table import Rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "convert.md"
_BLOCK = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown_table(rules: Iterable[Rule]) -> str:
    """A table of foreign names, ours, and what happens on the way."""
    lines = ["| there | here | on the way |", "|---|---|---|"]
    for rule in rules:
        own = f"`{rule.own}`" if rule.own is not None else "not needed"
        lines.append(f"| `{rule.foreign}` | {own} | {rule.note} |")
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """The page with every table anew."""
    return _BLOCK.sub(lambda found: found[1] + markdown_table(FORMATS[found["name"]][1]) + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
