"""The stream in a browser: pictures, figures, few clients, this machine only."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from slimpath.runtime.stream import mjpeg
from slimpath.runtime.stream.errors import OutputError
from slimpath.runtime.stream.mjpeg import MjpegServer, is_loopback, parse_address
from slimpath.tests.runtime.stream.conftest import numbered


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    made = MjpegServer("127.0.0.1", 0, figures=lambda: {"fps": 15}, max_clients=2)
    yield made
    made.close()


def get(server: MjpegServer, path: str, host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def until(condition: object) -> None:
    for _ in range(6000):
        if condition():  # pyright: ignore[reportCallIssue]
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def next_picture(response: http.client.HTTPResponse) -> np.ndarray:
    assert response.fp.readline() == b"--slimpath-frame\r\n"
    assert response.fp.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(response.fp.readline().split(b":")[1])
    assert response.fp.readline() == b"\r\n"
    data = response.fp.read(length)
    assert response.fp.readline() == b"\r\n"
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_client_gets_pictures_as_they_come(server: MjpegServer) -> None:
    response = get(server, "/stream.mjpg")
    assert response.status == 200
    assert response.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=slimpath-frame"
    until(lambda: server.watching == 1)
    for level in (10, 200):
        server.show(np.full((48, 64, 3), (level, 0, 0), np.uint8), level)
        picture = next_picture(response)
        assert picture.shape == (48, 64, 3)
        assert abs(float(picture[..., 2].mean()) - level) < 4 and picture[..., 0].mean() < 4  # red, in BGR
    response.close()


def test_slow_client_gets_the_newest_and_holds_nobody_up(server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg._Handler, "timeout", None)  # however slow this machine is, the client is not given up
    response = get(server, "/stream.mjpg")
    until(lambda: server.watching == 1)
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)

    def show_more_than_a_socket_holds() -> None:
        for tick in range(60):  # some 20 MB
            server.show(noise, tick)

    camera = threading.Thread(target=show_more_than_a_socket_holds, daemon=True)
    camera.start()
    camera.join(timeout=300)  # it would wait for ever if it waited for the client, who reads nothing yet
    assert not camera.is_alive()
    server.show(numbered(100), 60)
    seen = 0
    while abs(float(next_picture(response).mean()) - 100) > 4:
        seen += 1
    assert seen < 40
    response.close()


def test_nothing_is_encoded_while_nobody_watches(server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imencode", lambda *a: pytest.fail("encoded"))
    server.show(numbered(1), 0)


def test_one_client_too_many_is_told_so_and_a_place_becomes_free(server: MjpegServer) -> None:
    first, _second = get(server, "/stream.mjpg"), get(server, "/stream.mjpg")
    until(lambda: server.watching == 2)
    refused = get(server, "/stream.mjpg")
    assert refused.status == 503
    first.close()

    def left() -> bool:
        server.show(numbered(1), 0)  # found out when writing
        return server.watching < 2

    until(left)
    assert get(server, "/stream.mjpg").status == 200


def test_page_and_figures(server: MjpegServer) -> None:
    page = get(server, "/")
    assert page.status == 200 and b'<img src="stream.mjpg"' in page.read()
    assert json.loads(get(server, "/stats?now").read()) == {"fps": 15}
    assert get(server, "/etc/passwd").status == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:80", 200), ("127.0.0.1", 200), ("[::1]:8090", 200), ("evil.example", 403), ("", 403)],
)
def test_page_elsewhere_cannot_read_what_is_for_this_machine(server: MjpegServer, host: str, status: int) -> None:
    """DNS rebinding: a name that points here, in the browser of whoever sits here."""
    assert get(server, "/stats", host).status == status


def test_closing_hangs_up_and_frees_the_port(server: MjpegServer) -> None:
    response = get(server, "/stream.mjpg")
    until(lambda: server.watching == 1)
    server.close()
    assert response.read() == b""
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(server.address) != 0


def test_connections_are_bounded(server: MjpegServer) -> None:
    before = threading.active_count()
    silent = [socket.create_connection(server.address) for _ in range(80)]
    time.sleep(0.3)
    assert threading.active_count() - before <= 34
    for connection in silent:
        connection.close()


def test_nonsense_from_a_client_is_answered_or_hung_up_on_and_the_next_one_is_served(server: MjpegServer) -> None:
    for nonsense in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with socket.create_connection(server.address, timeout=5) as connection:
            connection.sendall(nonsense)
            connection.recv(1000)
    assert get(server, "/").status == 200


def test_port_that_is_taken_is_an_error(server: MjpegServer) -> None:
    with pytest.raises(OutputError, match="cannot be served"):
        MjpegServer("127.0.0.1", server.address[1])
    with pytest.raises(OutputError, match="cannot be served"):
        MjpegServer("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8090", ("127.0.0.1", 8090)),
        ("8090", ("127.0.0.1", 8090)),
        (":8090", ("127.0.0.1", 8090)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:8090", ("::1", 8090)),
    ],
)
def test_addresses_are_read_and_stay_on_this_machine_unless_told(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "127.0.0.1:99999", "1.2.3.4:-1", "1.2.3.4:²"])
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OutputError, match="HOST:PORT"):
        parse_address(text)


def test_loopback_is_known() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "192.168.0.1", "::", "example.org", ""))
