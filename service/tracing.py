"""OpenTelemetry traces, if wanted: a span per request, with its wait and its engine call below it.

Needs slimpath[otel]. Where spans go is said by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, ...). A request that brings a W3C `traceparent` continues that trace.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import SettingsError
from .metrics import kind_of

if TYPE_CHECKING:
    from .model import Model
    from .scheduler.job import Job, Outcome

KINDS = ("off", "otlp", "console")
_MS = 1_000_000  # nanoseconds


class RequestSpan:
    """The span of a request, while it runs."""

    def __init__(self, span: Any, method: str) -> None:
        self._span = span
        self._method = method

    def end(self, route: str, status: int) -> None:
        """Say where it was routed to and how it ended."""
        from opentelemetry.trace import Status, StatusCode

        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


class Tracer:
    """Makes the spans. An `Observer` of models.

    Args:
        exporter: of OpenTelemetry; where finished spans go.
        at_once: export each span as it ends, for tests and consoles; otherwise in batches, by a thread.
    """

    def __init__(self, exporter: Any, *, at_once: bool = False) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from .. import __version__

        resource = Resource.create({"service.name": "slimpath", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("slimpath.service", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, scope: Any, request_id: str) -> Iterator[RequestSpan]:
        """A request as the current span."""
        from opentelemetry.trace import SpanKind

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {"http.request.method": scope["method"], "slimpath.request_id": request_id}
        with self._tracer.start_as_current_span(
            scope["method"], context=self._propagator.extract(headers), kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            yield RequestSpan(span, scope["method"])

    def answered(self, model: Model, job: Job, outcome: Outcome, seconds: float) -> None:
        """Draw the wait and the call afterwards: they ran in another thread, their times are known."""
        end_ns = time.time_ns()
        start_ns = end_ns - round(seconds * 1e9)
        called_ns = min(end_ns, start_ns + round(outcome.queue_ms * _MS))
        plan = outcome.result.plan
        self._draw("queue", start_ns, called_ns, {"slimpath.model": model.name})
        self._draw("engine", called_ns, end_ns, {
            "slimpath.model": model.name,
            "slimpath.tasks": ",".join(plan.tasks),
            "slimpath.width": plan.encoder_width,
            "slimpath.top_k": plan.top_k,
            "slimpath.batch_size": outcome.batch_size,
            "slimpath.degraded": outcome.degraded,
        })  # fmt: skip

    def failed(self, model: Model, job: Job, error: BaseException, seconds: float) -> None:
        end_ns = time.time_ns()
        attributes = {"slimpath.model": model.name, "slimpath.outcome": kind_of(error)}
        self._draw("unanswered", end_ns - round(seconds * 1e9), end_ns, attributes)

    def _draw(self, name: str, start_ns: int, end_ns: int, attributes: dict[str, Any]) -> None:
        self._tracer.start_span(name, start_time=start_ns, attributes=attributes).end(end_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def make_tracer(kind: str) -> Tracer | None:
    """The tracer for a setting of `KINDS`; None for "off".

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    if kind == "off":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter
    except ImportError as error:
        raise SettingsError("traces need OpenTelemetry", hint="pip install 'slimpath[otel]'") from error
    return Tracer(ConsoleSpanExporter(), at_once=True) if kind == "console" else Tracer(OTLPSpanExporter())
