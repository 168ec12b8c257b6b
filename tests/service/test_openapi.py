"""openapi.json: whole, with examples that work, and true: schemathesis and a fuzzer find nothing beside it.

More cases: SLIMPATH_TEST_CASES=2000 python -m pytest tests/service/test_openapi.py, or the scripts in benchmarks/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

import slimpath
from slimpath.service.v1.formats import ALL_FORMATS
from slimpath.service.v1.schemas import OutputFormat
from slimpath.tests.service.running import encoded, on_socket, settings_for

BENCHMARKS = Path(slimpath.__file__).resolve().parent / "benchmarks"
CASES = int(os.environ.get("SLIMPATH_TEST_CASES", "100"))


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_path_is_described(document: dict[str, Any]):
    assert {"/v1/infer", "/v1/models", "/v1/plan", "/metrics", "/v2", "/v2/health/ready"} <= set(document["paths"])
    for path, method, operation in operations(document):
        assert operation.get("summary"), (path, method)


def test_every_error_is_described_in_the_form_of_its_api(document: dict[str, Any]):
    for path, method, operation in operations(document):
        missing = {"400", "401", "413", "431", "500", "503", "504"} - set(operation["responses"])
        assert not missing, (path, method, missing)
    statuses = set(document["paths"]["/v1/infer"]["post"]["responses"])
    assert statuses == {
        "200", "400", "401", "404", "408", "413", "415", "422", "429", "431", "500", "503", "504",
    }  # fmt: skip
    for status, response in document["paths"]["/v1/infer"]["post"]["responses"].items():
        if status != "200":
            assert response["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(document))
    assert found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_the_example_of_infer_is_a_request_that_is_answered(client: httpx.Client, document: dict[str, Any]):
    content = document["paths"]["/v1/infer"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        answer = client.post("/v1/infer", json=example["value"])
        assert answer.status_code == 200, answer.text


def test_the_example_of_a_form_is_a_request_that_is_answered(client: httpx.Client, document: dict[str, Any]):
    content = document["paths"]["/v1/infer"]["post"]["requestBody"]["content"]
    assert all("example" in media or "examples" in media for media in content.values())
    form = dict(content["multipart/form-data"]["example"])
    assert form.pop("file")
    answer = client.post("/v1/infer", files={"file": ("photo.jpg", encoded())}, data=form)
    assert answer.status_code == 200, answer.text


def json_answers(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(path, method) -> what is said of its answer in JSON."""
    found = {}
    for path, method, operation in operations(document):
        content = operation["responses"].get("200", {}).get("content", {})
        if "application/json" in content:
            found[path, method] = content["application/json"]
    return found


def faults(document: dict[str, Any], media: dict[str, Any], value: Any) -> list[str]:
    """Where a value is not what the schema of its media type says."""
    schema = {**media["schema"], "components": document["components"]}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)]


def test_every_answer_has_an_example_that_its_schema_allows(document: dict[str, Any]):
    described = json_answers(document)
    assert len(described) > 12
    for operation, media in described.items():
        assert "example" in media, operation
        assert faults(document, media, media["example"]) == [], operation
        assert faults(document, media, {}), (operation, "its schema allows anything")


def test_what_is_answered_is_what_the_schemas_say(client: httpx.Client, document: dict[str, Any]):
    described = json_answers(document)
    (model,) = client.get("/v1/models").json()["models"]
    v2 = document["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    bodies = {"/v1/infer": {"files": {"file": ("photo.jpg", encoded())}}, "/v2/repository/index": {"json": {}}}
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        bodies[path] = {"json": {**v2, "parameters": {"width": 0.5}}}  # a busy machine is late
    asked = sorted(
        described, key=lambda operation: "stats" in operation[0]
    )  # these last: then there is something to count
    for path, method in asked:
        url = path.replace("{model}", model["name"]).replace("{version}", "1")
        answer = client.request(method, url, **bodies.get(path, {}))
        assert answer.status_code == 200, (path, answer.text)
        assert faults(document, described[path, method], answer.json()) == [], path
    plan = client.get("/v1/plan", params={"curve": "true", "budget": "0.5"}).json()
    assert plan["curve"] and faults(document, described["/v1/plan", "get"], plan) == []


def test_every_option_is_described(document: dict[str, Any]):
    operation = document["paths"]["/v1/infer"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} >= {"tasks", "budget", "deadline_ms", "format"}
    assert all(parameter.get("description") for parameter in operation["parameters"])
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", *(parameter["name"] for parameter in operation["parameters"])}


def test_formats_are_the_same_everywhere():
    assert set(OutputFormat.__args__) == set(ALL_FORMATS)


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    with on_socket(settings_for(bundle, limits={"max_body_mib": 1.0})) as running:
        yield running


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *arguments, "--cases", str(CASES)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)


@pytest.mark.slow
def test_schemathesis_finds_no_5xx_and_no_undocumented_status(port: int):
    done = script("service_schemathesis.py", "--url", f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_damaged_requests_leave_the_server_ready(port: int):
    done = script("service_fuzz.py", "--url", f"http://127.0.0.1:{port}", "--seed", "7")
    report = json.loads(done.stdout)
    assert report["bad"] == [] and report["ready_afterwards"]
    assert len(report["answers"]) > 5
