"""What an evaluation found: values with intervals, against baselines, and two claims held or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.bundles.accuracy import Accuracy
from ..runtime.bundles.graph_spec import FULL_PRECISION
from .bootstrap import Interval
from .eval_rows import MIN_IMPROVEMENT, Comparison, EvalRow, Kept

__all__ = ["MIN_IMPROVEMENT", "Comparison", "EvalReport", "EvalRow"]


@dataclass(frozen=True)
class EvalReport:
    """Everything measured. `rows` hold the diagonal first, task by task, narrow to wide.

    `source` says what was judged and `fitted_on` what trivial answers were fitted on; `layout` is that of a data set in
    files, None for rendered scenes, and then seeds, renderer and `samples_per_pixel` are nothing. `at` are the
    configurations that were asked for one by one.
    """

    bundle: str
    weights_sha256: str
    source: str
    fitted_on: str
    layout: str | None
    renderer: str
    scenes: int
    first_seed: int | None
    samples_per_pixel: int | None
    size_hw: tuple[int, int]
    grid: bool
    baseline_scenes: int
    baseline_first_seed: int | None
    resamples: int
    skipped_tasks: tuple[str, ...]
    rows: tuple[EvalRow, ...]
    comparisons: tuple[Comparison, ...]
    seconds: float
    written: Path | None = None
    backend: str = "onnxruntime"
    precision: str = "fp32"
    at: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()

    @property
    def shown(self) -> list[EvalRow]:
        """What tables show: every row that was asked for by itself, else the diagonal."""
        return list(self.rows) if self.at else self.diagonal

    @property
    def diagonal(self) -> list[EvalRow]:
        """The rows with decoder as wide as encoder, and all experts."""
        return [row for row in self.rows if row.diagonal]

    @property
    def tasks(self) -> list[str]:
        """The tasks that were measured."""
        return list(dict.fromkeys(row.configuration.task for row in self.rows))

    def widest(self, task: str) -> EvalRow:
        """Of a task the shown row with the widest encoder, among these of most experts and with the widest decoder."""
        rows = [row for row in self.shown if row.configuration.task == task]
        return max(rows, key=lambda row: row.configuration.extent)

    def claims(self) -> dict[str, bool]:
        """Claim -> held for every task and width that is shown; widths are compared on the diagonal."""
        return {
            f"at least {100 * MIN_IMPROVEMENT:.0f} % better than trivial": all(row.beats_trivial for row in self.shown),
            "wider is not worse than narrower": all(comparison.holds for comparison in self.comparisons),
        }

    def exceptions(self) -> list[str]:
        """What the claims do not hold for, a line each."""
        lines = []
        for row in self.shown:
            if not row.beats_trivial:
                gain, chosen = row.improvement, row.configuration
                lines.append(
                    f"{chosen.task} at width {chosen.encoder_width:g}: {_percent(gain.value)} over trivial, "
                    f"95 % interval {_percent(gain.low)} to {_percent(gain.high)}"
                )
        for comparison in self.comparisons:
            if not comparison.holds:
                gain = comparison.gain
                lines.append(
                    f"{comparison.task}: width {comparison.wide:g} is worse than {comparison.narrow:g} "
                    f"by {-gain.value:.4g} (95 % interval {-gain.high:.4g} to {-gain.low:.4g})"
                )
        return lines

    def accuracies(self) -> tuple[Accuracy, ...]:
        """The rows as a manifest holds them."""
        return tuple(
            Accuracy(
                task=row.configuration.task,
                encoder_width=row.configuration.encoder_width,
                top_k=row.configuration.top_k,
                decoder_width=row.configuration.decoder_width,
                metric=row.metric,
                higher_is_better=row.higher_is_better,
                value=row.accuracy.value,
                ci_low=row.accuracy.low,
                ci_high=row.accuracy.high,
                trivial=row.trivial,
                samples=self.scenes,
                source=self.source,
                precision=row.configuration.precision
                if row.configuration.precision != FULL_PRECISION
                else self.precision,
                size_hw=self.size_hw,
                all_experts=None if row.all_experts is None else row.all_experts.value,
            )
            for row in self.rows
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        document = dataclasses.asdict(self)
        document["written"] = str(self.written) if self.written else None
        for plain, row in zip(document["rows"], self.rows, strict=True):
            plain.update(plain.pop("configuration"), beats_trivial=row.beats_trivial)
        for plain, comparison in zip(document["comparisons"], self.comparisons, strict=True):
            plain["holds"] = comparison.holds
        return {**document, "claims": self.claims(), "exceptions": self.exceptions()}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and one line of texts per task and width that is shown."""
        columns = ["task", "metric", "width", *(("top_k", "decoder") if self.at else ()), "GFLOPs", "value"]
        columns += ["95 % interval", "trivial", "per-pixel mean", "gain over trivial", "gain over narrower"]
        confined = any(row.paths_gain for row in self.shown)
        columns += ["all experts", "gain over all experts"] if confined else []
        by_wide = {(c.task, c.wide): c for c in _neighbours(self.comparisons)}
        lines = []
        for row in self.shown:
            chosen, value, gain = row.configuration, row.accuracy, row.improvement
            step = by_wide.get((chosen.task, chosen.encoder_width)) if row.diagonal else None
            arrow = "↑" if row.higher_is_better else "↓"
            lines.append(
                [
                    chosen.task,
                    f"{row.metric} {arrow}",
                    f"{chosen.encoder_width:g}",
                    *((f"{chosen.top_k}", f"{chosen.decoder_width:g}") if self.at else ()),
                    f"{row.gflops:.3f}",
                    f"{value.value:.4g}",
                    f"{value.low:.4g} to {value.high:.4g}",
                    f"{row.trivial:.4g}",
                    f"{row.pixel_mean:.4g}",
                    f"{_percent(gain.value)} ({_percent(gain.low)} to {_percent(gain.high)})",
                    "" if step is None else _gain(step.gain),
                ]
            )
            if confined:
                every, cost = row.all_experts, row.paths_gain
                lines[-1] += [f"{every.value:.4g}", _gain(cost)] if every and cost else ["", ""]
        return columns, lines

    def precision_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and a line per task and width: what another precision costs where the decoder is as wide as the
        encoder, with all experts; no lines where fp32 was not measured beside it."""
        columns = ["task", "metric", "width", "precision", "fp32", "value", "change", "of the value"]
        lines = []
        widest = {(row.configuration.task, row.configuration.encoder_width): row for row in self.diagonal}
        for row in self.rows:
            chosen, fp32, gain = row.configuration, row.fp32, row.precision_gain
            beside = widest.get((chosen.task, chosen.encoder_width))
            if fp32 is None or gain is None or beside is None:
                continue
            if (chosen.top_k, chosen.decoder_width) != (beside.configuration.top_k, beside.configuration.decoder_width):
                continue
            arrow = "↑" if row.higher_is_better else "↓"
            share = f"{100 * gain.value / abs(fp32.value):+.2f} %" if fp32.value else ""
            values = [f"{chosen.encoder_width:g}", chosen.precision, f"{fp32.value:.4g}", f"{row.accuracy.value:.4g}"]
            lines.append([chosen.task, f"{row.metric} {arrow}", *values, _gain(gain), share])
        return columns, lines

    def kept_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and a line per width: what it keeps of the full width, over all tasks and of each."""
        columns = ["width", "kept", "95 % interval", *self.tasks]
        lines = []
        for kept in self.kept:
            shares = [f"{100 * kept.tasks[task]:.1f} %" if task in kept.tasks else "" for task in self.tasks]
            interval = f"{100 * kept.mean.low:.1f} to {100 * kept.mean.high:.1f} %"
            lines.append([f"{kept.width:g}", f"**{100 * kept.mean.value:.1f} %**", interval, *shares])
        return columns, lines

    def to_markdown(self) -> str:
        """The table and the claims."""
        columns, lines = self.table()
        right = {"width", "top_k", "decoder", "GFLOPs", "value", "trivial", "per-pixel mean", "all experts"}
        text = [f"| {' | '.join(columns)} |", f"|{'|'.join('--:' if c in right else '---' for c in columns)}|"]
        text += [f"| {' | '.join(line)} |" for line in lines]
        held = [f"- {claim}: **{'yes' if holds else 'no'}**" for claim, holds in self.claims().items()]
        return "\n".join([*text, "", *held, *(f"  - {line}" for line in self.exceptions())]) + "\n"

    def plot(self, path: Path) -> Path:
        """Draw accuracy against cost, a panel per task; see `eval_plot`."""
        from .eval_plot import plot_report

        return plot_report(self, path)


def _neighbours(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Of each wider configuration the comparison with the next narrower one."""
    nearest: dict[tuple[str, float], Comparison] = {}
    for comparison in comparisons:
        known = nearest.get((comparison.task, comparison.wide))
        if known is None or comparison.narrow > known.narrow:
            nearest[comparison.task, comparison.wide] = comparison
    return list(nearest.values())


def _gain(gain: Interval) -> str:
    return f"{gain.value:+.3g} ({gain.low:+.3g} to {gain.high:+.3g})"


def _percent(share: float) -> str:
    return f"{100 * share:+.0f} %"
