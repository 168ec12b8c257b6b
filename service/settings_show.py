"""Settings as people and programs read them: `--print-config`, the table of docs/service.md. Secrets stay hidden."""

from __future__ import annotations

import json
from typing import Any

from .settings import SECTIONS, SettingField, setting_fields
from .settings_sources import DEFAULT, LoadedSettings

HIDDEN = "(hidden)"


def settings_text(loaded: LoadedSettings) -> str:
    """TOML that may be saved and used, with where each value came from; what has no value is a comment."""
    origins = loaded.origins
    bundles = json.dumps(list(loaded.settings.bundles))
    lines = [f"bundles = {bundles}  # {origins.get('bundles', DEFAULT)}"]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        for item in setting_fields():
            if item.section == section:
                value = _value(loaded, item)
                text = f"{item.name} = {_toml(value)}  # {origins.get(item.key, DEFAULT)}"
                lines.append(text if value is not None and value != HIDDEN else f"# {text}")
    return "\n".join(lines)


def settings_document(loaded: LoadedSettings) -> dict[str, Any]:
    """Key -> value and origin, for `--json`."""
    fields = {item.key: _value(loaded, item) for item in setting_fields()}
    values = {"bundles": list(loaded.settings.bundles), **fields}
    return {key: {"value": value, "from": loaded.origins.get(key, DEFAULT)} for key, value in values.items()}


def settings_table() -> str:
    """Every setting as a Markdown table, made from the dataclasses."""
    lines = ["| setting | flag | default | what it is |", "|---|---|---|---|"]
    for item in setting_fields():
        flag = "never a flag" if item.secret else f"`{item.flag}`"
        lines.append(f"| `{item.key}` | {flag} | {_shown_default(item)} | {item.help.replace('|', '/')} |")
    return "\n".join(lines)


def _shown_default(item: SettingField) -> str:
    if item.default in (None, "", ()):
        return ""
    if isinstance(item.default, bool):
        return "on" if item.default else "off"
    return f"`{','.join(item.default) if isinstance(item.default, tuple) else item.default}`"


def _value(loaded: LoadedSettings, item: SettingField) -> Any:
    value = getattr(getattr(loaded.settings, item.section), item.name)
    if item.secret and value:
        return HIDDEN
    return list(value) if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value)  # of texts, numbers, booleans and lists of texts TOML is JSON
