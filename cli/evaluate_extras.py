"""What `slimpath eval` gives beside accuracies: delta_m, control, pictures and a page of the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluate_text import docs_words

if TYPE_CHECKING:
    from ..training.eval_control import ControlRow
    from ..training.eval_reference import DeltaReport
    from ..training.eval_report import EvalReport
    from ..training.evaluate import Evaluation, Intended


class Extras:
    """What one command line asks for; empty and None ask for nothing.

    Args:
        reference: reports of single-task models, for `delta`.
        budgets: shares of the full FLOPs, for `control`.
        pictures, plot, docs: where those are written.

    Raises:
        EvaluationError: `plot` has a suffix that nothing can draw.
    """

    def __init__(
        self,
        *,
        reference: Sequence[Path],
        budgets: Sequence[float],
        pictures: Path | None,
        plot: Path | None,
        docs: Path | None,
    ) -> None:
        from ..training.eval_plot import plot_kind

        if plot is not None:
            plot_kind(plot)
        self._reference, self._budgets = list(reference), list(budgets)
        self._pictures, self._plot, self._docs = pictures, plot, docs
        self._references: dict[str, tuple[float, ...]] = {}
        self._drawn: list[Path] = []

    def check(self, intended: Intended) -> None:
        """What an evaluation of minutes would end with an error for is looked at before it."""
        from ..training.eval_control import check_control
        from ..training.eval_reference import read_references

        if self._reference:
            names = {task: metric.name for task, metric in intended.metrics.items()}
            self._references = read_references(self._reference, intended.source, names)
        if self._budgets:
            check_control(list(intended.metrics), intended.precisions)

    def draw(self, found: Evaluation) -> None:
        """Write the pictures, while the samples can still be read."""
        from ..training.eval_pictures import write_pictures

        if self._pictures is not None:
            self._drawn = write_pictures(found, self._pictures)

    def delta(self, found: Evaluation) -> DeltaReport | None:
        """Against the single-task models; None without any."""
        from ..training.eval_reference import against

        return against(found, self._references) if self._references else None

    def control(self, found: Evaluation) -> Sequence[ControlRow]:
        """How much preferences control at each budget."""
        from ..training.eval_control import controllability, with_report

        if not self._budgets:
            return ()
        return controllability(with_report(found.bundle.manifest, found.report), self._budgets, found.report.size_hw)

    def write(self, report: EvalReport, bundle: Path | None, options: Mapping[str, Any]) -> list[Path]:
        """Write plot and page; all the files that were made, pictures first.

        Args:
            bundle, options: how the page quotes the command, see `docs_words`.
        """
        from ..training.eval_docs import write_docs_table
        from ..training.synthrooms import VERSIONS

        made = list(self._drawn)
        if self._plot is not None:
            made.append(report.plot(self._plot))
        if self._docs is not None:
            words = docs_words(report, bundle, self._docs, options)
            other = [world for world, version in VERSIONS.items() if version == report.renderer and world != "rooms"]
            page = f"evaluation{''.join(f'-{world}' for world in other)}.md"
            made.append(write_docs_table(report, self._docs / page, **words))
        return made
