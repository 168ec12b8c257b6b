"""The table of docs/devices.md: what was verified where, from docs/devices.json.

`python benchmarks/devices_table.py` writes it between the two marks. Whoever verifies something changes the JSON file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, DATA = ROOT / "docs" / "devices.md", ROOT / "docs" / "devices.json"
START, END = "<!-- table, written by benchmarks/devices_table.py -->", "<!-- end of table -->"


def table(data: dict[str, Any]) -> str:
    """The table and the notes under it, as Markdown."""
    head = ["", *data["devices"].values()]
    rows = [
        [_name(row["what"]), *(data["levels"][row["levels"][device]] for device in data["devices"])]
        for row in data["rows"]
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    notes = [f"- {_name(row['what'])}: {_evidence(row)}" for row in data["rows"]]
    return "\n".join([*lines, "", *notes]) + "\n"


def page(text: str, data: dict[str, Any]) -> str:
    """The page with the table of `data` between its marks."""
    before, _, rest = text.partition(START)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE.name} has no {START} ... {END}")
    return f"{before}{START}\n\n{table(data)}\n{END}{after}"


def read() -> dict[str, Any]:
    """docs/devices.json."""
    return json.loads(DATA.read_text(encoding="utf-8"))


def _name(what: str) -> str:
    return what if "`" in what or " " in what else f"`{what}`"


def _evidence(row: dict[str, Any]) -> str:
    shown = ", ".join(f"[{path}](../{path})" for path in row["evidence"])
    return f"{shown}; {row['note']}." if "note" in row else f"{shown}."


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
    print(f"{PAGE} written")
