"""The generator's own HTTP client, against servers that behave well and badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from slimpath.service.loadtest.client import Answer, Client, read_target
from slimpath.service.loadtest.errors import ProtocolError, TargetError
from slimpath.tests.service.loadtest.conftest import Behaviour, Seen, Server, answering, response

Serve = Callable[[Behaviour], Server]


def ask(
    server: Server, count: int = 1, *, query: str = "", connections: int = 4, together: bool = False
) -> list[Answer]:
    """So many requests, one after the other or at once."""

    async def run() -> list[Answer]:
        client = Client(read_target(server.url), connections=connections)
        try:
            posts = (client.post(lambda: query, b"Content-Type: image/jpeg\r\n", b"body") for _ in range(count))
            if together:
                return list(await asyncio.gather(*posts))
            return [await post for post in posts]
        finally:
            client.close()
            await asyncio.sleep(0)

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_a_request_arrives_whole_and_so_does_its_answer(serve: Serve) -> None:
    server = serve(answering(response(200, b'{"a": 1}', Slimpath_Width="0.5")))
    answer = ask(server, query="tasks=depth&deadline_ms=5")[0]
    assert (answer.status, answer.body, answer.headers["slimpath-width"]) == (200, b'{"a": 1}', "0.5")
    seen = server.seen[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/infer", b"body")
    assert seen.query == {"tasks": "depth", "deadline_ms": "5"}
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"
    assert seen.headers["content-type"] == "image/jpeg"


def test_a_connection_is_used_again(serve: Serve) -> None:
    server = serve(answering(response(200)))
    ask(server, 5)
    assert server.connections == 1


def test_no_more_connections_than_allowed(serve: Serve) -> None:
    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(response(200))

    server = serve(slow)
    assert len(ask(server, 12, connections=3, together=True)) == 12
    assert server.connections <= 3


def test_an_answer_in_chunks_is_put_together(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = serve(answering(head + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"))
    assert [answer.body for answer in ask(server, 2)] == [b"hello world"] * 2


def test_a_server_that_closes_after_each_answer_is_asked_on_new_connections(serve: Serve) -> None:
    async def once(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b"x", Connection="close"))
        await writer.drain()
        writer.close()

    server = serve(once)
    assert [answer.body for answer in ask(server, 3)] == [b"x"] * 3
    assert server.connections == 3


def test_a_connection_that_was_closed_while_idle_costs_no_request(serve: Serve) -> None:
    async def closes_without_saying(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.connection == 1 and len(server.seen) == 2:
            writer.transport.abort()
            return
        writer.write(response(200))

    server = serve(closes_without_saying)
    assert [answer.status for answer in ask(server, 3)] == [200, 200, 200]


def test_a_connection_lost_in_the_middle_of_an_answer_is_an_error(serve: Serve) -> None:
    async def half(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b"0123456789")[:-5])
        await writer.drain()
        writer.close()

    with pytest.raises(ConnectionResetError):
        ask(serve(half))


def test_what_is_not_http_is_an_error(serve: Serve) -> None:
    with pytest.raises(ProtocolError):
        ask(serve(answering(b"SSH-2.0-OpenSSH_9.6\r\n")))


def test_nobody_listening_is_an_error() -> None:
    with pytest.raises(OSError):
        ask(Server(answering(b""), port=1))


@pytest.mark.parametrize(("url", "host", "port", "path"), [
    ("http://h:81", "h", 81, "/v1/infer"),
    ("http://h", "h", 80, "/v1/infer"),
    ("h:81", "h", 81, "/v1/infer"),
    ("http://h/predict?a=b", "h", 80, "/predict?a=b"),
    ("http://[::1]:81/", "::1", 81, "/v1/infer"),
])  # fmt: skip
def test_urls_are_read(url: str, host: str, port: int, path: str) -> None:
    target = read_target(url)
    assert (target.host, target.port, target.path, target.tls) == (host, port, path, None)


def test_https_checks_certificates() -> None:
    target = read_target("https://h")
    assert target.port == 443
    assert target.tls is not None and target.tls.check_hostname


@pytest.mark.parametrize("url", ["ftp://h", "http://", "", "http://h:99999", "http://[::1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(TargetError):
        read_target(url)
