"""Malformed requests for `service_fuzz.py`: valid ones of five families, damaged at random; a seed is a request."""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

INFER, BOUNDARY = "/v1/infer", "----slimpathfuzz"
JSON_BODY = {"content-type": "application/json"}


@dataclass
class Case:
    """One request. `raw` is a whole HTTP request for a socket of its own; otherwise path, headers and body are sent."""

    family: str
    path: str = INFER
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes = b""


def make_case(seed: int, model: str) -> Case:
    """The case of a seed."""
    rng = random.Random(seed)
    family = rng.choice(list(_FAMILIES))
    case = _FAMILIES[family](rng, model)
    case.family = family
    return case


def damage(rng: random.Random, data: bytes) -> bytes:
    """Up to six small harms: flipped, lost, doubled, moved, cut and invented bytes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        size = rng.choice((1, 2, 4, 8, 32, 200))
        harm = rng.randrange(7)
        if harm == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif harm == 1:
            del out[at : at + size]
        elif harm == 2:
            out[at:at] = out[at : at + size]
        elif harm == 3:
            out[at:at] = rng.randbytes(size)
        elif harm == 4:
            del out[at:]
        elif harm == 5:
            out[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65536)))
        else:
            out[at:at] = rng.choice(_NASTY)
    return bytes(out)


_NASTY = (
    b"\0", b"\r\n\r\n", b'"', b"{", b"[" * 600, b"--" + BOUNDARY.encode(), b"../../etc/passwd", b"%00", b"NaN", b"-1",
    b"1e999", b"\xff\xfe", b"\xed\xa0\x80", b"9" * 400, b"http://169.254.169.254/", b"\\u0000", b"file:///etc/passwd",
    b"\xb2", b"9" * 5000,
)  # fmt: skip

_NASTY_VALUES = [text.decode("latin-1") for text in _NASTY if not set(text) & set(b"\0\r\n")]


def _image(rng: random.Random) -> bytes:
    extension = rng.choice((".jpg", ".png", ".bmp", ".tiff", ".webp"))
    size_hw = rng.choice(((1, 1), (16, 24), (40, 60)))
    noise = np.random.default_rng(rng.randrange(100)).integers(0, 256, (*size_hw, 3), np.uint8)
    return cv2.imencode(extension, noise)[1].tobytes()


def _bomb(rng: random.Random) -> bytes:
    """A small PNG whose header promises many pixels."""
    width, height = rng.choice(((60000, 60000), (0, 5), (2**31 - 1, 1), (2**32 - 1, 2**32 - 1), (9000, 9000)))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, rng.choice((0, 2, 3, 6)), 0, 0, 0)
    pixels = zlib.compress(b"\0" * rng.choice((10, 100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _broken_image(rng: random.Random, model: str) -> Case:
    data = _bomb(rng) if rng.random() < 0.2 else damage(rng, _image(rng))
    return Case("", headers={"content-type": rng.choice(("image/jpeg", "image/png", "image/x-icon"))}, body=data)


def _form(rng: random.Random, model: str) -> Case:
    fields = {"tasks": "depth", "budget": "0.5", "format": "npy", "priority": "1"}
    body = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    name = rng.choice(("a.jpg", "../../a.jpg", "a\\..\\b", "\0", "x" * 300))
    body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    body += _image(rng) + f"\r\n--{BOUNDARY}--\r\n".encode()
    boundary = rng.choice((BOUNDARY, BOUNDARY, BOUNDARY, "other", "", "x" * 500))
    return Case("", headers={"content-type": f"multipart/form-data; boundary={boundary}"}, body=damage(rng, body))


def _json(rng: random.Random, model: str) -> Case:
    document = {"image": base64.b64encode(_image(rng)).decode(), "tasks": {"depth": 2, "edge": 1}, "budget": 0.5}
    values = (None, -1, 1e308, 10**400, "", [], {}, [[[[]]]], "http://127.0.0.1/", "\0", True, {"a": {"b": {}}})
    for name in rng.sample(["tasks", "budget", "size", "format", "deadline_ms", "priority", "image", "x"], 2):
        document[name] = rng.choice(values)
    body = json.dumps(document).encode()
    if rng.random() < 0.2:
        body = b'{"a":' * rng.choice((30, 1000, 100_000))
    return Case("", headers=dict(JSON_BODY), body=damage(rng, body) if rng.random() < 0.7 else body)


def _binary_tensors(rng: random.Random, model: str) -> Case:
    pixels = np.zeros((1, 4, 5, 3), np.uint8).tobytes()
    header = {
        "inputs": [{"name": "image", "shape": rng.choice(([1, 4, 5, 3], [1, -4, 5, 3], [2**40, 2**40, 1, 3], [0], [])),
                    "datatype": rng.choice(("UINT8", "BYTES", "FP32", "BOOL", "x")),
                    "parameters": {"binary_data_size": rng.choice((60, 59, -1, 2**63, 0, "60", None))}}],
        "outputs": [{"name": rng.choice(("depth", "nothing")), "parameters": {"binary_data": True}}],
    }  # fmt: skip
    text = json.dumps(header).encode()
    length = rng.choice((str(len(text)), "0", "-1", "999999", "1e3", "", str(2**70), str(len(text) - 1)))
    body = text + (damage(rng, pixels) if rng.random() < 0.5 else pixels)
    if rng.random() < 0.2:  # a header holds no line ends and no NUL: they would never get out of the client
        length = rng.choice(("", length)) + _NASTY_VALUES[rng.randrange(len(_NASTY_VALUES))]
    headers = {"inference-header-content-length": length}
    if rng.random() < 0.3:
        headers["content-encoding"] = rng.choice(("gzip", "deflate", "br", "gzip, gzip"))
        body = damage(rng, zlib.compress(b"\0" * rng.choice((100, 1 << 24)) if rng.random() < 0.3 else body))
    return Case("", f"/v2/models/{model}/infer", headers, body)


def _http(rng: random.Random, model: str) -> Case:
    body = _image(rng)
    request = (
        f"POST {INFER}?tasks=depth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"Content-Length: {rng.choice((len(body), len(body) + 5, 0, -1, 10**30, 'x'))}\r\n"
        + rng.choice(("", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Connection: upgrade\r\n"))
        + "\r\n"
    )
    return Case("", raw=damage(rng, request.encode()) + body)


_FAMILIES: dict[str, Callable[[random.Random, str], Case]] = {
    "image": _broken_image,
    "form": _form,
    "json": _json,
    "tensors": _binary_tensors,
    "http": _http,
}
