"""Inference through the real tritonclient: every way in, every way out (facts 3.6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient as AioInferenceServerClient
from tritonclient.utils import InferenceServerException

from slimpath.runtime.engine import Engine
from slimpath.runtime.imaging.images import load_image
from slimpath.tests.service.running import encoded, picture
from slimpath.tests.service.v2.conftest import array_of, files, pixels, tensor

# Batches and tiers may change the last bits.
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def http(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client


def test_uint8_in_and_everything_out_in_binary(triton: Any, engine: Engine) -> None:
    rgb = picture()
    answer = triton.infer("tiny", [pixels(rgb)])
    expected = engine(rgb)
    assert [output["name"] for output in answer.get_response()["outputs"]] == list(expected)
    for task, values in expected.items():
        got = answer.as_numpy(task)
        assert got.shape == (1, *values.shape) and got.dtype == values.dtype
        assert "data" not in answer.get_output(task)
        if task != "semseg":
            np.testing.assert_allclose(got[0], values, **CLOSE)
        else:
            assert np.mean(got[0] == values) > 0.99


def test_json_in_and_json_out(triton: Any, engine: Engine) -> None:
    rgb = picture(8, 9)
    wanted = [InferRequestedOutput("depth", binary_data=False), InferRequestedOutput("semseg", binary_data=False)]
    answer = triton.infer("tiny", [pixels(rgb, binary=False)], outputs=wanted)
    assert isinstance(answer.get_output("depth")["data"], list)
    np.testing.assert_allclose(answer.as_numpy("depth")[0], engine(rgb, "depth")["depth"], **CLOSE)
    assert answer.as_numpy("semseg").dtype == np.uint8


def test_binary_in_and_json_out(triton: Any) -> None:
    answer = triton.infer("tiny", [pixels(picture())], outputs=[InferRequestedOutput("edge", binary_data=False)])
    assert len(answer.get_output("edge")["data"]) == answer.as_numpy("edge").size


def test_binary_and_json_outputs_mixed_come_in_the_requested_order(triton: Any, engine: Engine) -> None:
    rgb = picture()
    wanted = [
        InferRequestedOutput("scene", binary_data=True),
        InferRequestedOutput("edge", binary_data=False),
        InferRequestedOutput("depth", binary_data=True),
    ]
    answer = triton.infer("tiny", [pixels(rgb)], outputs=wanted)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["scene", "edge", "depth"]
    expected = engine(rgb, ["scene", "edge", "depth"])
    for task in expected:
        np.testing.assert_allclose(answer.as_numpy(task)[0], expected[task], **CLOSE)


def test_only_the_requested_outputs_are_computed(triton: Any) -> None:
    answer = triton.infer("tiny", [pixels(picture())], outputs=[InferRequestedOutput("depth")])
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["depth"]
    assert answer.get_response()["parameters"]["task"] == "depth"
    everything = triton.infer("tiny", [pixels(picture())]).get_response()["parameters"]
    assert answer.get_response()["parameters"]["mflops"] < everything["mflops"]


def test_the_id_comes_back(triton: Any) -> None:
    assert triton.infer("tiny", [pixels(picture())], request_id="number 7").get_response()["id"] == "number 7"
    assert "id" not in triton.infer("tiny", [pixels(picture())]).get_response()


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_image_files_as_bytes(triton: Any, engine: Engine, extension: str) -> None:
    data = encoded(extension)
    answer = triton.infer("tiny", [files(data)], outputs=[InferRequestedOutput("depth")])
    np.testing.assert_allclose(answer.as_numpy("depth")[0], engine(load_image(data).rgb, "depth")["depth"], **CLOSE)


def test_several_images_in_one_request_keep_their_order(triton: Any, engine: Engine) -> None:
    pictures = [picture(seed=seed) for seed in range(3)]
    answer = triton.infer("tiny", [tensor(np.stack(pictures), "UINT8")], outputs=[InferRequestedOutput("depth")])
    assert answer.as_numpy("depth").shape[0] == 3
    for got, rgb in zip(answer.as_numpy("depth"), pictures):
        np.testing.assert_allclose(got, engine(rgb, "depth")["depth"], **CLOSE)
    mixed = triton.infer("tiny", [files(*(encoded(".png", rgb) for rgb in pictures))])
    np.testing.assert_allclose(mixed.as_numpy("depth"), answer.as_numpy("depth"), **CLOSE)


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("FP32", np.float32), ("FP64", np.float64), ("FP16", np.float16), ("INT64", np.int64), ("INT8", np.int8),
     ("UINT16", np.uint16), ("BOOL", np.bool_), ("BF16", ml_dtypes.bfloat16)],
)  # fmt: skip
def test_other_datatypes_are_refused_by_name(triton: Any, datatype: str, dtype: Any) -> None:
    wrong = tensor(np.zeros((1, 4, 4, 3), dtype), datatype)
    with pytest.raises(InferenceServerException, match=f"has the datatype {datatype}, expected BYTES") as error:
        triton.infer("tiny", [wrong])
    assert error.value.status() == "400"


def test_classification_gives_the_likeliest_labels(triton: Any, engine: Engine) -> None:
    rgb = picture()
    wanted = [InferRequestedOutput("scene", class_count=2)]
    answer = triton.infer("tiny", [pixels(rgb)], outputs=wanted)
    (texts,) = answer.as_numpy("scene")
    probability, index, label = texts[0].decode().split(":")
    name, likeliest = engine(rgb, "scene").label("scene")
    assert len(texts) == 2 and label == name
    assert float(probability) == pytest.approx(likeliest, abs=1e-3) and int(index) in range(3)
    as_json = triton.infer("tiny", [pixels(rgb)], outputs=[InferRequestedOutput("scene", False, class_count=2)])
    assert as_json.as_numpy("scene")[0][0].endswith(f":{label}")


@pytest.mark.parametrize("request_encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_encoding", [None, "gzip", "deflate"])
def test_bodies_are_compressed_both_ways(
    triton: Any, request_encoding: str | None, response_encoding: str | None
) -> None:
    rgb = picture()
    plain = triton.infer("tiny", [pixels(rgb)])
    answer = triton.infer(
        "tiny", [pixels(rgb)],
        request_compression_algorithm=request_encoding, response_compression_algorithm=response_encoding,
    )  # fmt: skip
    np.testing.assert_allclose(answer.as_numpy("depth"), plain.as_numpy("depth"), **CLOSE)


def test_the_answer_says_in_its_headers_how_it_is_compressed(http: httpx.Client) -> None:
    raw = {"Inference-Header-Content-Length": "0", "Accept-Encoding": "deflate"}
    answer = http.post("/v2/models/tiny/infer", content=encoded(), headers=raw)
    assert answer.headers["content-encoding"] == "deflate"
    raw["Accept-Encoding"] = "gzip, deflate"  # what libraries send of themselves
    assert "content-encoding" not in http.post("/v2/models/tiny/infer", content=encoded(), headers=raw).headers


def test_a_raw_request_is_one_image_file_and_is_answered_in_binary(http: httpx.Client, engine: Engine) -> None:
    data = encoded()
    answer = http.post(
        "/v2/models/tiny/infer", content=data, params={"task": "depth", "width": "0.5"},
        headers={"Inference-Header-Content-Length": "0", "Accept-Encoding": "identity"},
    )  # fmt: skip
    assert answer.status_code == 200 and answer.headers["slimpath-width"] == "0.5"
    expected = engine(load_image(data).rgb, "depth", "width=0.5")
    np.testing.assert_allclose(array_of(answer, "depth"), expected["depth"], **CLOSE)
    header = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert ["data" in output for output in header["outputs"]] == [False]


def test_the_image_may_be_base64_text_in_json(http: httpx.Client) -> None:
    import base64

    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(encoded()).decode()]}
    answer = http.post("/v2/models/tiny/infer", json={"inputs": [image], "outputs": [{"name": "scene"}]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in answer.headers
    assert len(answer.json()["outputs"][0]["data"]) == 3


def test_nested_and_flat_json_are_the_same(http: httpx.Client) -> None:
    rgb = picture(6, 5)
    image = {"name": "image", "shape": [1, 6, 5, 3], "datatype": "UINT8"}
    outputs = [{"name": "scene"}]
    flat = http.post(
        "/v2/models/tiny/infer", json={"inputs": [{**image, "data": rgb.ravel().tolist()}], "outputs": outputs}
    ).json()
    nested = http.post(
        "/v2/models/tiny/infer", json={"inputs": [{**image, "data": [rgb.tolist()]}], "outputs": outputs}
    ).json()
    assert flat["outputs"][0]["data"] == pytest.approx(nested["outputs"][0]["data"], abs=1e-4)


def test_the_protocols_own_parameters_are_never_refused(triton: Any) -> None:
    answer = triton.infer(
        "tiny", [pixels(picture())],
        sequence_id=5, sequence_start=True, sequence_end=True, priority=2, timeout=60_000_000,
    )  # fmt: skip
    assert answer.as_numpy("depth") is not None


def test_deadlines_that_cannot_be_met_are_told_early(triton: Any) -> None:
    with pytest.raises(InferenceServerException) as error:
        triton.infer("tiny", [pixels(picture())], parameters={"deadline_ms": 0.001})
    assert error.value.status() in ("503", "504") and error.value.message()
    assert triton.infer("tiny", [pixels(picture())], parameters={"deadline_ms": 60_000}).as_numpy("depth") is not None


# The client's own: aiohttp advises against large bodies in one piece.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_the_body_may_be_larger_than_a_megabyte(triton: Any) -> None:
    assert triton.infer("tiny", [pixels(picture(700, 900))]).as_numpy("depth").shape[0] == 1


def test_64_requests_at_once_are_all_answered_in_the_sync_client(port: int) -> None:
    client = InferenceServerClient(f"127.0.0.1:{port}", concurrency=64)
    try:
        handles = [
            client.async_infer("tiny", [pixels(picture(seed=seed))], request_id=f"r{seed}") for seed in range(64)
        ]
        answers = [handle.get_result() for handle in handles]
    finally:
        client.close()
    assert [answer.get_response()["id"] for answer in answers] == [f"r{seed}" for seed in range(64)]


def test_64_requests_at_once_are_all_answered_in_the_aio_client(port: int) -> None:
    async def ask() -> list[Any]:
        client = AioInferenceServerClient(f"127.0.0.1:{port}")
        try:
            calls = [client.infer("tiny", [pixels(picture(seed=s))], request_id=f"r{s}") for s in range(64)]
            return await asyncio.gather(*calls)
        finally:
            await client.close()

    answers = asyncio.run(ask())
    assert [answer.get_response()["id"] for answer in answers] == [f"r{seed}" for seed in range(64)]


def test_answers_of_many_clients_are_not_mixed_up(port: int, engine: Engine) -> None:
    pictures = [picture(seed=seed) for seed in range(16)]

    def ask(rgb: np.ndarray) -> np.ndarray:
        body, length = InferenceServerClient.generate_request_body(
            [pixels(rgb)], outputs=[InferRequestedOutput("depth")]
        )
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v2/models/tiny/infer", content=body, timeout=60,
            headers={"Inference-Header-Content-Length": str(length), "Accept-Encoding": "identity"},
        )  # fmt: skip
        return array_of(answer, "depth")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, pictures))
    for got, rgb in zip(answers, pictures):
        np.testing.assert_allclose(got, engine(rgb, "depth")["depth"], **CLOSE)


def test_an_input_of_the_client_that_was_never_filled_is_a_clear_400(triton: Any) -> None:
    with pytest.raises(InferenceServerException, match="neither data nor binary_data_size"):
        triton.infer("tiny", [InferInput("image", [1], "BYTES")])


def test_the_content_type_does_not_matter(http: httpx.Client) -> None:
    image = {"name": "image", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}
    body = json.dumps({"inputs": [image], "outputs": [{"name": "scene"}]}).encode()
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "image/jpeg"):
        answer = http.post("/v2/models/tiny/infer", content=body, headers={"Content-Type": content_type})
        assert answer.status_code == 200, content_type
