"""The Python model under the contract of Triton's Python backend: see `harness`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slimpath import Engine
from slimpath.runtime import Bundle
from slimpath.tests.export.triton.harness import CODES, InferenceRequest, Stub, Tensor, loaded
from slimpath.tests.export.triton.published_schema import as_json

TASKS = ["depth", "scene"]


def picture(seed: int = 0, height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def pixels(*images: np.ndarray) -> Tensor:
    return Tensor("pixels", np.stack(images))


def files(*data: bytes) -> Tensor:
    return Tensor("image", np.array(data, dtype=object).reshape(-1, 1))


def config_of(repository: Path) -> dict[str, Any]:
    return as_json((repository / "rooms" / "config.pbtxt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stub(repository: Path) -> Iterator[Stub]:
    with loaded(repository / "rooms", config_of(repository)) as stub:
        yield stub


def only(stub: Stub, *inputs: Tensor, outputs: list[str] = TASKS, **options: Any) -> Any:
    (response,) = stub.execute([InferenceRequest(inputs, outputs, **options)])
    return response


def refusal(response: Any) -> tuple[str, str]:
    assert response.failure is not None
    return CODES[response.failure.code()], response.failure.message()


def test_answers_are_those_of_the_engine(stub: Stub, bundle: Bundle):
    response = only(stub, pixels(picture()), outputs=["semseg", "depth", "normals", "edge", "scene"])
    with Engine.load(bundle) as engine:
        result = engine(picture())
    for tensor in response.tensors:
        np.testing.assert_allclose(tensor.as_numpy()[0], result[tensor.name()], atol=1e-4, err_msg=tensor.name())


def test_files_and_pixels_give_the_same_answer(stub: Stub):
    first, second = only(stub, pixels(picture())), only(stub, files(png(picture())))
    for one, other in zip(first.tensors, second.tensors):
        np.testing.assert_array_equal(one.as_numpy(), other.as_numpy())


def test_a_request_may_hold_several_pictures(stub: Stub):
    response = only(stub, files(*(png(picture(seed)) for seed in range(3))))
    assert {tensor.as_numpy().shape[0] for tensor in response.tensors} == {3}


def test_requests_of_one_call_share_the_encoder_and_keep_their_order(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []
    run_batch = stub.model.engine.run_batch
    monkeypatch.setattr(
        stub.model.engine, "run_batch", lambda work, **more: (calls.append(len(work)), run_batch(work, **more))[1]
    )
    requests = [InferenceRequest([pixels(picture(seed, 30 + seed, 50))], ["depth"]) for seed in range(3)]
    together = stub.execute(requests)
    assert calls == [3]
    for request, response in zip(requests, together):
        alone = stub.execute([request])[0]
        np.testing.assert_allclose(response.tensors[0].as_numpy(), alone.tensors[0].as_numpy(), atol=1e-4)


def test_only_what_was_requested_is_computed(stub: Stub):
    assert "depth" in str(only(stub, pixels(picture()), outputs=["depth"]).told["plan"])
    assert "scene" not in str(only(stub, pixels(picture()), outputs=["depth"]).told["plan"])


def test_parameters_name_the_budget(stub: Stub):
    full, narrow = (only(stub, pixels(picture()), parameters=p) for p in ({}, {"width": "0.25", "top_k": 1}))
    assert full.told["plan"] != narrow.told["plan"] and "0.25" in str(narrow.told["plan"])
    assert only(stub, pixels(picture()), parameters={"budget": "0.5"}).told["budget_met"] is True
    assert only(stub, pixels(picture()), parameters={"budget_mflops": 1e-6}).told["budget_met"] is False


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"budget_mflops": 1e-6, "strict": True}, "MFLOPs"),
        ({"strict": "yes"}, "strict must be true or false"),
        ({"budget_ms": True}, "budget_ms must be a number"),
        ({"budget": "soon"}, "soon"),
        ({"quality_floor": 3}, "depth"),
        ({"width": "9" * 300}, "width must be a number"),
    ],
)
def test_bad_parameter_is_the_clients_error(stub: Stub, parameters: dict[str, Any], words: str):
    code, message = refusal(only(stub, pixels(picture()), parameters=parameters))
    assert code == "INVALID_ARG" and words in message


def test_bad_picture_is_the_clients_error_and_its_neighbours_are_answered(stub: Stub):
    good, bad = InferenceRequest([pixels(picture())], ["depth"]), InferenceRequest([files(b"no picture")], ["depth"])
    first, second, third = stub.execute([good, bad, good])
    assert first.failure is None and third.failure is None
    assert refusal(second)[0] == "INVALID_ARG"


def test_one_of_the_two_inputs_is_needed(stub: Stub):
    for inputs in ((), (pixels(picture()), files(png(picture())))):
        code, message = refusal(only(stub, *inputs))
        assert code == "INVALID_ARG" and "either image" in message


def test_cancelled_request_is_not_computed(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stub.model.engine, "run_batch", lambda *_a, **_k: pytest.fail("it was computed"))
    assert refusal(only(stub, pixels(picture()), cancelled=True))[0] == "CANCELLED"


def test_failure_of_the_library_is_the_servers_error(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    from slimpath.runtime.errors import BackendError

    monkeypatch.setattr(stub.model.engine, "run_batch", lambda work, **_k: [BackendError("broke") for _ in work])
    assert refusal(only(stub, pixels(picture()))) == ("INTERNAL", "broke")


def test_responses_carry_no_parameters_where_the_release_has_none(repository: Path):
    with loaded(repository / "rooms", config_of(repository), old=True) as stub:
        assert only(stub, pixels(picture())).told == {}


def test_settings_of_the_config_reach_the_engine(repository: Path):
    config = config_of(repository)
    config["parameters"] = {"threads": {"string_value": "1"}, "budget": {"string_value": "width=0.25"}}
    with loaded(repository / "rooms", config) as stub:
        assert "0.25" in str(only(stub, pixels(picture())).told["plan"])


def test_instance_that_never_initialised_can_be_finalised(stub: Stub):
    type(stub.model)().finalize()
