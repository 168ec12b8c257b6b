"""The figures of a load test, each with one definition.

throughput    answers (status 200) per second
latency       of answers, from when the request was due to the last byte; percentiles of the raw samples
goodput       answers within the deadline, per second
attainment    those, over all that were offered
quality       mean over the good answers of the share of the full accuracy that their plans keep
quality-weighted goodput    sum of that quality over the good answers, per second
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .samples import KINDS, Sample

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Report:
    """Times in ms, rates per second of the trace. None: nothing to tell it from.

    Args:
        seconds: of the trace; what is divided by.
        counts: requests by what became of them; together they are `offered`.
        latency_ms: of answers: p50, p90, p99, p99.9, max.
        refused_ms: likewise, until a refusal came.
        attainment: share of the offered requests that were answered within the deadline.
        degraded: share of the answers that were narrower than asked for.
        share: mean share of the full FLOPs of the good answers.
        widths: encoder width -> answers.
        lag_ms: by how much the generator itself was late in sending, p99; above a few ms, it is what was measured.
    """

    seconds: float
    offered: int
    offered_per_s: float
    counts: dict[str, int]
    deadline_ms: float | None
    throughput_per_s: float
    latency_ms: dict[str, float]
    refused_ms: dict[str, float]
    goodput_per_s: float
    attainment: float
    quality: float | None
    quality_weighted_goodput_per_s: float | None
    degraded: float | None
    share: float | None
    widths: dict[str, int]
    answer_bytes: float | None
    lag_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, by name."""
        return asdict(self)


def make_report(samples: Sequence[Sample], seconds: float, deadline_s: float | None) -> Report:
    """Sum up.

    Args:
        seconds: how long requests were sent for.
    """
    answered = [sample for sample in samples if sample.kind == "answered"]
    good = [sample for sample in answered if deadline_s is None or sample.latency_s <= deadline_s]
    told = Counter(sample.kind for sample in samples)
    qualities = [sample.quality for sample in good if sample.quality is not None]
    complete = bool(qualities) and len(qualities) == len(good)
    refused = [sample.latency_s for sample in samples if sample.kind in ("refused", "limited")]
    return Report(
        seconds=seconds,
        offered=len(samples),
        offered_per_s=len(samples) / seconds,
        counts={kind: told[kind] for kind in KINDS},
        deadline_ms=None if deadline_s is None else deadline_s * 1e3,
        throughput_per_s=len(answered) / seconds,
        latency_ms=percentiles([sample.latency_s for sample in answered]),
        refused_ms=percentiles(refused),
        goodput_per_s=len(good) / seconds,
        attainment=len(good) / len(samples) if samples else 0.0,
        quality=_mean(qualities) if complete else None,
        quality_weighted_goodput_per_s=sum(qualities) / seconds if complete else None,
        degraded=_mean([float(sample.degraded) for sample in answered if sample.degraded is not None]),
        share=_mean([sample.share for sample in good if sample.share is not None]),
        widths=_widths(answered),
        answer_bytes=_mean([float(sample.answer_bytes) for sample in answered]),
        lag_ms=percentiles([sample.sent_s - sample.scheduled_s for sample in samples]).get("p99", 0.0),
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and max in ms, of raw samples; nothing of nothing."""
    if not seconds:
        return {}
    values = np.percentile(np.asarray(seconds) * 1e3, PERCENTILES, method="higher")
    return {**{f"p{q:g}": float(value) for q, value in zip(PERCENTILES, values)}, "max": max(seconds) * 1e3}


def lines_of(report: Report) -> list[tuple[str, str]]:
    """What is shown to people, name and value."""
    found = [
        ("offered", f"{report.offered} in {report.seconds:g} s, {report.offered_per_s:.1f}/s"),
        ("became", ", ".join(f"{count} {kind}" for kind, count in report.counts.items() if count) or "nothing"),
        ("throughput", f"{report.throughput_per_s:.1f}/s"),
        ("latency", _percentiles_text(report.latency_ms)),
    ]
    if report.refused_ms:
        found.append(("refused within", _percentiles_text(report.refused_ms)))
    if report.deadline_ms is not None:
        found.append(("goodput", f"{report.goodput_per_s:.1f}/s within {report.deadline_ms:.1f} ms"))
        found.append(("attainment", f"{100 * report.attainment:.1f} % of what was offered"))
    if report.quality is not None and report.quality_weighted_goodput_per_s is not None:
        found.append(("quality", f"{100 * report.quality:.1f} % of the full accuracy kept, mean of good answers"))
        found.append(("quality x goodput", f"{report.quality_weighted_goodput_per_s:.1f}/s"))
    if report.degraded is not None:
        found.append(("narrower than asked", f"{100 * report.degraded:.1f} % of the answers"))
    if report.widths:
        found.append(("encoder widths", ", ".join(f"{width}: {count}" for width, count in report.widths.items())))
    found.append(("generator late by", f"{report.lag_ms:.2f} ms (p99)"))
    return found


def _percentiles_text(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in found.items()) + " ms" if found else "no answers"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _widths(answered: Sequence[Sample]) -> dict[str, int]:
    counted = Counter(sample.width for sample in answered if sample.width is not None)
    return {f"{width:g}": counted[width] for width in sorted(counted)}
