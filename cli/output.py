"""What verbs print: results on stdout (a table, or one JSON document), progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def print_json(document: Any) -> None:
    """One JSON document on stdout; structs, paths, dataclasses and NumPy numbers become what JSON has."""
    import msgspec

    encoded = msgspec.json.encode(document, enc_hook=_to_json)
    print(msgspec.json.format(encoded, indent=2).decode())


def _to_json(value: Any) -> Any:
    from pathlib import PurePath

    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def stdout_console() -> Console:
    """A console for results. Where stdout is a file or a pipe, lines are as long as they need to be."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[int] = ()
) -> None:
    """A table on stdout; `numeric` columns are right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in numeric else "left", no_wrap=index in numeric)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console = stdout_console()
    if not sys.stdout.isatty():
        console.width = 200
    console.print(table)


@contextmanager
def progress_bar(what: str, total: int | None, *, shown: bool = True) -> Iterator[Progress]:
    """A progress bar on stderr, gone when done; nothing where stderr is no terminal.

    Yields rich's Progress with one task, id 0.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True)
    progress.add_task(what, total=total)
    if shown and console.is_terminal:
        with progress:
            yield progress
    else:  # never started: even a disabled one of rich 13 ends with an empty line
        yield progress


def human_flops(flops: float) -> str:
    """FLOPs with a unit: 310 MFLOPs, 1.25 GFLOPs."""
    return f"{flops / 1e9:.3g} GFLOPs" if flops >= 1e9 else f"{flops / 1e6:.3g} MFLOPs"


def human_bytes(count: float) -> str:
    """Bytes with a unit, MB = 1e6: 812 B, 4.2 kB, 12.9 MB."""
    for limit, unit in ((1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"


def percent(share: float) -> str:
    """A share as per cent: 0.312 -> 31 %."""
    return f"{100 * share:.0f} %"
