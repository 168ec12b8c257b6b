"""Over the socket: /metrics, request ids, the line of each request in the log."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from slimpath.service.logs import configure_logging
from slimpath.service.observe import SANE_ID, request_id_of
from slimpath.service.settings import LogSettings
from slimpath.tests.service.running import encoded, serving, settings_for

RAW = {"Inference-Header-Content-Length": "0", "Accept-Encoding": "identity"}


@pytest.fixture(scope="module")
def logged(bundle: Path) -> Iterator[tuple[httpx.Client, io.StringIO]]:
    """A server, and what it logs as JSON."""
    lines = io.StringIO()
    close = configure_logging(LogSettings(format="json", level="debug"), lines)
    try:
        with serving(settings_for(bundle)) as client:
            yield client, lines
    finally:
        close()


def sample(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum over all series of that name which have these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = [each for family in families for each in family.samples if each.name == name]
    return sum(each.value for each in found if labels.items() <= each.labels.items())


def events(lines: io.StringIO, **fields: object) -> list[dict[str, object]]:
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [event for event in found if fields.items() <= event.items()]


def eventually(lines: io.StringIO, **fields: object) -> dict[str, object]:
    """The first such event; lines are written by a thread."""
    from slimpath.tests.service.running import wait_until

    wait_until(lambda: events(lines, **fields))
    return events(lines, **fields)[0]


def test_an_answer_shows_in_the_metrics(logged: tuple[httpx.Client, io.StringIO]) -> None:
    client, _ = logged
    before = sample(client, "slimpath_inferences_total", outcome="answered")
    client.post("/v2/models/tiny/infer", content=encoded(), headers=RAW, params={"deadline_ms": "60000"})
    assert sample(client, "slimpath_inferences_total", outcome="answered") == before + 1
    assert sample(client, "slimpath_slo_total", result="met") >= 1
    assert sample(client, "slimpath_http_requests_total", route="/v2/models/{model}/infer", status="200") >= 1
    assert sample(client, "slimpath_batch_size_count", model="tiny") >= 1
    assert sample(client, "slimpath_ready") == 1 and sample(client, "slimpath_model_ready", model="tiny") == 1
    assert sample(client, "slimpath_runners", model="tiny") >= 1
    assert sample(client, "slimpath_http_requests_in_progress") == 1  # this one
    assert sample(client, "slimpath_memory_bytes", kind="pss") > 1e6
    assert sample(client, "process_open_fds") > 3


def test_paths_that_do_not_exist_share_one_series(logged: tuple[httpx.Client, io.StringIO]) -> None:
    client, _ = logged
    for number in range(20):
        client.get(f"/no/such/path/{number}")
        client.get(f"/v2/models/nobody{number}")
    text = client.get("/metrics").text
    assert "nobody" not in text and "/no/such" not in text
    assert sample(client, "slimpath_http_requests_total", route="other", status="404") == 20
    assert sample(client, "slimpath_http_requests_total", route="/v2/models/{model}", status="404") == 20


def test_a_sane_request_id_is_taken_over_and_logged(logged: tuple[httpx.Client, io.StringIO]) -> None:
    client, lines = logged
    answer = client.post("/v2/models/tiny/infer", content=encoded(), headers={**RAW, "X-Request-Id": "trace-1/span:2"})
    assert answer.headers["x-request-id"] == "trace-1/span:2"
    event = eventually(lines, logger="slimpath.service.access", request_id="trace-1/span:2")
    assert (event["method"], event["path"], event["status"]) == ("POST", "/v2/models/tiny/infer", 200)
    assert event["bytes"] == len(answer.content) and event["ms"] > 0  # type: ignore[operator]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", 'a"b', "ä"])
def test_other_request_ids_are_replaced(logged: tuple[httpx.Client, io.StringIO], given: str) -> None:
    client, _ = logged
    answer = client.get("/v2", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_request_ids_are_new_each_time_and_sane() -> None:
    made = {request_id_of([]) for _ in range(100)}
    assert len(made) == 100 and all(SANE_ID.fullmatch(each.encode()) for each in made)


def test_errors_carry_the_request_id_too(logged: tuple[httpx.Client, io.StringIO]) -> None:
    client, lines = logged
    answer = client.post("/v2/models/tiny/infer", content=b"{")
    assert answer.status_code == 400
    assert eventually(lines, request_id=answer.headers["x-request-id"])["status"] == 400


def test_probes_and_scrapes_are_logged_at_debug_only(logged: tuple[httpx.Client, io.StringIO]) -> None:
    client, lines = logged
    client.get("/v2/health/ready")
    assert eventually(lines, path="/v2/health/ready")["level"] == "debug"
    client.get("/v2")
    assert eventually(lines, path="/v2")["level"] == "info"


def test_a_path_cannot_write_lines_of_its_own(logged: tuple[httpx.Client, io.StringIO]) -> None:
    client, lines = logged
    client.get("/a%0Ab%22,%22level%22:%22critical" + "x" * 500)
    event = eventually(lines, status=404, path=('/a\nb","level":"critical' + "x" * 500)[:200])
    assert event["level"] == "info"
    assert all(line.startswith('{"time"') for line in lines.getvalue().splitlines())
