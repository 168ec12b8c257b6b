"""Who may call: nobody without a key once there are keys, and metrics and administration have keys of their own."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slimpath.service.app import PAGE
from slimpath.service.auth_keys import KeyRing, read_keys
from slimpath.service.errors import SettingsError
from slimpath.service.settings import AuthSettings
from slimpath.tests.service.running import serving, settings_for

API, METRICS, ADMIN = "api-key-0123456789", "metrics-key-012345", "admin-key-01234567"


@pytest.fixture(scope="module")
def guarded(bundle: Path) -> Iterator[httpx.Client]:
    """A server with a key of each kind."""
    keys = {"api_keys": (f"app:{API}",), "metrics_keys": (f"prom:{METRICS}",), "admin_keys": (f"ops:{ADMIN}",)}
    with serving(settings_for(bundle, auth={**keys, "admin": True})) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/plan", "/v2", "/v2/models/tiny", "/metrics", "/openapi.json", "/nothing", "/app.py"]
)
def test_every_path_but_the_probes_is_closed_without_a_key(guarded: httpx.Client, path: str):
    answer = guarded.get(path)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


def test_the_probes_are_open(guarded: httpx.Client):
    assert guarded.get("/v2/health/live").status_code == guarded.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize(
    "path", ["//v2/health/live", "/v2/health/live/", "/v2/health/live/..", "/v2/health/live;x", "/v2/health/live%2F"]
)
def test_what_only_looks_like_a_probe_is_closed(guarded: httpx.Client, path: str):
    assert guarded.get(path).status_code == 401


@pytest.mark.skipif(not (PAGE / "index.html").is_file(), reason="the page is not installed")
def test_the_files_of_the_page_are_open_and_nothing_beside_them(guarded: httpx.Client):
    assert guarded.get("/").text.startswith("<!doctype html>")
    for path in PAGE.iterdir():
        assert guarded.get(f"/{path.name}").status_code == 200
    for path in ("/..%2fapp.py", "/%2e%2e/app.py", "/static/", "/index.html/"):
        assert guarded.get(path).status_code == 401


def test_a_host_header_does_not_open_a_path(guarded: httpx.Client):
    """CVE-2026-48710: a URL rebuilt from this header looks like the probe's."""
    for host in ("127.0.0.1/v2/health/live?", "127.0.0.1:1/v2/health/live#", "x@127.0.0.1/v2/health/live"):
        assert guarded.get("/v1/models", headers={"Host": host}).status_code in (400, 401)


def test_both_headers_carry_a_key(guarded: httpx.Client):
    assert guarded.get("/v1/models", headers=bearer(API)).status_code == 200
    assert guarded.get("/v1/models", headers={"X-API-Key": API}).status_code == 200


@pytest.mark.parametrize("key", ["", API[:-1], API + "x", API.upper(), METRICS, ADMIN])
def test_other_keys_do_not_open_the_api(guarded: httpx.Client, key: str):
    assert guarded.get("/v1/models", headers={"X-API-Key": key}).status_code == 401


def test_metrics_have_a_key_of_their_own(guarded: httpx.Client):
    assert guarded.get("/metrics", headers=bearer(API)).status_code == 401
    assert guarded.get("/metrics", headers=bearer(METRICS)).status_code == 200


def test_administration_has_a_key_of_its_own(guarded: httpx.Client):
    path = "/v2/repository/models/tiny/load"
    assert guarded.post(path, headers=bearer(API)).status_code == 401
    assert guarded.post(path, headers=bearer(ADMIN)).status_code == 200


def test_administration_is_off_unless_asked_for(client: httpx.Client):
    for verb in ("load", "unload"):
        answer = client.post(f"/v2/repository/models/tiny/{verb}")
        assert answer.status_code == 403 and isinstance(answer.json()["error"], str)
    assert client.get("/v2/health/ready").status_code == 200


def test_public_metrics_need_no_key(bundle: Path):
    with serving(settings_for(bundle, auth={"api_keys": (f"app:{API}",), "public_metrics": True})) as running:
        assert running.get("/metrics").status_code == 200
        assert running.get("/v1/models").status_code == 401


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch: pytest.MonkeyPatch):
    compared: list[bytes] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr(hmac, "compare_digest", compare)
    digests = tuple((name, hashlib.sha256(name.encode()).digest()) for name in ("a", "b", "c"))
    ring = KeyRing(digests)
    assert ring.find("a") == "a" and ring.find("c") == "c" and ring.find("x") is None
    assert len(compared) == 9


def test_keys_come_from_a_file_with_comments_and_hashes(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"# people\nme:{API}\n\nyou:sha256:{hashlib.sha256(METRICS.encode()).hexdigest()}\n")
    keys = read_keys(AuthSettings(api_keys_file=str(path))).api
    assert (keys.find(API), keys.find(METRICS), keys.find("other")) == ("me", "you", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no-colon-in-this-one", "NAME:KEY"),
        ("me:short", "at least 16"),
        ("me:has a blank inside it", "printable"),
        ("m e:" + API, "NAME:KEY"),
    ],
)
def test_a_bad_key_is_refused_without_showing_it(text: str, reason: str):
    with pytest.raises(SettingsError, match=reason) as caught:
        read_keys(AuthSettings(api_keys=(text,)))
    assert text.partition(":")[2] == "" or text.partition(":")[2] not in str(caught.value)


def test_two_keys_of_one_name_and_an_empty_file_are_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="twice"):
        read_keys(AuthSettings(api_keys=(f"me:{API}", f"me:{METRICS}")))
    (tmp_path / "empty").write_text("# nobody yet\n")
    with pytest.raises(SettingsError, match="no keys"):
        read_keys(AuthSettings(api_keys_file=str(tmp_path / "empty")))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_keys(AuthSettings(api_keys_file=str(tmp_path / "nowhere")))
