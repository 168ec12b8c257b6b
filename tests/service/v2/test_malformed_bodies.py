"""Whatever comes: 400 with {"error": "<text>"}, and the server stays ready (facts 3.6)."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

from slimpath.tests.service.running import encoded, picture, wait_until
from slimpath.tests.service.v2.conftest import pixels

INFER = "/v2/models/tiny/infer"
IMAGE: dict[str, Any] = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8"}
FLAT = list(range(12))


@pytest.fixture(scope="module")
def http(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client


def with_tensors(header: Any, *tensors: bytes, length: int | str | None = None) -> tuple[bytes, dict[str, str]]:
    """A binary body, and its headers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return text + b"".join(tensors), {"Inference-Header-Content-Length": str(len(text) if length is None else length)}


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{**IMAGE, "parameters": {"binary_data_size": size}, **changes}]}


def plain(*inputs: dict[str, Any], **fields: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps({"inputs": list(inputs), **fields}).encode(), {}


def as_bytes(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


BYTES_2 = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 14}}
GOOD = {**IMAGE, "data": FLAT}
NESTED: list[Any] = []
for _ in range(40):
    NESTED = [NESTED]
DEEP = b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DEEP_DATA = (
    b'{"inputs":[{"name":"image","shape":[1,2,2,3],"datatype":"UINT8","data":' + b"[" * 50_000 + b"]" * 50_000 + b"}]}"
)

BODIES: dict[str, tuple[tuple[bytes, dict[str, Any]], str]] = {
    "empty": ((b"", {}), "not JSON"),
    "not JSON": ((b"{", {}), "not JSON"),
    "not an object": ((b"[1]", {}), "does not fit the protocol"),
    "no inputs": ((b"{}", {}), "missing required field"),
    "not UTF-8": ((b'{"inputs":[{"name":"\xff"}]}', {}), "not JSON|does not fit"),
    "bare NaN": ((b'{"inputs":[{"name":"image","shape":[1,1,1,3],"datatype":"UINT8","data":[NaN,0,0]}]}', {}), "JSON"),
    "deep nesting": ((DEEP, {}), "does not fit|too deeply"),
    "deep in an unknown field": (plain(GOOD, later=NESTED), "nested too deeply: more than 32 levels"),
    "many texts": (plain(GOOD, later=["a"] * 9000), "holds more than 8192 texts"),
    "many files": (plain({"name": "image", "shape": [1], "datatype": "BYTES", "data": ["a"] * 8000}), "8000 "),
    "deep data": ((DEEP_DATA, {}), "too deeply|levels"),
    "too short": (with_tensors(binary(12), bytes(11)), "unexpected size .* binary_data_size is 12, 11 bytes follow"),
    "too long": (with_tensors(binary(12), bytes(13)), "unexpected additional input data: 1 bytes"),
    "header longer than the body": (with_tensors(binary(12), bytes(12), length=10_000), "but the body has"),
    "negative header length": (with_tensors(binary(12), bytes(12), length=-1), "must be a number of bytes"),
    "header length in words": (with_tensors(binary(12), bytes(12), length="ten"), "must be a number of bytes"),
    "header length beyond 64 bits": (with_tensors(binary(12), bytes(12), length="9" * 30), "must be a number of bytes"),
    "header length of no ASCII": (
        (b"{}", {"Inference-Header-Content-Length": b"\xb2"}), "must be a number of bytes"),
    "header length of 5000 digits": (with_tensors(binary(12), bytes(12), length="9" * 5000), "must be a number"),
    "header cut off": (with_tensors(binary(12), bytes(12), length=20), "not JSON"),
    "size is not that of the shape": (with_tensors(binary(11), bytes(11)), "takes 12 bytes, got 11"),
    "negative size": (with_tensors(binary(-1)), "binary_data_size must be"),
    "size in words": (with_tensors(binary("12"), bytes(12)), "binary_data_size must be"),
    "binary tensor without header length": ((json.dumps(binary(12)).encode(), {}), "binary_data_size is 12, 0 bytes"),
    "data and binary": (with_tensors(binary(12, data=FLAT), bytes(12)), "both data and binary_data_size"),
    "neither": (plain(IMAGE), "neither data nor binary_data_size"),
    "wrong datatype": (plain({**GOOD, "datatype": "FP32"}), "has the datatype FP32, expected BYTES"),
    "no datatype": (plain({**GOOD, "datatype": "PICTURE"}), "unknown datatype 'PICTURE'"),
    "wrong shape": (plain({**GOOD, "shape": [2, 2, 3]}), r"has the shape \[2, 2, 3\]"),
    "shape of four channels": (plain({**GOOD, "shape": [1, 1, 3, 4]}), "has the shape"),
    "negative dimension": (plain({**GOOD, "shape": [1, -2, -2, 3]}), "has the shape"),
    "empty dimension": (plain({**GOOD, "shape": [1, 0, 2, 3], "data": []}), "has the shape"),
    "dimensions that overflow": (plain({**GOOD, "shape": [1, 2**62, 2**62, 3]}), "has the shape"),
    "dimensions beyond 64 bits": (plain({**GOOD, "shape": [1, 2**80, 1, 3]}), "does not fit|has the shape"),
    "pixels beyond the limit": (plain({**GOOD, "shape": [1, 2**15, 2**15, 3]}), "too large: 1073.7 megapixels"),
    "many images": (plain({**GOOD, "shape": [33, 2, 2, 3]}), "33 images in one request"),
    "too few numbers": (plain({**GOOD, "data": FLAT[1:]}), "11 numbers for the shape"),
    "too many numbers": (plain({**GOOD, "data": [*FLAT, 1]}), "13 numbers for the shape"),
    "ragged": (plain({**GOOD, "data": [[[[1, 2, 3], [4, 5]], [[1, 2, 3], [4, 5, 6]]]]}), "11 numbers for the shape"),
    "ragged with the right number": (
        plain({**GOOD, "data": [[[[1, 2, 3, 4], [5, 6]], [[1, 2, 3], [4, 5, 6]]]]}), "do not have the shape"),
    "lists for numbers": (plain({**GOOD, "data": [[[[[], 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]]]}), "the shape"),
    "empty lists": (plain({**GOOD, "data": [[[[]] * 12]]}), "do not have the shape"),
    "objects for numbers": (plain({**GOOD, "data": [{"a": 1, "b": 2}, *FLAT[2:]]}), "cannot read its data"),
    "nested too little": (plain({**GOOD, "data": [FLAT]}), "flat or nested like the shape, got 2 levels"),
    "numbers that are no bytes": (plain({**GOOD, "data": [256, *FLAT[1:]]}), "from 0 to 255"),
    "numbers beyond 64 bits": (plain({**GOOD, "data": [2**70, *FLAT[1:]]}), "cannot read|from 0 to 255"),
    "fractions": (plain({**GOOD, "data": [0.5, *FLAT[1:]]}), "cannot read its data"),
    "texts for numbers": (plain({**GOOD, "data": ["1"] * 12}), "cannot read its data"),
    "unknown input": (plain({**GOOD, "name": "picture"}), "unexpected input 'picture'; the one input is called"),
    "duplicate input": (plain(GOOD, GOOD), "expected the input 'image' once, got it 2 times"),
    "no input": (plain(), "expected the input 'image' once, got it 0 times"),
    "unknown output": (plain(GOOD, outputs=[{"name": "taste"}]), "unexpected output 'taste'; the model has semseg"),
    "duplicate output": (plain(GOOD, outputs=[{"name": "depth"}] * 2), "output 'depth' is requested 2 times"),
    "classification of a dense task": (
        plain(GOOD, outputs=[{"name": "depth", "parameters": {"classification": 1}}]), "has no single label"),
    "long id": (plain(GOOD, id="x" * 513), "id must have at most 512"),
    "shared memory in": (
        plain({**IMAGE, "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 12}}),
        "no shared-memory extension"),
    "shared memory out": (
        plain(GOOD, outputs=[{"name": "depth", "parameters": {"shared_memory_region": "r"}}]),
        "no shared-memory extension"),
    "bytes that end early": (with_tensors({"inputs": [BYTES_2]}, as_bytes(b"123456", b"1234")[:14]), "element 1 says"),
    "bytes without a length": (with_tensors({"inputs": [BYTES_2]}, as_bytes(b"12345678") + b"12"), "before element 1"),
    "bytes left over": (with_tensors({"inputs": [BYTES_2]}, as_bytes(b"1", b"1") + bytes(4)), "behind its 2 elements"),
    "base64 that is none": (plain({"name": "image", "shape": [1], "datatype": "BYTES", "data": ["*"]}), "base64"),
    "no image file": (with_tensors(b"", b"hello", length=0), "not an image"),
    "image cut off": (with_tensors(b"", encoded()[:200], length=0), "cut off"),
    "raw without a body": (with_tensors(b"", length=0), "needs an image"),
    "format that is not allowed": (with_tensors(b"", encoded(".bmp"), length=0), "BMP images are not read"),
    "unknown encoding": ((b"{}", {"Content-Encoding": "br"}), "unknown Content-Encoding 'br'"),
    "gzip that is none": ((b"{}", {"Content-Encoding": "gzip"}), "not gzip data"),
    "gzip cut off": ((gzip.compress(b"{}")[:-3], {"Content-Encoding": "gzip"}), "cut off"),
    "bytes behind deflate": ((zlib.compress(b"{}") + b"x", {"Content-Encoding": "deflate"}), "behind the deflate body"),
    "budget": (plain(GOOD, parameters={"budget": "much"}), "cannot read 'much'"),
    "budget below 0": (plain(GOOD, parameters={"budget_ms": -1}), "budget_ms must be above 0"),
    "width that is not there": (plain(GOOD, parameters={"width": 0.3}), "width"),
    "task that is not there": (plain(GOOD, parameters={"task": "taste"}), "unknown task 'taste'"),
    "task beside the outputs": (
        plain(GOOD, outputs=[{"name": "depth"}], parameters={"task": "edge"}), "not among the requested outputs"),
    "parameter that is a list": (plain(GOOD, parameters={"task": ["depth"]}), "does not fit the protocol"),
    "deadline in words": (plain(GOOD, parameters={"deadline_ms": "soon"}), "deadline_ms must be a number"),
    "priority below 0": (plain(GOOD, parameters={"priority": -1}), "priority must be"),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_is_400_with_a_sentence(http: httpx.Client, case: str) -> None:
    (body, headers), sentence = BODIES[case]
    answer = http.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(answer.json()["error"])
    assert "Traceback" not in answer.text and "/tmp" not in answer.text


def test_the_server_is_ready_after_all_of_them(http: httpx.Client) -> None:
    for (body, headers), _ in BODIES.values():
        http.post(INFER, content=body, headers=headers)
    assert http.get("/v2/health/ready").json() == {"ready": True}
    good, headers = plain({**GOOD}, outputs=[{"name": "scene"}])
    assert http.post(INFER, content=good, headers=headers).status_code == 200


# The client's own: aiohttp advises against large bodies in one piece.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_body_above_the_limit_is_413(triton: Any) -> None:
    with pytest.raises(InferenceServerException, match="at most 2097152 bytes") as error:
        triton.infer("tiny", [pixels(picture(1000, 1000), binary=False)])  # some 10 MB of JSON
    assert error.value.status() == "413"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_inflates_above_the_limit_is_413(http: httpx.Client, encoding: str) -> None:
    bomb = bytes(50 << 20)
    packed = gzip.compress(bomb, 9) if encoding == "gzip" else zlib.compress(bomb, 9)
    assert len(packed) < 100_000
    answer = http.post(INFER, content=packed, headers={"Content-Encoding": encoding})
    assert answer.status_code == 413 and "more than 2097152 bytes once inflated" in answer.json()["error"]


def test_many_members_of_gzip_count_together(http: httpx.Client) -> None:
    member = gzip.compress(bytes(1 << 20), 9)
    answer = http.post(INFER, content=member * 40, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413


def test_an_unknown_model_is_404_whatever_the_body(triton: Any, http: httpx.Client) -> None:
    with pytest.raises(InferenceServerException, match="unknown model 'nobody'"):
        triton.infer("nobody", [pixels(picture())])
    assert http.post("/v2/models/nobody/infer", content=b"{").status_code == 404
    assert http.post("/v2/models/..%2Ftiny/infer", content=b"{").status_code == 404
    assert http.post("/v2/models/tiny%00/infer", content=b"{").status_code == 404
    assert http.post("/v2/models/tiny/versions/7/infer", content=b"{").status_code == 404


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", INFER, 405), ("DELETE", "/v2", 405), ("GET", "/v2/nowhere", 404), ("POST", "/v2/health/live", 405),
])  # fmt: skip
def test_errors_of_the_router_have_the_protocols_form(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)


def test_a_client_that_hangs_up_in_the_middle_of_a_body_leaves_the_server_ready(port: int, http: httpx.Client) -> None:
    for sent in (b"", b"{", bytes(1000)):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
            connection.sendall(head.encode() + sent)
    wait_until(lambda: 'status="499"' in http.get("/metrics").text)
    assert http.get("/v2/health/ready").status_code == 200


def test_a_client_that_hangs_up_before_its_answer_leaves_the_others_answered(port: int) -> None:
    body, length = InferenceServerClient.generate_request_body([pixels(picture())])
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {length}\r\n\r\n"
    ).encode()
    client = InferenceServerClient(f"127.0.0.1:{port}", concurrency=8)
    try:
        handles = []
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head + body)
            handles.append(client.async_infer("tiny", [pixels(picture())]))
        assert all(handle.get_result().as_numpy("depth") is not None for handle in handles)
    finally:
        client.close()
