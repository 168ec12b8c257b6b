"""Health, metadata, configuration and statistics, as the real tritonclient reads them."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from slimpath.runtime.engine import Engine
from slimpath.service.v2.describe import EXTENSIONS
from slimpath.tests.service.running import picture
from slimpath.tests.service.v2.conftest import pixels

NUMPY = {"UINT8": np.uint8, "FP32": np.float32}


def test_live_ready_and_model_ready_are_true(triton: Any) -> None:
    assert triton.is_server_live() is True
    assert triton.is_server_ready() is True
    assert triton.is_model_ready("tiny") is True
    assert triton.is_model_ready("tiny", "1") is True


def test_an_unknown_model_and_an_unknown_version_are_not_ready(triton: Any) -> None:
    assert triton.is_model_ready("nobody") is False
    assert triton.is_model_ready("tiny", "2") is False


def test_server_metadata_lists_the_extensions_that_are_served(triton: Any) -> None:
    metadata = triton.get_server_metadata()
    assert metadata["name"] == "slimpath" and metadata["version"]
    assert set(metadata["extensions"]) == set(EXTENSIONS)
    assert not any("shared_memory" in name for name in metadata["extensions"])


def test_metadata_has_an_output_per_task_of_the_shape_that_answers_have(triton: Any, engine: Engine) -> None:
    metadata = triton.get_model_metadata("tiny")
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in metadata["outputs"]] == list(engine.bundle.manifest.task_names)
    result = triton.infer("tiny", [pixels(picture())])
    for output in metadata["outputs"]:
        values = result.as_numpy(output["name"])
        assert values.dtype == NUMPY[output["datatype"]]
        assert len(values.shape) == len(output["shape"])
        assert all(said in (-1, is_) for said, is_ in zip(output["shape"], values.shape))


def test_metadata_is_the_same_with_and_without_the_version(triton: Any) -> None:
    assert triton.get_model_metadata("tiny", "1") == triton.get_model_metadata("tiny")
    assert triton.get_model_config("tiny", "1") == triton.get_model_config("tiny")


def test_the_configuration_tells_perf_analyzer_that_shapes_hold_the_batch(triton: Any) -> None:
    config = triton.get_model_config("tiny")
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}]
    assert config["output"][0] == {"name": "semseg", "data_type": "TYPE_UINT8", "dims": [-1, -1, -1]}


def test_statistics_count_answers_and_failures(triton: Any) -> None:
    def counted() -> dict[str, Any]:
        (found,) = triton.get_inference_statistics("tiny")["model_stats"]
        assert triton.get_inference_statistics()["model_stats"][0]["name"] == "tiny"
        return found

    before = counted()
    triton.infer("tiny", [pixels(picture())])
    with pytest.raises(InferenceServerException):
        triton.infer("tiny", [pixels(picture())], parameters={"budget": "nonsense"})
    after = counted()
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["last_inference"] > 1.7e12  # milliseconds
    stats, old = after["inference_stats"], before["inference_stats"]
    assert stats["success"]["count"] == old["success"]["count"] + 1
    assert stats["fail"]["count"] == old["fail"]["count"] + 1
    assert stats["compute_infer"]["ns"] > old["compute_infer"]["ns"]
    assert after["batch_stats"][0]["batch_size"] >= 1


@pytest.mark.parametrize("call", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
def test_an_unknown_model_is_404_with_a_sentence(triton: Any, call: str) -> None:
    with pytest.raises(InferenceServerException, match="unknown model 'nobody'; this server has tiny") as error:
        getattr(triton, call)("nobody")
    assert error.value.status() == "404"


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("get_system_shared_memory_status", ()),
        ("register_system_shared_memory", ("name", "/key", 8)),
        ("unregister_system_shared_memory", ("name",)),
        ("get_cuda_shared_memory_status", ()),
        ("register_cuda_shared_memory", ("name", b"handle", 0, 8)),
        ("unregister_cuda_shared_memory", ("name",)),
        ("get_trace_settings", ()),
        ("get_log_settings", ()),
    ],
)
def test_extensions_that_are_left_out_say_so(triton: Any, call: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InferenceServerException, match=r"does not have the .* extension") as error:
        getattr(triton, call)(*arguments)
    assert error.value.status() == "400"


@pytest.mark.parametrize("path", ["generate", "generate_stream", "versions/1/generate", "versions/1/generate_stream"])
def test_generate_says_that_it_is_left_out(port: int, path: str) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/v2/models/tiny/{path}", json={"text_input": "x"})
    assert answer.status_code == 400 and "does not have the generate extension" in answer.json()["error"]
