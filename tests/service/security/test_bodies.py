"""Bodies: how many bytes, in how many pieces, how slowly, and how many at once."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpath.service.errors import HttpError
from slimpath.service.json_bounds import json_excess
from slimpath.service.limits import Bodies
from slimpath.service.protocol import Connections
from slimpath.service.settings import LimitSettings
from slimpath.service.v1 import infer
from slimpath.tests.service.running import encoded, on_socket, picture, settings_for, wait_until

LIMITS = {
    "max_body_mib": 0.1,
    "max_in_flight_mib": 0.15,
    "body_timeout_s": 1.0,
    "header_timeout_s": 1.0,
    "max_header_kib": 4.0,
    "max_chunks": 16,
    "max_connections": 20,
    "max_connections_per_address": 20,
}
JPEG = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    with on_socket(settings_for(bundle, limits=LIMITS, server={"keep_alive_s": 1.0})) as running:
        yield running


@pytest.fixture(scope="module")
def small(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """Until the server hangs up."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionError:
        pass
    return b"".join(pieces)


def test_a_body_above_the_limit_is_refused(small: httpx.Client):
    for path, shape in (("/v1/infer", dict), ("/v2/models/tiny/infer", str)):
        answer = small.post(path, content=b"x" * 200_000, headers=JPEG)
        assert answer.status_code == 413 and isinstance(answer.json()["error"], shape)


def test_a_chunked_body_above_the_limit_is_refused_while_it_comes(small: httpx.Client):
    answer = small.post("/v1/infer", content=iter([b"x" * 60_000] * 10), headers=JPEG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_declared_length_is_refused_before_the_body_is_asked_for(port: int):
    with connect(port) as connection:
        connection.sendall(
            b"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413") and b"100 Continue" not in answer


def test_a_body_in_too_many_pieces_is_refused(port: int):
    with connect(port) as connection:
        connection.sendall(b"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"1\r\nx\r\n" * 40)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413") and b"too_many_chunks" in answer


def test_a_slow_body_is_given_up(port: int):
    with connect(port) as connection:
        connection.sendall(b"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\nabc")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408") and b"body_timeout" in answer


@pytest.mark.parametrize("start", [b"", b"POST /v1/inf", b"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b"])
def test_slow_headers_are_given_up(port: int, start: bytes):
    with connect(port) as connection:
        connection.sendall(start)
        started = time.monotonic()
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408") and time.monotonic() - started < 25


def test_headers_that_trickle_do_not_start_the_clock_anew(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\n")
        ended = threading.Event()

        def trickle() -> None:
            while not ended.wait(0.1):
                try:
                    connection.sendall(b"X-A: b\r\n")
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        answer = read_all(connection)
        ended.set()
        sender.join()
    assert b"408" in answer[:20]


def test_empty_lines_do_not_keep_a_connection(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        read_all(connection)  # ends only because the server hangs up


def test_pipelined_bodies_are_not_taken_for_headers(port: int):
    body = encoded(".png", picture(100, 100))
    assert len(body) > 2 * 4096  # the limit of headers, twice
    request = (
        b"POST /v1/infer?tasks=depth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body
    with connect(port) as connection:
        connection.sendall(request)
        connection.sendall(request)
        answer = b""
        while answer.count(b"HTTP/1.1 ") < 2:
            piece = connection.recv(1 << 20)
            assert piece, answer
            answer += piece
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "header", [b"X-A: " + b"b" * 6000, b"\r\n".join(b"X-%d: %s" % (n, b"b" * 90) for n in range(60)), b"X" * 6000]
)
def test_large_headers_are_refused(port: int, header: bytes):
    with connect(port) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n" + header)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431")


def test_a_large_url_is_refused(small: httpx.Client):
    assert small.get("/v1/plan", params={"tasks": "x" * 8000}).status_code == 431


def test_idle_connections_are_closed(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")  # ends only because the server hangs up


def test_too_many_connections_are_turned_away(port: int):
    held = [connect(port) for _ in range(20)]
    try:
        with connect(port) as one_more:
            answer = read_all(one_more)
        assert answer.startswith(b"HTTP/1.1 503") and b"retry-after: 1\r\n" in answer
        for name in (b"x-content-type-options", b"content-security-policy", b"cache-control", b"x-frame-options"):
            assert b"\r\n%s: " % name in answer
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=30).status_code == 200)


def test_connections_are_counted_together_and_for_each_address():
    counted = Connections(LimitSettings(max_connections=3, max_connections_per_address=2))
    assert counted.enter("a") and counted.enter("a")
    assert not counted.enter("a"), "a third of one address"
    assert counted.enter("b")
    assert not counted.enter("b") and not counted.enter("c"), "a fourth of all"
    counted.leave("a")
    assert counted.enter("c") and not counted.enter("a")


def test_bodies_share_a_number_of_bytes(port: int):
    headers = b"POST /v1/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\nContent-Type: image/jpeg\r\n\r\n"
    with connect(port) as first, connect(port) as second:
        first.sendall(headers + b"x" * 89_000)
        time.sleep(0.2)
        second.sendall(headers + b"x" * 89_000)
        answer = read_all(second)
    assert answer.startswith(b"HTTP/1.1 503") and b"too_many_bytes" in answer and b"retry-after: 1" in answer


def test_counted_bytes_are_given_back(small: httpx.Client):
    for _ in range(10):  # 1 MB in all, where 0.15 may be in flight
        assert small.post("/v1/infer", content=b"x" * 100_000, headers=JPEG).status_code == 400


def test_the_counter_refuses_what_does_not_fit():
    bodies = Bodies(10)
    bodies.take(8)
    with pytest.raises(HttpError):
        bodies.take(3)
    bodies.give_back(8)
    bodies.take(10)


def test_a_compressed_body_may_not_grow_beyond_the_limit(small: httpx.Client):
    bomb = gzip.compress(b" " * 5_000_000)
    assert len(bomb) < 100_000
    answer = small.post("/v2/models/tiny/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code in (400, 413) and isinstance(answer.json()["error"], str)


def test_nothing_but_v2_inflates(small: httpx.Client):
    body = gzip.compress(json.dumps({"image": "x"}).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert small.post("/v1/infer", content=body, headers=headers).status_code == 415


@pytest.mark.parametrize("depth", [40, 5_000, 20_000])
def test_nested_json_is_refused(small: httpx.Client, depth: int):
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        body = (opening * depth + "1" + closing * depth)[:100_000].encode()
        assert small.post("/v1/infer", content=body, headers={"content-type": "application/json"}).status_code == 422
        assert small.post("/v2/models/tiny/infer", content=body).status_code == 400


def test_documents_of_many_texts_are_refused_before_they_are_read(small: httpx.Client):
    image, headers = base64.b64encode(encoded()).decode(), {"content-type": "application/json"}
    answer = small.post("/v1/infer", content=json.dumps({"image": image, "tasks": ["a"] * 9000}), headers=headers)
    assert answer.status_code == 422 and "8192 texts" in answer.json()["error"]["message"]
    answer = small.post("/v2/repository/index", content=json.dumps({"parameters": {str(n): 0 for n in range(9000)}}))
    assert answer.status_code == 400 and "8192 texts" in answer.json()["error"]


def test_large_documents_wait_in_a_short_queue_and_beyond_it_are_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(infer, "READING_LIMIT", 0)
    document = {"image": base64.b64encode(encoded()).decode(), "budget": "x" * infer.INLINE_BYTES}
    with on_socket(settings_for(bundle)) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/infer", json=document, timeout=60)
    assert answer.status_code == 503 and "retry-after" in answer.headers


def test_nesting_is_counted_outside_of_texts():
    for text, excess in (
        ('{"a": "[[[[["}', False), (r'{"a": "\"[[[[["}', False), (r'{"a": "\\", "b": [[[[]]]]}', True),
        ("[[[[]]]]", False), ("[[[[[]]]]]", True), ("[[[[[", True), ('[{"a": [{"b": []}]}]', True),
        ("[" + "[[]]," * 100_000 + "[[[]]]]", False), ("[" + "[[]]," * 100_000 + "[[[[]]]]]", True),
        ('["' + "[" * 100_000 + '", [[[]]]]', False), ('["' + "[" * 100_000 + '", [[[[]]]]]', True),
    ):  # fmt: skip
        assert bool(json_excess(text.encode(), 4)) == excess, text[:50]


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_nesting_is_counted_as_a_reader_would(value: Any):
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        data = text.encode("utf-8", "surrogatepass")
        assert not json_excess(data, depth(value))
        assert depth(value) == 0 or json_excess(data, depth(value) - 1)


def test_too_many_tasks_and_fields_are_refused(small: httpx.Client):
    many = ",".join(["depth"] * 40)
    answer = small.post("/v1/infer", content=encoded(), headers=JPEG, params={"tasks": many})
    assert answer.status_code == 422 and "40 tasks" in answer.json()["error"]["message"]
    fields = {f"f{number}": "" for number in range(100)}
    assert small.post("/v1/infer", content=encoded(), headers=JPEG, params=fields).status_code == 422
    parts = {"file": ("a.jpg", encoded()), **{f"f{number}": ("a", b"") for number in range(100)}}
    assert small.post("/v1/infer", files=parts).status_code == 422


def test_the_server_is_ready_after_all_of_this(small: httpx.Client):
    assert small.get("/v2/health/ready").status_code == 200
    answer = small.post("/v1/infer", content=encoded(), headers=JPEG, params={"tasks": "depth"})
    assert answer.status_code == 200
