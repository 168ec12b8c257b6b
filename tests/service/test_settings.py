"""Settings: a file, the environment, flags; each later one wins, and what came out says where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slimpath.service.errors import SettingsError
from slimpath.service.settings import Settings, setting_fields
from slimpath.service.settings_show import HIDDEN, settings_document, settings_table, settings_text
from slimpath.service.settings_sources import DEFAULT, load_settings


def load(tmp_path: Path, text: str, name: str = "slimpath.toml", **more: Any) -> Any:
    (tmp_path / name).write_text(text)
    return load_settings(environment=more.pop("environment", {}), file=tmp_path / name, **more)


def test_without_sources_all_is_default():
    loaded = load_settings(environment={})
    assert loaded.settings == Settings() and set(loaded.origins.values()) == {DEFAULT}


def test_later_sources_win_and_say_so(tmp_path: Path):
    text = "[server]\nport = 1\nhost = '127.0.0.2'\n[limits]\nmax_tasks = 3\n"
    loaded = load(
        tmp_path, text, environment={"SLIMPATH_PORT": "2", "SLIMPATH_MAX_TASKS": "4"}, flags={"server.port": "3"}
    )
    settings, origins = loaded.settings, loaded.origins
    assert (settings.server.port, settings.limits.max_tasks, settings.server.host) == (3, 4, "127.0.0.2")
    assert (origins["server.port"], origins["limits.max_tasks"]) == ("--port", "SLIMPATH_MAX_TASKS")
    assert origins["server.host"].endswith("slimpath.toml") and origins["server.drain_s"] == DEFAULT


def test_json_and_toml_say_the_same(tmp_path: Path):
    toml = load(tmp_path, 'bundles = ["a"]\n[limits]\nimage_formats = ["png"]\nmax_body_mib = 2\n').settings
    document = {"bundles": ["a"], "limits": {"image_formats": ["png"], "max_body_mib": 2}}
    assert load(tmp_path, json.dumps(document), "s.json").settings == toml
    assert toml.bundles == ("a",) and toml.limits.image_formats == ("png",) and toml.limits.max_body_mib == 2.0


def test_the_environment_may_name_the_file_and_the_bundles(tmp_path: Path):
    (tmp_path / "s.toml").write_text("[server]\nport = 9\n")
    environment = {"SLIMPATH_CONFIG": str(tmp_path / "s.toml"), "SLIMPATH_BUNDLES": "a=x, b=y"}
    settings = load_settings(environment=environment).settings
    assert settings.server.port == 9 and settings.bundles == ("a=x", "b=y")


def test_a_port_that_kubernetes_sets_is_not_ours():
    settings = load_settings(environment={"SLIMPATH_PORT": "tcp://10.0.0.7:8000"}).settings
    assert settings.server.port == Settings().server.port


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("Off", False), ("no", False)])
def test_truth_in_the_environment(text: str, value: bool):
    assert load_settings(environment={"SLIMPATH_DEGRADE": text}).settings.scheduler.degrade is value


def test_an_empty_text_is_no_value():
    assert load_settings(environment={"SLIMPATH_RUNNERS": ""}).settings.scheduler.runners is None


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"SLIMPATH_PORT": "http"}, "a whole number"),
        ({"SLIMPATH_PORT": "70000"}, "between 0 and 65535"),
        ({"SLIMPATH_MAX_BODY_MIB": "nan"}, "between"),
        ({"SLIMPATH_INSECURE": "maybe"}, "true or false"),
        ({"SLIMPATH_LOG_FORMAT": "xml"}, "one of text, json"),
        ({"SLIMPATH_API_KEYS": "me:short"}, "at least 16"),
    ],
)
def test_bad_values_are_refused_with_their_origin(environment: dict[str, str], reason: str):
    with pytest.raises(SettingsError, match=reason) as caught:
        load_settings(environment=environment)
    assert next(iter(environment)) in str(caught.value) or "auth.api_keys" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[limits]\nmax_bdy_mib = 1\n", "did you mean limits.max_body_mib"),
        ("[limit]\nmax_body_mib = 1\n", "there is no setting limit"),
        ("[server]\nport = '80'\n", "a whole number"),
        ("[server]\nport = true\n", "true or false|a text|a whole number"),
        ("[server]\nhost = 5\n", "a text"),
        ("[server]\nport = 1.5\n", "a whole number"),
        ("[limits]\nimage_formats = 'png'\n", "a list of texts"),
        ("not toml at all", "not TOML"),
    ],
)
def test_bad_files_are_refused_with_a_way_on(tmp_path: Path, text: str, reason: str):
    with pytest.raises(SettingsError, match=reason):
        load(tmp_path, text)


def test_names_are_unique_and_every_field_has_help():
    fields = setting_fields()
    assert len({item.word for item in fields}) == len(fields)
    assert all(item.help.endswith(".") for item in fields)
    assert {item.type for item in fields} <= {
        "str",
        "int",
        "float",
        "bool",
        "tuple[str, ...]",
        "int | None",
        "float | None",
    }


def test_what_is_printed_can_be_used_again(tmp_path: Path):
    before = load_settings(
        {"limits.max_tasks": "3", "server.cors_origins": "https://a,https://b"}, bundles=("a=b",), environment={}
    )
    after = load(tmp_path, settings_text(before))
    assert after.settings == before.settings


def test_secrets_are_never_printed():
    loaded = load_settings(environment={"SLIMPATH_API_KEYS": "me:0123456789abcdefgh"})
    for text in (settings_text(loaded), json.dumps(settings_document(loaded))):
        assert "0123456789" not in text and HIDDEN in text
    assert settings_document(loaded)["auth.api_keys"]["from"] == "SLIMPATH_API_KEYS"


def test_secrets_are_no_flags():
    secrets = [item for item in setting_fields() if item.secret]
    assert {item.name for item in secrets} >= {"api_keys", "metrics_keys", "admin_keys"}
    assert all(f"`{item.flag}`" not in settings_table() for item in secrets)
