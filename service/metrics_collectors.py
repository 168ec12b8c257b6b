"""Metrics that are looked up when somebody asks, instead of counted along the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..runtime.footprint.memory import memory_use, peak_bytes
from .logs import lost_lines

if TYPE_CHECKING:
    from .registry import ModelRegistry

_GAUGES = (
    ("queue_length", "waiting", "Images that wait for an engine call."),
    ("running", "running", "Images in engine calls."),
    ("runners", "runners", "Engine calls that can be made at a time."),
    ("runners_busy", "busy", "Runners at work."),
    ("runners_hung", "hung", "Runners whose engine call does not return."),
    ("pool_backlog", "pool_backlog", "Decodes and encodes at work or waiting."),
    ("load", "load", "Seconds of computing asked for per second, at the width asked for."),
)


class ModelCollector:
    """Readiness, loads, and what the schedulers hold."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("slimpath_ready", "1 once all models are warm, 0 while loading or draining.")
        ready.add_metric([], float(self._models.ready()))
        yield ready
        model_ready = GaugeMetricFamily("slimpath_model_ready", "1 if the model answers.", labels=["model"])
        loads = CounterMetricFamily("slimpath_model_loads", "Bundles opened.", labels=["model", "result"])
        answering = {model.name for model in self._models.models() if model.ready}
        for name, (loaded, refused) in self._models.counts().items():
            model_ready.add_metric([name], float(name in answering))
            loads.add_metric([name, "loaded"], loaded)
            loads.add_metric([name, "refused"], refused)
        yield model_ready
        yield loads
        stats = [(model.name, model.scheduler.stats()) for model in self._models.models()]
        for metric, field, text in _GAUGES:
            gauge = GaugeMetricFamily(f"slimpath_{metric}", text, labels=["model"])
            for name, snapshot in stats:
                gauge.add_metric([name], float(getattr(snapshot, field)))
            yield gauge


class MemoryCollector:
    """What the process holds; nothing where the system does not say."""

    def collect(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily(
            "slimpath_memory_bytes", "Memory of the process: proportional, resident, private, of files, and the peak.",
            labels=["kind"],
        )  # fmt: skip
        use = memory_use()
        if use is not None:
            for kind in ("pss", "rss", "anonymous", "mapped"):
                memory.add_metric([kind], getattr(use, kind))
        peak = peak_bytes()
        if peak is not None:
            memory.add_metric(["peak"], peak)
        yield memory


class LostLines:
    """Log lines that were dropped: the disk was full, or nobody read the pipe."""

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("slimpath_log_lines_lost", "Log lines that could not be written.", lost_lines())
