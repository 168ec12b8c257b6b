"""Where the server listens, to which names it answers, and what it tells browsers."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from slimpath.service.errors import SettingsError
from slimpath.service.headers import allowed_hosts
from slimpath.service.settings import ServerSettings, Settings
from slimpath.service.settings_check import check_settings, is_loopback
from slimpath.tests.service.running import encoded, on_socket, serving, settings_for

KEY = ("me:0123456789abcdef",)


def test_it_listens_on_this_machine_alone_by_default():
    assert ServerSettings().host == "127.0.0.1" and is_loopback(ServerSettings().host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "10.0.0.1"])
def test_beyond_this_machine_it_wants_keys_or_the_word_insecure(host: str):
    with pytest.raises(SettingsError, match="without a key") as caught:
        check_settings(settings_for(None, server={"host": host}))
    assert "--insecure" in str(caught.value)
    check_settings(settings_for(None, server={"host": host, "insecure": True}))
    check_settings(settings_for(None, server={"host": host}, auth={"api_keys": KEY}))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_key(host: str):
    check_settings(settings_for(None, server={"host": host}))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_a_server_on_this_machine_answers_to_its_own_names_only(client: httpx.Client, host: str):
    """DNS rebinding: a web page whose name resolves to 127.0.0.1."""
    answer = client.get("/v1/models", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "[::1]:8000", "127.0.0.1:1"])
def test_its_own_names_may_have_any_port(client: httpx.Client, host: str):
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200


def test_other_names_are_allowed_by_name_or_all_together():
    assert allowed_hosts(ServerSettings(allowed_hosts=("Api.Example",))) == {"api.example"}
    assert allowed_hosts(ServerSettings(allowed_hosts=("*",))) is None
    assert allowed_hosts(ServerSettings(host="0.0.0.0")) is None


@pytest.mark.parametrize("path", ["/v1/models", "/v2/health/live", "/metrics", "/nothing"])
def test_every_answer_has_the_security_headers(client: httpx.Client, path: str):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer" and "server" not in headers


def test_browsers_of_other_origins_are_not_let_in(client: httpx.Client):
    origin = {"Origin": "https://evil.example"}
    assert "access-control-allow-origin" not in client.get("/v1/models", headers=origin).headers
    preflight = client.options("/v1/infer", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in preflight.headers


def test_origins_that_were_named_are_let_in(bundle: Path):
    with serving(settings_for(bundle, server={"cors_origins": ("https://app.example",)})) as running:
        good = running.get("/v1/models", headers={"Origin": "https://app.example"})
        bad = running.get("/v1/models", headers={"Origin": "https://evil.example"})
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = running.options("/v1/infer", headers=asked)
    assert good.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in bad.headers
    assert "Inference-Header-Content-Length" in good.headers["access-control-expose-headers"]
    assert "inference-header-content-length" in preflight.headers["access-control-allow-headers"].lower()
    assert preflight.status_code == 200 and "POST" in preflight.headers["access-control-allow-methods"]


def test_tls_needs_both_files(tmp_path: Path):
    (tmp_path / "a.pem").write_text("x")
    with pytest.raises(SettingsError, match="tls_key is missing"):
        check_settings(settings_for(None, server={"tls_cert": str(tmp_path / "a.pem")}))
    with pytest.raises(SettingsError, match="there is no file"):
        check_settings(settings_for(None, server={"tls_cert": str(tmp_path / "b"), "tls_key": str(tmp_path / "b")}))


def test_with_a_certificate_it_speaks_https_alone(bundle: Path, certificate: tuple[Path, Path]):
    cert, key = certificate
    settings = settings_for(bundle, server={"tls_cert": str(cert), "tls_key": str(key)})
    with on_socket(settings) as port:
        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted, timeout=60) as running:
            options = {"tasks": "depth"}
            answer = running.post(
                "/v1/infer", content=encoded(), headers={"content-type": "image/jpeg"}, params=options
            )
            assert answer.status_code == 200 and "strict-transport-security" in answer.headers
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/v2/health/live", timeout=10)


def test_settings_of_a_server_are_checked_before_it_listens():
    with pytest.raises(SettingsError, match="max_in_flight_mib"):
        check_settings(settings_for(None, limits={"max_in_flight_mib": 1.0}))
    with pytest.raises(SettingsError, match="exe"):
        check_settings(settings_for(None, limits={"image_formats": ("jpeg", "exe")}))
    check_settings(Settings())
