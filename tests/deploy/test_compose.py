"""compose.yaml: keys that the Compose specification has, files that exist, nothing reachable from other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import slimpath
from slimpath.tests.deploy.dockerfile import read_stages

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which the development extra brings")
ROOT = Path(slimpath.__file__).resolve().parent

# Names and types of the keys in use, as in schema/compose-spec.json (compose-spec/compose-spec, November 2026). The
# whole file was validated against that schema when it was written; this keeps misspelt keys out since.
TOP = {"name": str, "services": dict, "volumes": dict}
SERVICE = {
    "build": dict, "image": str, "command": list, "ports": list, "volumes": list, "tmpfs": list, "read_only": bool,
    "cap_drop": list, "security_opt": list, "pids_limit": int, "mem_limit": str, "init": bool, "restart": str,
    "stop_grace_period": str, "depends_on": (dict, list), "environment": dict,
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / "compose" / name).read_text(encoding="utf-8"))


def test_only_keys_of_the_specification_are_used(compose: dict[str, Any]):
    for key, value in compose.items():
        assert isinstance(value, TOP[key]), key
    for name, service in compose["services"].items():
        for key, value in service.items():
            assert isinstance(value, SERVICE[key]), f"{name}.{key}"


def test_what_is_built_is_a_target_of_the_dockerfile(compose: dict[str, Any]):
    build = compose["services"]["slimpath"]["build"]
    assert build["target"] in read_stages(ROOT / "Dockerfile") and build["context"] == "."


def test_ports_are_published_on_this_machine_alone(compose: dict[str, Any]):
    """The server is started with --insecure: that is right only as long as this holds."""
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)
    assert "--insecure" in compose["services"]["slimpath"]["command"]


@pytest.mark.parametrize("name", ["slimpath", "prometheus", "grafana"])
def test_services_have_no_rights(compose: dict[str, Any], name: str):
    service = compose["services"][name]
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]


def test_server_has_a_read_only_root_and_writes_to_its_cache_and_tmp(compose: dict[str, Any]):
    service = compose["services"]["slimpath"]
    assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]
    assert service["volumes"] == ["cache:/var/cache/slimpath"]


def test_everything_that_is_mounted_exists(compose: dict[str, Any]):
    for service in compose["services"].values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"], mount
            assert not source.startswith(".") or mount.endswith(":ro"), mount


def test_prometheus_asks_the_server_by_its_name_and_port(compose: dict[str, Any]):
    (job,) = loaded("prometheus.yml")["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in compose["services"] and compose["services"][host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert job["metrics_path"] == "/metrics"


def test_grafana_finds_prometheus_and_the_dashboards(compose: dict[str, Any]):
    (source,) = loaded("grafana/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and source["isDefault"] is True
    (provider,) = loaded("grafana/dashboards/slimpath.yaml")["providers"]
    mounted = dict(mount.split(":")[:2][::-1] for mount in compose["services"]["grafana"]["volumes"])
    assert list((ROOT / mounted[provider["options"]["path"]]).glob("*.json"))
    assert mounted["/etc/grafana/provisioning"] == "./deploy/compose/grafana"


def test_server_is_given_longer_to_stop_than_it_takes_to_drain(compose: dict[str, Any]):
    from slimpath.service.settings import ServerSettings

    assert float(compose["services"]["slimpath"]["stop_grace_period"].removesuffix("s")) > ServerSettings().drain_s
