"""Plain values, as JSON has them, become dataclasses of settings: every name and every type is checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from .errors import ConfigError

__all__ = ["build"]


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain JSON values into `kind`, checking every name and type on the way."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) - set(hints):
            got = sorted(set(value) - set(hints)) if isinstance(value, dict) else repr(value)
            raise ConfigError(f"{where or 'config'} takes {', '.join(hints)}; got {got}")
        built = {name: build(hints[name], item, f"{where}.{name}".lstrip(".")) for name, item in value.items()}
        return typing.cast(Any, kind)(**built)
    if origin is tuple:
        arguments = typing.get_args(kind)
        items = [value] if isinstance(value, str | int | float) else list(value)
        if arguments[-1] is Ellipsis:
            return tuple(build(arguments[0], item, where) for item in items)
        if len(items) != len(arguments):
            raise ConfigError(f"{where} takes {len(arguments)} values, got {value!r}")
        return tuple(build(argument, item, where) for argument, item in zip(arguments, items, strict=True))
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return build(next(part for part in typing.get_args(kind) if part is not type(None)), value, where)
    if origin is not None:  # Mapping[str, float]
        return {str(name): float(item) for name, item in dict(value).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {kind.__name__}, got {value!r}")
    return value
