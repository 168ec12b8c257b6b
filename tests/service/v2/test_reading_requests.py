"""The parser alone, fed with what nobody would think of: it reads, or refuses with an error of ours."""

from __future__ import annotations

import json
import math
import struct
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimpath.runtime.errors import SlimpathError
from slimpath.service.errors import HttpError
from slimpath.service.settings import LimitSettings
from slimpath.service.v2.compression import ENCODINGS, accepted_encoding, deflate, inflate
from slimpath.service.v2.header import read_header
from slimpath.service.v2.request import InferRequest, read_request
from slimpath.service.v2.tensors import bytes_tensor, little_endian, to_json
from slimpath.tests.runtime.tiny_bundle import TASKS

# A busy machine is slow, and that is no failure.
UNTIMED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
SPECS = {task.name: task for task in TASKS}
LENGTH = "inference-header-content-length"
IMAGE = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8"}


def read(body: bytes, headers: dict[str, str] | None = None, **query: str) -> InferRequest:
    return read_request(body, headers or {}, query, SPECS, LimitSettings(max_body_mib=1.0))


def with_binary(header: dict[str, Any], data: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(header).encode()
    return text + data, {LENGTH: str(len(text))}


@settings(**UNTIMED)
@given(st.binary(max_size=200), st.sampled_from(["", "0", "1", "17", "-1", "x"]), st.sampled_from(["", *ENCODINGS]))
def test_any_bytes_are_read_or_refused(body: bytes, length: str, encoding: str) -> None:
    headers = {name: value for name, value in ((LENGTH, length), ("content-encoding", encoding)) if value}
    with suppress(SlimpathError):
        read(body, headers)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
              st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)  # fmt: skip
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(["image", "other"]), "shape": st.one_of(JSON, st.lists(st.integers(-1, 3), max_size=5)),
     "datatype": st.sampled_from(["UINT8", "BYTES", "FP32", ""])},
    optional={"data": JSON, "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), JSON)},
)  # fmt: skip
OUTPUTS = st.lists(st.fixed_dictionaries({"name": st.text(max_size=5)}))


@settings(max_examples=300, **UNTIMED)
@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(TENSOR, max_size=2)},
        optional={"id": JSON, "parameters": JSON, "outputs": OUTPUTS},
    ),
    st.binary(max_size=40),
)  # fmt: skip
def test_any_json_of_the_right_words_is_read_or_refused(header: dict[str, Any], data: bytes) -> None:
    with suppress(SlimpathError):
        read(*with_binary(header, data))


@settings(**UNTIMED)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.data())
def test_pixels_arrive_as_they_were_sent(count: int, height: int, width: int, data: st.DataObject) -> None:
    size = count * height * width * 3
    sent = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8).reshape(count, height, width, 3)
    tensor = {"name": "image", "shape": list(sent.shape), "datatype": "UINT8"}
    found = read(*with_binary({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}, sent.tobytes()))
    as_json = read(json.dumps({"inputs": [{**tensor, "data": sent.tolist()}]}).encode())
    np.testing.assert_array_equal(np.stack(found.images), sent)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.stack(as_json.images), sent)  # type: ignore[arg-type]


@settings(**UNTIMED)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4))
def test_files_arrive_as_they_were_sent(sent: list[bytes]) -> None:
    data = b"".join(struct.pack("<I", len(part)) + part for part in sent)
    tensor = {"name": "image", "shape": [len(sent)], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    assert read(*with_binary({"inputs": [tensor]}, data)).images == sent


def test_pixels_are_not_copied_out_of_the_body() -> None:
    tensor = {**IMAGE, "parameters": {"binary_data_size": 12}}
    (image,) = read(*with_binary({"inputs": [tensor]}, bytes(12))).images
    assert isinstance(image, np.ndarray) and not image.flags.owndata


def test_a_header_of_unknown_fields_is_read() -> None:
    header = read_header(json.dumps({"inputs": [{**IMAGE, "extra": [1]}], "more": {"deep": [[]]}}).encode(), 32)
    assert header.inputs[0].name == "image"


def test_parameters_of_the_json_go_before_those_of_the_url() -> None:
    body = {"inputs": [{**IMAGE, "data": [0] * 12}], "parameters": {"width": 1}}
    assert read(json.dumps(body).encode(), width="0.5", top_k="1").wishes.budget == "width=1,top_k=1"


@settings(**UNTIMED)
@given(st.binary(max_size=500), st.sampled_from(ENCODINGS))
def test_what_is_deflated_inflates_to_itself(data: bytes, encoding: str) -> None:
    assert inflate(deflate(data, encoding), encoding, len(data)) == data
    assert inflate(data, None, 0) == inflate(data, "identity", 0) == data


@settings(**UNTIMED)
@given(st.binary(min_size=1, max_size=500), st.sampled_from(ENCODINGS))
def test_one_byte_above_the_limit_is_refused(data: bytes, encoding: str) -> None:
    with pytest.raises(HttpError) as error:
        inflate(deflate(data, encoding), encoding, len(data) - 1)
    assert error.value.status == 413


@pytest.mark.parametrize(
    ("header", "encoding"),
    [(None, None), ("", None), ("identity", None), ("br", None), ("gzip", "gzip"), ("deflate", "deflate"),
     (" GZIP ; q=1", "gzip"), ("gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("gzip;q=0.000", None), ("*", None),
     ("gzip, deflate", None), ("gzip, deflate, br, zstd", None)],
)  # fmt: skip
def test_answers_are_compressed_for_those_who_name_one_encoding(header: str | None, encoding: str | None) -> None:
    assert accepted_encoding(header) == encoding


def test_numbers_that_json_does_not_have_become_null_and_numpy_reads_them_as_nan() -> None:
    values = to_json(np.array([[1.5, math.nan], [math.inf, -math.inf]], np.float32))
    text = msgspec.json.encode(values)
    assert text == b"[1.5,null,null,null]"
    assert np.isnan(np.array(json.loads(text), np.float32)).sum() == 3


def test_binary_data_are_little_endian_and_row_major() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    assert np.frombuffer(little_endian(array).tobytes(), "<f4").tolist() == [0, 3, 1, 4, 2, 5]


def test_bytes_tensors_have_a_length_before_each_element() -> None:
    assert bytes_tensor(["é", ""]) == b"\x02\0\0\0\xc3\xa9\0\0\0\0"
