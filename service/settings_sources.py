"""Where settings come from: defaults, a file (TOML or JSON), the environment, flags; whatever comes later wins."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import SettingsError
from .settings import SECTIONS, SettingField, Settings, setting_fields
from .settings_check import check_settings

DEFAULT = "default"
MAX_FILE_BYTES = 1 << 20
CONFIG_VARIABLE = "SLIMPATH_CONFIG"
BUNDLES_VARIABLE = "SLIMPATH_BUNDLES"


@dataclass(frozen=True)
class LoadedSettings:
    """The merged settings.

    Args:
        origins: key, such as "limits.max_body_mib", -> "default", "--max-body-mib", "SLIMPATH_MAX_BODY_MIB" or the
            file's name.
    """

    settings: Settings
    origins: dict[str, str] = field(default_factory=dict)


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    bundles: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    file: str | os.PathLike[str] | None = None,
) -> LoadedSettings:
    """Merge all sources and check the result.

    Args:
        flags: key -> text (or bool), of those that were given.
        environment: os.environ unless given.
        file: a settings file; without one SLIMPATH_CONFIG may name it.

    Raises:
        SettingsError: a source names an unknown setting, a value is out of bounds, or settings contradict each other.
        OSError: the file cannot be read.
    """
    environment = os.environ if environment is None else environment
    path = file or environment.get(CONFIG_VARIABLE)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for take in (
        lambda: _from_file(Path(path)) if path else {},
        lambda: _from_environment(environment),
        lambda: _from_flags(flags or {}, tuple(bundles)),
    ):
        for key, (value, origin) in take().items():
            values[key], origins[key] = value, origin
    settings = _build(values)
    check_settings(settings)
    keys = ["bundles", *(item.key for item in setting_fields())]
    return LoadedSettings(settings, {key: origins.get(key, DEFAULT) for key in keys})


_Found = dict[str, tuple[Any, str]]


def _from_flags(flags: Mapping[str, Any], bundles: tuple[str, ...]) -> _Found:
    found: _Found = {}
    for item in setting_fields():
        given = flags.get(item.key)
        if given is not None:
            found[item.key] = (given if isinstance(given, bool) else _from_text(item, str(given), item.flag)), item.flag
    if bundles:
        found["bundles"] = bundles, "arguments"
    return found


def _from_environment(environment: Mapping[str, str]) -> _Found:
    found: _Found = {}
    for item in setting_fields():
        text = environment.get(item.variable)
        if text is None or (item.key == "server.port" and text.startswith(("tcp://", "udp://"))):
            continue  # Kubernetes sets SLIMPATH_PORT=tcp://... in every pod beside a Service named slimpath
        found[item.key] = _from_text(item, text, item.variable), item.variable
    if environment.get(BUNDLES_VARIABLE):
        found["bundles"] = _list(environment[BUNDLES_VARIABLE]), BUNDLES_VARIABLE
    return found


def _from_file(path: Path) -> _Found:
    document = _read_file(path)
    by_key = {item.key: item for item in setting_fields()}
    found: _Found = {}
    for section, entries in document.items():
        if section == "bundles":
            found["bundles"] = _texts(entries, "bundles", str(path)), str(path)
            continue
        if section not in SECTIONS or not isinstance(entries, dict):
            raise _unknown(section, [*SECTIONS, "bundles"], path)
        for name, value in entries.items():
            item = by_key.get(f"{section}.{name}")
            if item is None:
                raise _unknown(f"{section}.{name}", list(by_key), path)
            found[item.key] = _from_native(item, value, str(path)), str(path)
    return found


def _read_file(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SettingsError(f"{path}: a settings file has at most {MAX_FILE_BYTES} bytes")
    data = path.read_bytes()
    try:
        document = json.loads(data) if path.suffix == ".json" else _toml()(data.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and JSONDecodeError are ValueErrors
        raise SettingsError(f"{path}: this is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: expected tables of settings, got {type(document).__name__}")
    return document


def _toml() -> Callable[[str], dict[str, Any]]:
    try:
        from tomllib import loads  # Python 3.11
    except ModuleNotFoundError:
        try:
            from tomli import loads  # pyright: ignore[reportMissingImports]  # what tomllib was before
        except ModuleNotFoundError:
            raise SettingsError(
                "a TOML file needs tomli on Python 3.10", hint='pip install "slimpath[service]", or write JSON'
            ) from None
    return loads


def _unknown(key: str, known: list[str], path: Path) -> SettingsError:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "`slimpath serve --print-config` shows all"
    return SettingsError(f"{path}: there is no setting {key}", hint=hint)


# --- values -------------------------------------------------------------------------------------------------------

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _from_text(item: SettingField, text: str, origin: str) -> Any:
    text = text.strip()
    kind = item.type
    if kind.startswith("tuple"):
        return _list(text)
    if kind == "str":
        return _checked(item, text, origin)
    if kind == "bool":
        if text.lower() not in (*_TRUE, *_FALSE):
            raise SettingsError(f"{origin} must be true or false, got {text!r}")
        return text.lower() in _TRUE
    if not text and kind.endswith("None"):
        return None
    try:
        return _checked(item, int(text) if kind.startswith("int") else float(text), origin)
    except ValueError:
        raise _not_a_number(item, text, origin) from None


def _from_native(item: SettingField, value: Any, origin: str) -> Any:
    """A value of a file, which has types of its own."""
    origin = f"{origin}: {item.key}"
    kind = item.type
    if kind.startswith("tuple"):
        return _texts(value, item.key, origin)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return _checked(item, value, origin)
    if isinstance(value, bool) or kind in ("bool", "str"):
        raise SettingsError(f"{origin} must be {'true or false' if kind == 'bool' else 'a text'}, got {value!r}")
    if isinstance(value, int) or (isinstance(value, float) and kind.startswith("float")):
        return _checked(item, value if kind.startswith("int") else float(value), origin)
    raise _not_a_number(item, value, origin)


def _not_a_number(item: SettingField, value: object, origin: str) -> SettingsError:
    number = "a whole number" if item.type.startswith("int") else "a number"
    return SettingsError(f"{origin} must be {number}, got {value!r}", hint=item.help)


def _checked(item: SettingField, value: Any, origin: str) -> Any:
    if item.choices and value not in item.choices:
        raise SettingsError(f"{origin} must be one of {', '.join(item.choices)}, got {value!r}")
    if isinstance(value, (int, float)):
        low = -math.inf if item.low is None else item.low
        high = math.inf if item.high is None else item.high
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
            raise SettingsError(f"{origin} must be {bounds}, got {value:g}", hint=item.help)
    return value


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _texts(value: Any, key: str, origin: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise SettingsError(f"{origin}: {key} must be a list of texts, got {value!r}")
    return tuple(value)


def _build(values: Mapping[str, Any]) -> Settings:
    settings = Settings(bundles=tuple(values.get("bundles", ())))
    for section in SECTIONS:
        changed = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{section}.")}
        settings = replace(settings, **{section: replace(getattr(settings, section), **changed)})
    return settings
