"""Modules that have the names and signatures of bindings.json and refuse every other: what the real ones would refuse.

Behaviour comes from plain classes (fake_tensorrt.py): a method of the real class calls that of the plain one, with its
arguments bound by name. An object's plain one is its `fake`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("bindings.json").read_text(encoding="utf-8"))
TENSORRT_VERSIONS: list[str] = TABLE["tensorrt"]["versions"]
CUDA_VERSIONS: list[str] = TABLE["cuda"]["versions"]
_ALIASES = {"IParserError": "ParserError"}


def api_of(kind: str, version: str) -> dict[str, dict[str, Any]]:
    """Class ("" for the module) -> name -> entry, as one version has it."""
    found: dict[str, dict[str, Any]] = {}
    for owner, names in TABLE[kind]["names"].items():
        found[owner] = {
            name: entry for name, grouped in names.items() for versions, entry in grouped if version in versions
        }
    return found


def split_arguments(signature: str) -> list[tuple[str, str, bool]]:
    """(name, type, optional) of every argument of "(self: A, flags: int = 0) -> B"."""
    inner = signature[1 : signature.rindex(") ->")] if ") ->" in signature else signature.strip()[1:-1]
    parts, depth = [""], 0
    for letter in inner:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    found = []
    for part in filter(None, (part.strip() for part in parts)):
        declared, _, default = part.partition(" = ")
        name, _, kind = declared.partition(":")
        found.append((name.strip(), kind.strip(), bool(default)))
    return found


def bind(
    where: str, signatures: list[str], classes: Mapping[str, Any], arguments: tuple, named: dict
) -> dict[str, Any]:
    """Arguments by name, for the first signature that takes them.

    Raises:
        TypeError: none does, as pybind11 says it.
    """
    for signature in signatures:
        declared = split_arguments(signature)
        names = [name for name, _, _ in declared]
        if len(arguments) > len(names) or any(name not in names[len(arguments) :] for name in named):
            continue
        bound = {**dict(zip(names, arguments)), **named}
        if all(name in bound or optional for name, _, optional in declared) and all(
            fits(bound[name], kind, classes) for name, kind, _ in declared if name in bound
        ):
            return bound
    shown = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in named.items())]
    raise TypeError(f"{where}(): incompatible arguments ({', '.join(shown)}); supported: {' | '.join(signatures)}")


def fits(value: Any, kind: str, classes: Mapping[str, Any]) -> bool:
    """Whether pybind11 takes a value for a type of a docstring."""
    kind = re.split(r"::|\.", kind)[-1] if "[" not in kind else kind
    kind = _ALIASES.get(kind, kind)
    if kind in ("int", "SupportsInt"):
        return isinstance(value, int) and not isinstance(value, Enum)
    if kind == "str":
        return isinstance(value, str) or value is None
    if kind == "bool":
        return isinstance(value, bool)
    if kind in ("buffer", "Buffer"):
        return isinstance(value, (bytes, bytearray, memoryview))
    if kind in classes:
        return isinstance(value, classes[kind])
    return kind in ("", "object", "Severity")


def make_enum(name: str, entries: Mapping[str, Any]) -> Any:
    """An enumeration like pybind11's: `int()` works, comparison with a number does not."""
    members = {member: entry["value"] for member, entry in entries.items() if entry["kind"] == "member"}

    def to_int(self: Enum) -> int:
        return self.value

    made: Any = Enum(name, members)  # type: ignore[misc]
    made.__int__ = to_int
    return made


def make_class(name: str, entries: Mapping[str, Any], behaviour: Any, classes: dict[str, Any], calls: list) -> Any:
    """A class with exactly the methods and properties of the table; each call is noted as (class.method, arguments)."""
    contents: dict[str, Any] = {}

    def method(member: str, signatures: list[str]) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            bound = bind(f"{name}.{member}", signatures, classes, (self, *arguments), named)
            calls.append((f"{name}.{member}", {key: value for key, value in bound.items() if key != "self"}))
            bound.pop("self")
            if member == "__init__":
                object.__setattr__(self, "fake", behaviour(**bound) if behaviour is not None else None)
                return None
            return getattr(self.fake, member)(**bound)

        return call

    def getset(member: str, entry: Mapping[str, Any]) -> property:
        def read(self: Any) -> Any:
            return getattr(self.fake, member)

        def write(self: Any, value: Any) -> None:
            if not fits(value, entry["type"], classes):
                raise TypeError(f"{name}.{member} takes {entry['type']}, got {value!r}")
            calls.append((f"{name}.{member}=", {"value": value}))
            setattr(self.fake, member, value)

        return property(read, write if entry.get("settable") else None)

    for member, entry in entries.items():
        if entry["kind"] == "method":
            contents[member] = method(member, entry["signatures"])
        elif entry["kind"] == "property":
            contents[member] = getset(member, entry)
        else:
            contents[member] = member  # ILogger.ERROR and its like

    def refuse(self: Any, member: str, value: Any) -> None:
        if type(self) is classes[name] and not isinstance(getattr(type(self), member, None), property):
            raise AttributeError(f"{name} has no attribute {member!r} in this version")
        object.__setattr__(self, member, value)

    contents["__setattr__"] = refuse
    if "__init__" not in contents:

        def no_constructor(self: Any, *_: Any) -> None:
            raise TypeError(f"{name}: No constructor defined!")

        contents["__init__"] = no_constructor
    return type(name, (), contents)


def make_module(kind: str, version: str, behaviours: Mapping[str, Any], calls: list) -> ModuleType:
    """The module as one version has it; `classes` maps names to what was made."""
    api = api_of(kind, version)
    module: Any = ModuleType("tensorrt" if kind == "tensorrt" else "cuda.bindings.runtime")
    classes: dict[str, Any] = {}
    for name, entries in api.items():
        if not name:
            continue
        is_enum = entries and all(entry["kind"] == "member" for entry in entries.values())
        classes[name] = (
            make_enum(name, entries) if is_enum else make_class(name, entries, behaviours.get(name), classes, calls)
        )
    for name, entry in api[""].items():
        if entry["kind"] == "class":
            setattr(module, name, classes[name])
        elif entry["kind"] == "value":
            setattr(module, name, version if name == "__version__" else entry["value"])
        else:
            setattr(module, name, _function(name, entry["signatures"], classes, behaviours[name], calls))
    module.fake_classes = classes
    return module


def _function(name: str, signatures: list[str], classes: Mapping[str, Any], does: Any, calls: list) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        bound = bind(name, signatures, classes, arguments, named)
        calls.append((name, bound))
        return does(**bound)

    return call


def instance(classes: Mapping[str, Any], name: str, fake: Any) -> Any:
    """An object of a class that the library makes itself."""
    made = object.__new__(classes[name]) if name in classes else _Opaque()
    object.__setattr__(made, "fake", fake)
    return made


class _Opaque:
    """Of a class of which nothing but the object is used."""
