"""Open loop: what is due is sent, and latency counts from then."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable

import pytest

from slimpath.service.loadtest.client import Answer, read_target
from slimpath.service.loadtest.errors import TargetError
from slimpath.service.loadtest.run import Closed, Outcome, run_load
from slimpath.service.loadtest.samples import read_sample
from slimpath.service.loadtest.sending import Load
from slimpath.service.loadtest.traces import Trace, make_trace
from slimpath.tests.service.loadtest.conftest import Behaviour, Seen, Server, answering, response

Serve = Callable[[Behaviour], Server]
QUICK = make_trace("steady", 100, 0.3)


def run(server: Server, shape: Trace | Closed = QUICK, *, load: Load | None = None, **options: object) -> Outcome:
    target = read_target(server.url)
    return asyncio.run(asyncio.wait_for(run_load(target, load or Load([b"x"]), shape, **options), 60))  # type: ignore[arg-type]


def after_the_first(first: bytes, later: bytes) -> Behaviour:
    """One answer for the request before the test, another for those of the test."""
    count = [0]

    async def behave(seen: Seen, writer: asyncio.StreamWriter) -> None:
        count[0] += 1
        writer.write(first if count[0] == 1 else later)

    return behave


def test_every_request_of_the_trace_is_sent_once(serve: Serve) -> None:
    server = serve(answering(response(200)))
    outcome = run(server, load=Load([b"a", b"b"]), warm=1)
    assert outcome.report.offered == len(QUICK.times_s) == len(server.seen) - 1
    assert outcome.report.counts["answered"] == 30
    assert [seen.body for seen in server.seen[1:]].count(b"a") == 15


def test_requests_are_sent_although_nothing_is_answered(serve: Serve) -> None:
    async def first_only(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 1:
            writer.write(response(200))
        else:
            await asyncio.sleep(60)

    server = serve(first_only)
    outcome = run(server, load=Load([b"x"], timeout_s=0.5), warm=1)
    assert outcome.report.counts["timeout"] == 30
    assert len(server.seen) == 31


def test_latency_counts_from_when_a_request_was_due(serve: Serve) -> None:
    """One connection to a server of 50 ms, and ten requests at once: the last has waited for the others."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(response(200))

    outcome = run(serve(slow), Trace("x", 10, 0.1, 0, 1, (0.0,) * 10), connections=1, warm=1)
    latencies = sorted(sample.latency_s for sample in outcome.samples)
    assert latencies[-1] >= 10 * 0.05
    assert latencies[0] < latencies[-1] / 3


def test_the_server_is_told_what_is_left_of_the_deadline(serve: Serve) -> None:
    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(response(200))

    server = serve(slow)
    load = Load([b"x"], options={"tasks": "depth"}, deadline_s=1.0)
    run(server, Trace("x", 10, 0.1, 0, 1, (0.0,) * 5), load=load, connections=1, warm=1)
    assert "deadline_ms" not in server.seen[0].query  # the one before the test
    left = [float(seen.query["deadline_ms"]) for seen in server.seen[1:]]
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] <= 1000 - 4 * 50
    assert all(seen.query["tasks"] == "depth" for seen in server.seen)


def test_a_deadline_may_be_a_multiple_of_the_latency_before_the_test(serve: Serve) -> None:
    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(response(200))

    outcome = run(serve(slow), deadline_factor=3.0, warm=3)
    assert outcome.warm_ms is not None and outcome.warm_ms >= 20
    assert outcome.report.deadline_ms == pytest.approx(3 * outcome.warm_ms)


def test_closed_loop_keeps_so_many_in_flight(serve: Serve) -> None:
    at_once, most = [0], [0]

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        await asyncio.sleep(0.02)
        at_once[0] -= 1
        writer.write(response(200))

    outcome = run(serve(slow), Closed(4, 0.5), warm=1)
    assert most[0] == 4
    assert outcome.report.counts["answered"] == outcome.report.offered >= 4


@pytest.mark.parametrize(("status", "kind"), [
    (503, "refused"), (429, "limited"), (504, "late"), (500, "error"), (404, "error"),
])  # fmt: skip
def test_refusals_are_told_apart(serve: Serve, status: int, kind: str) -> None:
    body = b'{"error": {"code": "busy", "message": "m"}}'
    server = serve(after_the_first(response(200), response(status, body, Retry_After="2")))
    outcome = run(server, warm=1)
    assert outcome.report.counts[kind] == 30
    sample = outcome.samples[0]
    assert (sample.code, sample.retry_after_s, sample.status) == ("busy", 2.0, status)


def test_a_server_that_dies_meanwhile_is_reported_not_raised(serve: Serve) -> None:
    async def dies(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) > 1:
            writer.transport.abort()
            return
        writer.write(response(200))

    server = serve(dies)
    assert run(server, warm=1).report.counts["lost"] == 30


def test_a_first_request_without_an_answer_ends_the_test(serve: Serve) -> None:
    with pytest.raises(TargetError, match="404"):
        run(serve(answering(response(404))))


def test_progress_is_told(serve: Serve) -> None:
    told: list[int] = []
    run(serve(answering(response(200))), progress=told.append, warm=1)
    assert told == sorted(told) and told[-1] == 30


def zipped(document: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("answer.json", document)
    return buffer.getvalue()


KEPT = b'{"quality": {"kept": {"depth": 0.9, "edge": 0.7}}}'


@pytest.mark.parametrize(("kind", "body", "headers", "expected"), [
    ("application/json", KEPT, {}, 0.8),
    ("application/zip", zipped(KEPT), {}, 0.8),
    ("application/octet-stream", b"", {"slimpath-quality": "0.95"}, 0.95),
    ("application/json", b'{"quality": {"kept": {"depth": 0.9, "edge": null}}}', {}, None),
    ("application/json", b'{"quality": 3}', {}, None),
    ("application/json", b"[1]", {}, None),
    ("application/json", b"{", {}, None),
    ("application/zip", b"PK no", {}, None),
    ("image/png", b"\x89PNG", {"slimpath-quality": "much"}, None),
])  # fmt: skip
def test_quality_is_read_where_the_server_says_it(
    kind: str, body: bytes, headers: dict[str, str], expected: float | None
) -> None:
    answer = Answer(200, {"content-type": kind, **headers}, body)
    assert read_sample(answer, 0.0, 0.0, 0.1).quality == (None if expected is None else pytest.approx(expected))
