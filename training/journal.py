"""What a training tells while it runs: a CSV log, means for it, a plot of it, a progress bar."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from .files import write_whole

__all__ = ["Journal", "Meter", "Progress", "counting_bar", "plot_losses"]


class Journal:
    """A CSV file with one line every few steps; a resumed training drops the lines after its step and goes on."""

    def __init__(self, path: Path, tasks: Sequence[str], first_step: int) -> None:
        self.path = path
        self.columns = ["step", "image_hw", "batch", "lr", "grad_norm", "images_per_s", "minutes", "balance"]
        self.columns += [f"{task}_widest" for task in tasks] + [f"{task}_narrowest" for task in tasks]
        kept = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) < first_step]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def write(self, **values: Any) -> None:
        """Append a line; what is not given stays empty."""
        line = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(line)


class Meter:
    """Means of what steps report, and images per second, since it was made."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._images = 0
        self._start = self._lap = time.monotonic()

    def add(self, values: Mapping[str, Tensor], images: int) -> None:
        """Take in what a step reports, scalars, and how many images it had, in all processes; rows share images."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + value.float().cpu()
            self._counts[name] = self._counts.get(name, 0) + 1
        self._images += images

    def means(self) -> dict[str, float]:
        """Of each value over the steps that reported it."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}

    def lap_minutes(self) -> float:
        """Since the last call of this, or since it was made."""
        lap, self._lap = self._lap, time.monotonic()
        return (self._lap - lap) / 60

    def rate(self) -> float:
        """Images per second."""
        return self._images / max(1e-9, time.monotonic() - self._start)


def plot_losses(log: Path, picture: Path) -> bool:
    """Draw every task's loss, widest and narrowest, from a journal.

    Returns:
        False if the log holds nothing to draw yet (no picture is written then).
    """
    from matplotlib.figure import Figure

    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return False
    tasks = [name.removesuffix("_widest") for name in rows[0] if name.endswith("_widest")]
    figure = Figure(figsize=(11, 3 * ((len(tasks) + 2) // 3)), layout="constrained")
    panels = figure.subplots((len(tasks) + 2) // 3, min(3, len(tasks)), squeeze=False).flat
    for panel, task in zip(panels, tasks, strict=False):
        for which, colour in (("widest", "tab:blue"), ("narrowest", "tab:orange")):
            points = [(int(row["step"]), float(value)) for row in rows if (value := row[f"{task}_{which}"])]
            if points:
                panel.plot(*zip(*points, strict=True), color=colour, label=which, linewidth=1)
        panel.set_title(task)
        panel.set_xlabel("step")
        panel.set_yscale("log")
        panel.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90, format=picture.suffix[1:].lower())
    write_whole(picture, drawn.getvalue())
    return True


class Progress:
    """A progress bar with rate, time to go and losses on stderr; nothing at all if not shown."""

    def __init__(self, shown: bool, first: int, total: int) -> None:
        self._bar: Any = None
        if not shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("train"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("train", total=total, completed=first, text="")

    def update(self, step: int, text: str | None = None) -> None:
        """Show that `step` steps are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, **({} if text is None else {"text": text}))

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def counting_bar(what: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar with time to go on stderr, gone when done; yields what is told how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Bar(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(what, total=total)
    if shown and console.is_terminal:
        with bar:
            yield lambda done: bar.advance(task, done)
    else:  # never started: even a disabled one of rich 13 ends with an empty line
        yield lambda done: None
