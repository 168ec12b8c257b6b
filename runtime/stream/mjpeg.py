"""The pictures of a stream over HTTP, for browsers: `/` shows them, `/stream.mjpg` is the stream, `/stats` figures.

Standard library only. Binds to this machine unless told otherwise. At most `max_clients` watch at once; each gets the
newest picture when it is ready for one, so a slow one holds nobody up. A picture is encoded once, and only while
somebody watches.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from .errors import OutputError

MAX_CLIENTS = 8
MAX_CONNECTIONS = 32  # with those that only ask for the page or the figures
SEND_TIMEOUT_S = 10.0
JPEG_QUALITY = 85
_BOUNDARY = "slimpath-frame"
_PAGE = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>slimpath stream</title>
<meta name="viewport" content="width=device-width">
<style>body{margin:0;background:#181b21;display:grid;place-items:center;min-height:100vh}
img{max-width:100vw;max-height:100vh}</style></head>
<body><img src="stream.mjpg" alt="The stream: the camera and every task"></body></html>"""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port from "127.0.0.1:8090", "8090", ":8090" or "[::1]:8090".

    Raises:
        OutputError: it is no such thing.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") if colon else ""
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not 0 <= number <= 65535:
        raise OutputError(f"an address must be HOST:PORT, got {text!r}", hint="for example --serve 127.0.0.1:8090")
    return host or "127.0.0.1", number


def is_loopback(host: str) -> bool:
    """Can only this machine reach it?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class MjpegServer:
    """An output that browsers watch; serves from threads of its own as soon as it is made.

    Args:
        port: 0 takes a free one; `address` says which.
        figures: what `/stats` answers, as something that JSON can hold.

    Raises:
        OutputError: the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        figures: Callable[[], Any] = dict,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self.figures = figures
        self._watching = 0
        self._max_clients = max_clients
        self._jpeg = b""
        self._number = 0
        self._closed = False
        self._changed = threading.Condition()
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host, port), _Handler)
        except OSError as error:
            raise OutputError(f"{host}:{port} cannot be served: {error.strerror or error}") from error
        self._server.stream = self
        self.address: tuple[str, int] = self._server.server_address[:2]  # pyright: ignore[reportAttributeAccessIssue]
        self._thread = threading.Thread(target=self._server.serve_forever, name="slimpath-mjpeg", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host, port = self.address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    @property
    def watching(self) -> int:
        """How many clients get pictures."""
        return self._watching

    def show(self, picture_HWC: np.ndarray, tick: int) -> None:
        if not self._watching:
            return
        import cv2

        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not done:
            raise OutputError("a picture could not be encoded as JPEG")
        with self._changed:
            self._jpeg, self._number = data.tobytes(), self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Hang up on every client and free the port."""
        if self._closed:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def enter(self) -> bool:
        """A client wants to watch; False where too many do already."""
        with self._changed:
            if self._watching >= self._max_clients or self._closed:
                return False
            self._watching += 1
            return True

    def leave(self) -> None:
        """A client went."""
        with self._changed:
            self._watching -= 1

    def next_jpeg(self, last: int) -> tuple[int, bytes] | None:
        """The newest picture after number `last`, and its number; waits for it. None when the stream has ended."""
        with self._changed:
            while self._number <= last and not self._closed:
                self._changed.wait()
            return None if self._number <= last else (self._number, self._jpeg)


class _Server(ThreadingHTTPServer):
    """Threads that end with the program, and not too many of them."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS
    block_on_close = False
    stream: MjpegServer

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # the base knows no more than a socket server
    timeout = SEND_TIMEOUT_S
    server_version = "slimpath"
    sys_version = ""

    def do_GET(self) -> None:
        stream = self.server.stream
        # A web page elsewhere may make its name point to this machine and then read what is served here; its requests
        # still carry that name.
        if is_loopback(stream.address[0]) and not is_loopback(_host_of(self.headers.get("Host", ""))):
            self.send_error(HTTPStatus.FORBIDDEN, "this stream is for this machine only")
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer("text/html; charset=utf-8", _PAGE)
        elif path == "/stats":
            self._answer("application/json", json.dumps(stream.figures()).encode())
        elif path == "/stream.mjpg":
            self._stream(stream)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, stream: MjpegServer) -> None:
        if not stream.enter():
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "enough are watching already")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            number = 0
            while (newest := stream.next_jpeg(number)) is not None:
                number, jpeg = newest
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:  # gone, or too slow for SEND_TIMEOUT_S
            return
        finally:
            stream.leave()

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal belongs to the live line."""


def _host_of(header: str) -> str:
    """The name in a Host header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
