"""Traces: a span per request, its wait and its engine call below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slimpath.service.errors import SettingsError
from slimpath.service.settings import Settings
from slimpath.service.tracing import Tracer, make_tracer
from slimpath.tests.service.running import encoded, serving, settings_for

pytest.importorskip("opentelemetry.sdk")

RAW = {"Inference-Header-Content-Length": "0"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where the spans of servers go that are started now."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    found = InMemorySpanExporter()
    monkeypatch.setattr("slimpath.service.registry.make_tracer", lambda kind: Tracer(found, at_once=True))
    return found


def test_a_request_is_a_span_with_its_wait_and_its_call_below_it(bundle: Path, exporter: Any) -> None:
    with serving(settings_for(bundle)) as client:
        client.post(
            "/v2/models/tiny/infer",
            content=encoded(),
            headers={**RAW, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
        )
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request, queue, engine = spans["POST /v2/models/{model}/infer"], spans["queue"], spans["engine"]
    assert f"{request.context.trace_id:032x}" == TRACE  # the client's trace goes on
    assert queue.parent.span_id == engine.parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert engine.attributes["slimpath.width"] == 1.0 and engine.attributes["slimpath.model"] == "tiny"
    assert request.start_time <= queue.start_time <= queue.end_time <= engine.end_time <= request.end_time
    assert queue.end_time == engine.start_time


def test_what_is_not_answered_says_so(bundle: Path, exporter: Any) -> None:
    with serving(settings_for(bundle)) as client:
        assert client.post("/v2/models/nobody/infer", content=encoded(), headers=RAW).status_code == 404
        params = {"budget": "nonsense"}
        assert client.post("/v2/models/tiny/infer", content=encoded(), headers=RAW, params=params).status_code == 400
    (unanswered,) = [span for span in exporter.get_finished_spans() if span.name == "unanswered"]
    assert unanswered.attributes["slimpath.outcome"] == "bad_request"
    statuses = [span.attributes.get("http.response.status_code") for span in exporter.get_finished_spans()]
    assert 404 in statuses and 400 in statuses


def test_traces_are_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_tracer(Settings().log.traces) is None
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace.export", None)
    assert make_tracer("off") is None  # also where OpenTelemetry is missing
    with pytest.raises(SettingsError, match="pip install 'slimpath\\[otel\\]'"):
        make_tracer("otlp")


def test_spans_go_to_a_collector(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real OTLP exporter, against an HTTP server that takes what comes."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        try:
            with serving(settings_for(bundle, log={"traces": "otlp"})) as client:
                client.post("/v2/models/tiny/infer", content=encoded(), headers=RAW)
        finally:
            server.shutdown()
            thread.join(30)
    assert [path for path, _ in received] and {path for path, _ in received} == {"/v1/traces"}
    assert b"engine" in b"".join(body for _, body in received)
