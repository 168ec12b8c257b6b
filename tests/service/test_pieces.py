"""Bodies in pieces: of answers, sent from where they lie; of requests, passed on as they come."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.requests import Request

from slimpath.service.limits import whole_body
from slimpath.service.pieces import Pieces
from slimpath.tests.service.running import on_socket, settings_for


def sent(response: Pieces) -> list[dict[str, Any]]:
    """The messages that a response sends."""
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    asyncio.run(response({"type": "http"}, None, send))
    return messages


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pieces_are_sent_as_they_are_under_their_whole_length(count: int) -> None:
    arrays = [np.arange(number, number + 3, dtype=np.float32).data.cast("B") for number in range(count)]
    start, *bodies = sent(Pieces(arrays, {"Content-Type": "application/octet-stream"}))
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"] == b"application/octet-stream"
    assert int(headers[b"content-length"]) == 12 * count
    assert all(body["body"] is array for body, array in zip(bodies, arrays, strict=True))
    assert [body["more_body"] for body in bodies] == [True] * (count - 1) + [False]


def test_the_body_that_the_gate_read_is_given_once() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"from the socket", "more_body": False}

    async def both(state: dict[str, Any]) -> list[bytes]:
        request = Request({"type": "http", "headers": [], "state": state}, receive)
        return [await whole_body(request), await whole_body(request)]

    body = b"from the gate"
    first, second = asyncio.run(both({"body": body}))
    assert first is body and second == b"from the socket"


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_body_that_comes_in_pieces_is_the_same_body(bundle: Path, pieces: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 200, 300, 3), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(picture.shape)}
    header = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": picture.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = header + picture.tobytes()
    with on_socket(settings_for(bundle)) as port:
        path = "/v2/models/tiny/infer"
        fields = {"Inference-Header-Content-Length": str(len(header))}
        whole = httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=fields)
        cut = in_pieces(port, path, fields, np.array_split(np.frombuffer(body, np.uint8), pieces))
    assert whole.status_code == 200
    begin = int(whole.headers["Inference-Header-Content-Length"])
    assert cut.endswith(whole.content[begin:])


def in_pieces(port: int, path: str, fields: dict[str, str], pieces: list[np.ndarray]) -> bytes:
    """What a server answers to a body that is sent piece by piece, headers and all."""
    size = sum(map(len, pieces))
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {size}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        for piece in pieces:
            connection.sendall(piece.tobytes())
        while got := connection.recv(1 << 20):
            answer += got
    return answer
