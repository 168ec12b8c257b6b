"""Images from strangers: bombs, forbidden formats, lies, and addresses that nobody fetches."""

from __future__ import annotations

import base64
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slimpath.runtime.errors import ImageError
from slimpath.service.errors import HttpError
from slimpath.service.images import decode_image
from slimpath.service.settings import LimitSettings
from slimpath.tests.service.running import encoded, picture, serving, settings_for

RAW = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def strict(bundle: Path) -> Iterator[httpx.Client]:
    """A server that reads at most 10,000 pixels, and makes at most 20,000."""
    with serving(settings_for(bundle, limits={"max_image_mp": 0.01, "max_output_mp": 0.02})) as client:
        yield client


def png_that_says(width: int, height: int) -> bytes:
    """A PNG file of some bytes whose header promises any size, and whose data would inflate to 100 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def post(client: httpx.Client, data: bytes, **options: str) -> httpx.Response:
    return client.post("/v1/infer", content=data, headers=RAW, params=options)


def test_pixels_are_counted_in_the_header_before_anything_is_decoded(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    import cv2

    decoded: list[int] = []
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decoded.append(len(data)))
    for size in ((60_000, 60_000), (2**31 - 1, 1), (100_000, 500)):
        answer = post(client, png_that_says(*size))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "image_too_large"), size
    assert decoded == []


def test_the_limit_of_pixels_is_that_of_the_settings(strict: httpx.Client):
    assert post(strict, encoded(".png", picture(100, 100)), tasks="depth").status_code == 200
    assert post(strict, encoded(".png", picture(100, 101)), tasks="depth").status_code == 413


def test_large_outputs_are_refused_before_they_are_computed(strict: httpx.Client):
    data = encoded(".png", picture(100, 100))
    assert post(strict, data, tasks="depth,edge", output_size="original").status_code == 200
    answer = post(strict, data, tasks="depth,edge,semseg", output_size="original")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "output_too_large")
    listed = post(strict, data, tasks="depth", output_size="original", format="json")
    assert (listed.status_code, listed.json()["error"]["code"]) == (422, "output_too_large")


@pytest.mark.parametrize("extension", [".webp", ".bmp", ".tiff"])
def test_formats_are_told_by_their_first_bytes_and_others_refused(client: httpx.Client, extension: str):
    for declared in ("image/png", "application/octet-stream"):
        answer = client.post("/v1/infer", content=encoded(extension), headers={"content-type": declared})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_image")
    assert decode_image(encoded(".webp"), LimitSettings(image_formats=("webp",))).format == "WebP"


def test_the_declared_type_does_not_matter(client: httpx.Client):
    answer = client.post(
        "/v1/infer", content=encoded(".png"), headers={"content-type": "image/gif"}, params={"tasks": "depth"}
    )
    assert answer.status_code == 200 and answer.json()["image"]["format"] == "PNG"


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", encoded()[:-100], b"PK\x03\x04" + b"\0" * 99]
)
def test_what_is_no_image_is_a_bad_request(client: httpx.Client, data: bytes):
    assert post(client, data).status_code in (400, 422)


def test_other_types_of_body_are_refused(client: httpx.Client):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", ""):
        answer = client.post("/v1/infer", content=b"x", headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_an_address_is_never_fetched(client: httpx.Client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for text in (address, address.encode().hex(), "data:image/png;base64," + address):
            answer = client.post("/v1/infer", json={"image": text})
            assert answer.status_code in (400, 422)
        as_bytes = base64.b64encode(address.encode()).decode()
        assert client.post("/v1/infer", json={"image": as_bytes}).status_code == 400
        assert client.post("/v1/infer", data={"file": address}).status_code in (400, 415, 422)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_the_name_of_an_uploaded_file_is_never_a_path(client: httpx.Client, tmp_path: Path):
    target = tmp_path / "a.png"
    target.write_bytes(encoded(".png"))
    for name in (str(target), f"../../../../{target}", "file:///etc/passwd"):
        answer = client.post("/v1/infer", files={"file": (name, b"")})
        assert answer.status_code == 422  # the part is empty, and the file of that name was not read


def test_16_bits_and_orientation_are_read_and_broken_data_is_refused():
    import cv2
    import numpy as np

    deep = cv2.imencode(".png", np.full((3, 4), 65535, np.uint16))[1].tobytes()
    assert (decode_image(deep, LimitSettings()).rgb == 255).all()
    with pytest.raises(HttpError):
        decode_image(png_that_says(9_000, 9_000), LimitSettings())
    with pytest.raises(ImageError):
        decode_image(encoded(".png")[:60], LimitSettings())
