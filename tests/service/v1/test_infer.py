"""POST /v1/infer: three ways in, three ways out, and what the answer says about itself."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from slimpath.runtime import Engine
from slimpath.runtime.imaging.pictures import image_part
from slimpath.service.loadtest.client import Answer
from slimpath.service.loadtest.samples import read_sample
from slimpath.service.v1.answers import _mean_kept
from slimpath.tests.service.running import encoded, picture, read_png

JPEG = {"content-type": "image/jpeg"}
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def engine(bundle: Path):
    with Engine.load(bundle) as opened:
        yield opened


def infer(client: httpx.Client, data: bytes | None = None, headers: dict[str, str] = PNG, **options: Any) -> Any:
    answer = client.post(
        "/v1/infer", content=encoded(".png") if data is None else data, headers=headers, params=options
    )
    assert answer.status_code == 200, answer.text
    return answer


def test_form_raw_body_and_json_give_the_same_answer(client: httpx.Client):
    data = encoded(".png")
    form = client.post("/v1/infer", files={"file": ("photo.png", data)}, data={"tasks": "depth", "format": "json"})
    raw = infer(client, data, tasks="depth", format="json")
    document = {"image": base64.b64encode(data).decode(), "tasks": ["depth"], "format": {"depth": "json"}}
    from_json = client.post("/v1/infer", json=document)
    outputs = [answer.json()["outputs"] for answer in (form, raw, from_json)]
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_data_url_is_taken_for_its_bytes(client: httpx.Client):
    image = "data:image/png;base64," + base64.b64encode(encoded(".png")).decode()
    assert client.post("/v1/infer", json={"image": image, "tasks": "depth"}).status_code == 200


@pytest.mark.parametrize("output_size", ["network", "original"])
def test_the_answer_is_that_of_the_engine(client: httpx.Client, engine: Engine, output_size: Any):
    data = encoded(".jpg", cv2.resize(picture(), (640, 400)))  # large enough to be scaled down while it is decoded
    answer = infer(client, data, JPEG, response="zip", format="npy", output_size=output_size)
    expected = engine(data, output_size=output_size)
    served = np.load(io.BytesIO(answer.content))
    for task in engine.tasks:
        np.testing.assert_allclose(served[task], image_part(expected[task], expected), atol=1e-4)


def test_the_answer_says_what_ran_and_why_and_what_it_cost(client: httpx.Client):
    answer = infer(client, budget="0.98", deadline_ms=60_000).json()
    plan, cost = answer["plan"], answer["cost"]
    assert plan["share"] <= 0.98 and plan["budget"] == "0.98" and plan["budget_met"]
    assert any("within 0.98" in reason for reason in plan["reasons"])
    assert cost["predicted"]["flops"] == plan["flops"]
    assert cost["measured"]["server_ms"] >= cost["measured"]["engine_ms"] > 0
    assert answer["quality"]["lowered"] and not answer["quality"]["lowered_by_load"]
    assert answer["model"]["name"] and answer["image"] == {"width": 60, "height": 40, "format": "PNG"}


def test_full_quality_is_not_called_lowered(client: httpx.Client):
    answer = infer(client, tasks="depth").json()
    assert answer["quality"] == {"lowered": False, "lowered_by_load": False, "kept": answer["quality"]["kept"]}
    assert answer["plan"]["reasons"][0] == "no limit was set: the full configuration"


def test_a_budget_that_nothing_fits_is_answered_and_said(client: httpx.Client):
    answer = infer(client, budget="1kFLOPs").json()
    assert not answer["plan"]["budget_met"] and answer["plan"]["unmet"] == ["1000FLOPs"]
    refused = client.post("/v1/infer", content=encoded(), headers=JPEG, params={"budget": "1kFLOPs", "strict": "true"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "budget_infeasible")


def test_raw_is_the_bytes_of_one_output_with_the_plan_in_headers(client: httpx.Client):
    answer = infer(client, tasks="depth", response="raw", format="npy", budget="width=0.5")
    assert np.load(io.BytesIO(answer.content)).dtype == np.float32
    assert answer.headers["slimpath-width"] == "0.5" and answer.headers["slimpath-degraded"] == "false"
    assert float(answer.headers["slimpath-engine-ms"]) > 0


def test_raw_16_bit_depth_says_its_scale(client: httpx.Client):
    answer = infer(client, tasks="depth", response="raw", format="png16")
    stored = read_png(answer.content)
    assert stored.dtype == np.uint16 and answer.headers["content-type"] == "image/png"
    exact = np.load(io.BytesIO(infer(client, tasks="depth", response="raw", format="npy").content))
    np.testing.assert_allclose(stored * float(answer.headers["slimpath-scale"]), np.clip(exact, 0, 65.535), atol=6e-4)


def test_a_priority_that_nobody_has_is_refused(client: httpx.Client):
    for priority, status in ((-5, 200), (5, 200), (6, 422), (100, 422), (-6, 422)):
        answer = client.post(
            "/v1/infer", content=encoded(), headers=JPEG, params={"priority": priority, "tasks": "depth"}
        )
        assert answer.status_code == status, (priority, answer.text)
        assert status == 200 or "priority" in answer.json()["error"]["message"]


@pytest.mark.parametrize("budget", ["min", "1.0"])
def test_the_accuracy_that_is_kept_is_a_header_of_every_form_and_read_by_the_load_generator(
    client: httpx.Client, budget: str
):
    kept = infer(client, tasks="depth", budget=budget).json()["quality"]["kept"]["depth"]
    for form in ("json", "raw", "zip"):
        answer = infer(client, tasks="depth", budget=budget, format="npy", response=form)
        assert float(answer.headers["slimpath-quality"]) == pytest.approx(kept, abs=1e-4)
        sample = read_sample(Answer(200, dict(answer.headers), b""), 0.0, 0.0, 0.1)
        assert sample.quality == pytest.approx(kept, abs=1e-4)
    both = infer(client, tasks="depth,semseg", budget=budget)
    shares = both.json()["quality"]["kept"].values()
    assert float(both.headers["slimpath-quality"]) == pytest.approx(sum(shares) / 2, abs=1e-4)


def test_a_mean_of_which_a_part_is_unmeasured_is_not_told():
    assert _mean_kept({"depth": 0.5, "edge": None}) is None and _mean_kept({}) is None


def test_raw_json_formats_are_json_documents(client: httpx.Client):
    answer = infer(client, tasks="semseg", response="raw", format="rle")
    assert answer.headers["content-type"] == "application/json" and answer.json()["order"] == "columns"


def test_raw_of_several_tasks_is_refused_before_it_runs(client: httpx.Client):
    answer = client.post("/v1/infer", content=encoded(), headers=JPEG, params={"response": "raw"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "raw_needs_one")


def test_the_panel_is_a_picture_beside_or_instead_of_the_outputs(client: httpx.Client):
    beside = infer(client, panel="true").json()
    instead = infer(client, panel="true", response="raw")
    assert base64.b64decode(beside["panel"]["data"])[:8] == instead.content[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(beside["outputs"]) > 1


def test_an_archive_has_a_file_for_every_output(client: httpx.Client):
    answer = infer(client, response="zip", panel="true", format="png16")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = set(archive.namelist())
        document = json.loads(archive.read("answer.json"))
    files = {output["file"] for output in document["outputs"].values()}
    assert names == files | {"answer.json", "panel.png"} and document["panel"]["file"] == "panel.png"
    assert all("data" not in output and "value" not in output for output in document["outputs"].values())


def test_formats_may_differ_by_task(client: httpx.Client):
    outputs = infer(client, tasks="semseg,depth", format="semseg=polygons,depth=npy").json()["outputs"]
    assert (outputs["semseg"]["format"], outputs["depth"]["format"]) == ("polygons", "npy")


def test_preferences_and_floors_reach_the_planner(client: httpx.Client):
    plan = infer(client, tasks="depth=3,semseg>=0.5", budget="0.8").json()["plan"]
    assert plan["tasks"] == {"depth": 3.0, "semseg": 1.0}


def test_the_same_model_may_be_named(client: httpx.Client):
    name = client.get("/v1/models").json()["models"][0]["name"]
    assert infer(client, tasks="depth", model=name).json()["model"]["name"] == name
    answer = client.post("/v1/infer", content=encoded(), headers=JPEG, params={"model": "nobody"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")


def test_every_answer_has_an_id_of_its_own(client: httpx.Client):
    assert infer(client, tasks="depth").json()["id"] != infer(client, tasks="depth").json()["id"]
