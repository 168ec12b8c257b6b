"""The table of docs/service.md, written from the settings: `python -m slimpath.service.settings_page`."""

from __future__ import annotations

import re
from pathlib import Path

from .settings_show import settings_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "service.md"
_BLOCK = re.compile(r"(<!-- settings -->\n).*?(<!-- end -->)", re.DOTALL)


def with_table(text: str) -> str:
    """The page with its table anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{settings_table()}\n{found[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
