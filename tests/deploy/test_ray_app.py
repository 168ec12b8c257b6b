"""deploy/ray without Ray: its arguments and settings, and the application that a replica runs."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest

import slimpath
from slimpath.service.settings_sources import load_settings
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.service.running import encoded

FOLDER = Path(slimpath.__file__).parent / "deploy" / "ray"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slimpath_ray_test", FOLDER / "slimpath_ray.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


class Recorder:
    """Stands in for ray.serve: keeps what it is called with, and applies decorators as Ray does."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.application: Callable[[], Any] | None = None

    def ingress(self, application: Callable[[], Any]) -> Callable[[type], type]:
        self.application = application
        return lambda cls: cls

    def deployment(self, **options: Any) -> Callable[[type], Any]:
        self.options = options
        return lambda cls: SimpleNamespace(bind=lambda: cls)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=recorder))
    monkeypatch.setitem(sys.modules, "ray.serve", recorder)
    return recorder


async def asking(app: Any, ask: Callable[[httpx.AsyncClient], Any]) -> Any:
    """Within the application's lifespan, as a replica runs it."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
            return await ask(client)


def test_arguments_of_a_command_line_are_texts(script: ModuleType):
    options = script.read_options({"bundles": "a=x,b=y", "max_replicas": "3", "target_ongoing": "1.5"})
    assert options.bundles == ("a=x", "b=y") and options.max_replicas == 3 and options.target_ongoing == 1.5
    assert script.read_options({}).bundles == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"replicas": 2}, "no argument replicas"),
        ({"cpus": "many"}, "cpus must be a number"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas <= max_replicas"),
        ({"target_ongoing": 0}, "must be positive"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(script: ModuleType, arguments: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        script.read_options(arguments)


def test_a_replica_has_as_many_threads_as_it_reserves(script: ModuleType):
    settings = script.read_settings(script.read_options({"cpus": 3, "settings": {"limits.image_formats": ["png"]}}))
    assert settings.engine.threads == 3 and settings.scheduler.runners == 1
    assert settings.limits.image_formats == ("png",)


@pytest.mark.parametrize("name", ["auth.admin", "server.port", "server.tls_cert", "limits.there_is_none"])
def test_settings_of_a_whole_server_and_unknown_ones_are_refused(script: ModuleType, name: str):
    with pytest.raises(ValueError, match=name):
        script.read_settings(script.read_options({"settings": {name: "1"}}))


def test_loading_over_http_cannot_be_allowed_by_the_environment_either(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLIMPATH_ADMIN", "true")
    with pytest.raises(ValueError, match="SLIMPATH_ADMIN"):
        script.read_settings(script.read_options({}))


def test_beyond_this_machine_it_wants_keys_as_the_server_does(script: ModuleType):
    with pytest.raises(slimpath.runtime.SlimpathError, match="without a key"):
        script.read_settings(script.read_options({"settings": {"server.host": "0.0.0.0"}}))


def test_the_application_is_started_once_its_models_are_warm_and_answers(script: ModuleType, bundle: Path):
    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        ready = await client.get("/v2/health/ready")  # the very first request
        headers = {"Content-Type": "image/jpeg"}
        return ready, await client.post("/v1/infer?format=npy&response=zip", content=encoded(), headers=headers)

    settings = script.read_settings(script.read_options({"bundles": [str(bundle)]}))
    ready, answer = asyncio.run(asking(script.make_replica_app(settings), ask))
    assert ready.status_code == 200 and answer.status_code == 200, answer.text
    assert answer.content.startswith(b"PK")


def test_a_damaged_bundle_fails_the_start(script: ModuleType, bundle: Path, tmp_path: Path):
    broken = shutil.copytree(bundle, tmp_path / "broken")
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + bytes(100))
    settings = script.read_settings(script.read_options({"bundles": [str(broken)]}))
    with pytest.raises(slimpath.runtime.SlimpathError, match="SHA-256"):
        script.make_replica_app(settings)


def test_what_fails_while_models_are_loaded_fails_the_start(script: ModuleType, bundle: Path):
    """Loading goes on beside the event loop: without waiting for it Ray would send requests to a replica of nothing."""
    settings = {"engine.backend": "there-is-none"}
    app = script.make_replica_app(
        script.read_settings(script.read_options({"bundles": [str(bundle)], "settings": settings}))
    )
    with pytest.raises(slimpath.runtime.SlimpathError, match="there-is-none"):
        asyncio.run(asking(app, lambda client: client.get("/")))


def test_a_replica_that_cannot_answer_fails_its_health_check(script: ModuleType):
    replica, ready = script.Replica(), True
    replica.app = SimpleNamespace(state=SimpleNamespace(registry=SimpleNamespace(ready=lambda: ready)))
    replica.check_health()
    ready = False
    with pytest.raises(RuntimeError, match="cannot answer"):
        replica.check_health()


def test_ray_is_told_to_scale_by_the_queue_between_the_bounds(script: ModuleType, ray: Recorder, bundle: Path):
    script.build({"bundles": [str(bundle)], "min_replicas": 2, "max_replicas": 5, "target_ongoing": 3, "cpus": 2})
    scaling = ray.options["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (2, 5, 3)
    assert ray.options["ray_actor_options"] == {"num_cpus": 2}
    assert ray.options["graceful_shutdown_timeout_s"] == load_settings({}).settings.server.drain_s
    assert ray.application is not None and type(ray.application()).__name__ == "FastAPI"


def test_the_configuration_file_is_one_that_build_takes(script: ModuleType, ray: Recorder):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which the development extra brings")
    document = yaml.safe_load((FOLDER / "serve.yaml").read_text(encoding="utf-8"))
    (application,) = document["applications"]
    module, _, function = application["import_path"].partition(":")
    assert (FOLDER / f"{module}.py").is_file()
    getattr(script, function)(application["args"])
    settings = script.read_settings(script.read_options(application["args"]))
    assert settings.server.host == document["http_options"]["host"] == "127.0.0.1"
    assert document["http_options"]["request_timeout_s"] >= settings.limits.request_timeout_s
