"""deploy/kubernetes: manifests of the schema, and in step with the server's flags, ports, paths, names and figures."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import slimpath
from slimpath.service.auth import PROBES
from slimpath.service.metrics_collectors import ModelCollector
from slimpath.service.server import make_app
from slimpath.service.settings import Settings, setting_fields
from slimpath.service.settings_sources import LoadedSettings, load_settings
from slimpath.service.sources import name_and_folder
from slimpath.tests.deploy.dockerfile import read_stages

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which the development extra brings")
ROOT = Path(slimpath.__file__).resolve().parent
FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "prometheus-adapter.yaml")
OF_KUBERNETES = [name for name in MANIFESTS if name not in ("kustomization.yaml", "kserve.yaml")]
KEY = {"SLIMPATH_API_KEYS": "somebody:0123456789abcdef", "SLIMPATH_METRICS_KEYS": "prometheus:fedcba9876543210"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def one(name: str, kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents(name) if document["kind"] == kind]
    return found


def containers() -> dict[str, dict[str, Any]]:
    """The server's container as the Deployment and as KServe's runtime have it."""
    (deployed,) = one("deployment.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    (runtime,) = one("kserve.yaml", "ServingRuntime")["spec"]["containers"]
    return {"deployment": deployed, "kserve": runtime}


def settings_of(container: dict[str, Any]) -> tuple[LoadedSettings, list[str]]:
    """What `slimpath serve` makes of a container's arguments and environment, and the bundles among them."""
    verb, *words = container["args"]
    assert verb == "serve"
    by_flag = {item.flag: item for item in setting_fields()}
    flags: dict[str, Any] = {}
    bundles: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            bundles.append(word)
            continue
        item = by_flag[word]  # KeyError: the server has no such flag
        flags[item.key] = True if item.type == "bool" else words.pop(0)
    environment = {entry["name"]: entry.get("value", KEY.get(entry["name"])) for entry in container["env"]}
    return load_settings(flags, bundles=bundles, environment=environment), bundles


@pytest.mark.parametrize("name", OF_KUBERNETES)
def test_it_is_what_the_schema_of_kubernetes_says(name: str):
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (development extra)")
    for document in documents(name):
        validate.validate(document, validate.latest_version(), strict=True)


def test_the_customization_names_files_that_exist_and_one_autoscaler():
    (document,) = documents("kustomization.yaml")
    assert all((FOLDER / name).is_file() for name in document["resources"])
    kinds = [each["kind"] for name in document["resources"] for each in documents(name)]
    assert kinds.count("HorizontalPodAutoscaler") == 1 and {"Deployment", "Service"} <= set(kinds)


@pytest.mark.parametrize("where", ["deployment", "kserve"])
def test_arguments_and_environment_are_settings_of_the_server(where: str):
    container = containers()[where]
    loaded, _ = settings_of(container)
    assert loaded.settings.server.host == "0.0.0.0" and not loaded.settings.server.insecure
    assert {entry["name"] for entry in container["env"]} <= {item.variable for item in setting_fields()} | {
        "SLIMPATH_CACHE"
    }


@pytest.mark.parametrize("where", ["deployment", "kserve"])
def test_without_the_secret_the_server_would_refuse_to_start(where: str):
    container = containers()[where]
    assert any("secretKeyRef" in entry.get("valueFrom", {}) for entry in container["env"])
    without = {**container, "env": [entry for entry in container["env"] if "value" in entry]}
    with pytest.raises(slimpath.runtime.SlimpathError, match="without a key"):
        settings_of(without)


@pytest.mark.parametrize("where", ["deployment", "kserve"])
def test_ports_and_probes_are_those_of_the_server_and_need_no_key(where: str):
    container = containers()[where]
    loaded, _ = settings_of(container)
    (port,) = container["ports"]
    assert port["containerPort"] == loaded.settings.server.port
    probes = {name: probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")}
    for probe in probes.values():
        assert probe["path"] in PROBES and probe["port"] in (port["containerPort"], port.get("name"))


@pytest.mark.parametrize("where", ["deployment", "kserve"])
def test_a_server_whose_backend_hangs_is_restarted_and_one_that_drains_or_starts_is_not(where: str):
    """The watchdog takes readiness away; liveness that asks for anything else would never see it."""
    container = containers()[where]
    server = settings_of(container)[0].settings
    probes = {name: probe for name, probe in container.items() if name.endswith("Probe")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} == {"/v2/health/ready"}
    alive = probes["livenessProbe"]
    patience_s = alive["periodSeconds"] * alive["failureThreshold"]
    assert patience_s > 5 * (server.server.drain_delay_s + server.server.drain_s)
    assert server.scheduler.watchdog_s < patience_s <= 600  # a call that is only slow comes back in that time
    start = probes.get("startupProbe")
    start_s = start["periodSeconds"] * start["failureThreshold"] if start else alive["initialDelaySeconds"] + patience_s
    assert start_s >= 600


def test_the_service_leads_to_the_pods():
    deployment, service = one("deployment.yaml", "Deployment"), one("service.yaml", "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        service["spec"]["selector"],
        deployment["spec"]["selector"]["matchLabels"],
        one("service.yaml", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == containers()["deployment"]["ports"][0]["name"]


def test_a_pod_has_time_to_answer_what_it_accepted():
    server = settings_of(containers()["deployment"])[0].settings.server
    grace_s = one("deployment.yaml", "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert server.drain_delay_s > 0 and grace_s > server.drain_delay_s + server.drain_s


@pytest.mark.parametrize("where", ["deployment", "kserve"])
def test_it_runs_the_image_of_the_dockerfile_without_rights(where: str):
    container = containers()[where]
    stage = read_stages(ROOT / "Dockerfile")["cpu"]
    assert container["image"] == "slimpath:cpu" and stage.command("ENTRYPOINT") == ["slimpath"]
    rights = container["securityContext"]
    assert rights["allowPrivilegeEscalation"] is False and rights["capabilities"] == {"drop": ["ALL"]}
    pod = one("deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert stage.last("USER") == user and pod["automountServiceAccountToken"] is False


def test_only_what_the_image_writes_to_is_writable():
    container = containers()["deployment"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/var/cache/slimpath", "/tmp"}


@pytest.mark.parametrize("name", ["autoscaler.yaml", "autoscaler-queue.yaml"])
def test_autoscalers_are_of_the_deployment(name: str):
    spec = one(name, "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "slimpath"}
    assert 1 <= spec["minReplicas"] < spec["maxReplicas"]
    assert "replicas" not in one("deployment.yaml", "Deployment")["spec"]


def test_what_is_scaled_by_is_a_figure_that_the_server_reports_and_the_adapter_passes_on():
    snapshot = SimpleNamespace(
        waiting=0, running=0, runners=1, busy=0, hung=0, pool_backlog=0, load=0.0
    )  # of a scheduler
    model = SimpleNamespace(name="m", ready=True, scheduler=SimpleNamespace(stats=lambda: snapshot))
    registry: Any = SimpleNamespace(ready=lambda: True, models=lambda: [model], counts=lambda: {"m": (1, 0)})
    reported = {metric.name for metric in ModelCollector(registry).collect()}
    scaled = [
        metric["pods"]["metric"]["name"]
        for metric in one("autoscaler-queue.yaml", "HorizontalPodAutoscaler")["spec"]["metrics"]
    ]
    (rules,) = documents("prometheus-adapter.yaml")
    (rule,) = rules["rules"]["custom"]
    pattern = re.search(r'__name__=~"([^"]+)"', rule["seriesQuery"])
    assert pattern is not None
    for name in scaled:
        assert name in reported and re.fullmatch(pattern[1], name) and re.fullmatch(rule["name"]["matches"], name)


def test_kserve_serves_a_bundle_by_the_name_of_its_service_over_protocol_v2():
    runtime, service = one("kserve.yaml", "ServingRuntime"), one("kserve.yaml", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert [model["protocolVersion"]] == runtime["spec"]["protocolVersions"] == ["v2"]
    _, (bundle,) = settings_of(containers()["kserve"])
    given = bundle.replace("{{.Name}}", service["metadata"]["name"])  # as KServe fills it in
    assert name_and_folder(given) == (service["metadata"]["name"], Path("/mnt/models"))
    assert containers()["kserve"]["name"] == "kserve-container"  # the one that KServe takes for the model's


def test_the_server_has_the_paths_that_kserve_calls():
    app, _ = make_app(Settings())
    paths = app.openapi()["paths"]
    assert {"/v2/health/live", "/v2/health/ready"} <= set(paths)
    assert any(re.fullmatch(r"/v2/models/\{\w+\}/infer", path) for path in paths)
