"""Which attributes of TensorRT's and CUDA's objects runtime/tensorrt uses, read from its source.

The annotations of names.py say where such objects come in; from there their types are followed through assignments,
calls and loops, with the return types that the bindings' own docstrings give.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimpath.runtime import tensorrt

SOURCE = Path(tensorrt.__file__).parent
MODULES = {"TrtModule": "tensorrt", "CudaModule": "cuda"}
# The docstrings name some classes as C++ does.
_ALIASES = {"IParserError": "ParserError"}

# What an expression is: ("module", name), ("class", name), ("object", class), ("method", class.name), ("many", type).
Kind = tuple[str, Any]
Api = Mapping[str, Mapping[str, Mapping[str, Any]]]  # module -> class ("" for the module itself) -> name -> entry


@dataclass
class Use:
    """One attribute: of which class ("" for a module's own), and where; `call` is its arguments if it is called."""

    module: str
    owner: str
    name: str
    where: str
    call: ast.Call | None = None
    overrides: tuple[str, ...] | None = None


@dataclass
class _Reader:
    api: Api
    attributes: dict[str, Kind]
    functions: dict[str, Kind]
    file: str
    uses: list[Use] = field(default_factory=list)

    def block(self, body: list[ast.stmt], known: dict[str, Kind]) -> None:
        for statement in body:
            self.statement(statement, known)

    def statement(self, node: ast.stmt, known: dict[str, Kind]) -> None:
        if isinstance(node, ast.FunctionDef):
            inner = dict(known)
            for argument in (*node.args.args, *node.args.kwonlyargs):
                inner.pop(argument.arg, None)
                if (kind := annotated(argument.annotation)) is not None:
                    inner[argument.arg] = kind
            self.block(node.body, inner)
            return
        if isinstance(node, ast.ClassDef):
            self.subclass(node, known)
            self.block(node.body, dict(known))
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "tensorrt":
                    known[alias.asname or "tensorrt"] = ("module", "tensorrt")
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            self.assign(node, known)
            return
        if isinstance(node, ast.For):
            self.bind(node.target, self.element(self.kind(node.iter, known)), known)
        for expression in ast.iter_child_nodes(node):
            if isinstance(expression, ast.expr):
                self.kind(expression, known)
            elif isinstance(expression, ast.withitem):
                self.kind(expression.context_expr, known)
            elif isinstance(expression, ast.stmt):
                self.statement(expression, known)
            elif isinstance(expression, ast.ExceptHandler):
                self.block(expression.body, known)

    def subclass(self, node: ast.ClassDef, known: dict[str, Kind]) -> None:
        for base in node.bases:
            kind = self.kind(base, known)
            if kind is None or kind[0] != "class":
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    names = tuple(argument.arg for argument in method.args.args[1:])
                    self.uses.append(Use("tensorrt", kind[1], method.name, self.place(method), overrides=names))

    def assign(self, node: ast.Assign | ast.AnnAssign, known: dict[str, Kind]) -> None:
        found = self.kind(node.value, known) if node.value is not None else None
        if isinstance(node, ast.AnnAssign):
            found = annotated(node.annotation) or found
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            self.bind(target, found, known)

    def bind(self, target: ast.expr, found: Kind | None, known: dict[str, Kind]) -> None:
        if isinstance(target, ast.Name):
            known.pop(target.id, None)
            if found is not None:
                known[target.id] = found
        elif isinstance(target, (ast.Attribute, ast.Subscript)):
            self.kind(target, known)

    def kind(self, node: ast.expr | None, known: dict[str, Kind]) -> Kind | None:
        """What an expression is, noting every attribute on the way; None where it is nothing of the libraries."""
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, known, None)
        if isinstance(node, ast.Call):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.kind(argument, known)
            called = node.func
            kind = (
                self.attribute(called, known, node) if isinstance(called, ast.Attribute) else self.kind(called, known)
            )
            own = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            return self.result(kind) or self.functions.get(own)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)):
            inner = dict(known)
            for part in node.generators:
                self.bind(part.target, self.element(self.kind(part.iter, inner)), inner)
                for condition in part.ifs:
                    self.kind(condition, inner)
            if isinstance(node, ast.DictComp):
                self.kind(node.key, inner)
                return ("many", self.kind(node.value, inner))
            return ("many", self.kind(node.elt, inner))
        if isinstance(node, ast.Lambda):
            self.kind(node.body, known)
            return None
        for child in ast.iter_child_nodes(node) if node is not None else ():
            if isinstance(child, ast.expr):
                self.kind(child, known)
        return None

    def attribute(self, node: ast.Attribute, known: dict[str, Kind], call: ast.Call | None) -> Kind | None:
        owner = self.kind(node.value, known)
        if owner is None:
            return self.attributes.get(node.attr)
        if owner[0] == "module":
            self.uses.append(Use(owner[1], "", node.attr, self.place(node), call))
            entry = self.api.get(owner[1], {}).get("", {}).get(node.attr, {})
            if entry.get("kind") == "class":
                return ("class", node.attr)
            return ("method", entry.get("signatures", [""])[0]) if "signatures" in entry else None
        if owner[0] in ("class", "object"):
            module = "cuda" if owner[1] in self.api.get("cuda", {}) else "tensorrt"
            self.uses.append(Use(module, owner[1], node.attr, self.place(node), call))
            entry = self.api.get(module, {}).get(owner[1], {}).get(node.attr, {})
            if entry.get("kind") == "property":
                return self.named(entry.get("type", ""))
            return ("method", entry.get("signatures", [""])[0]) if "signatures" in entry else None
        return None

    def result(self, kind: Kind | None) -> Kind | None:
        if kind is None:
            return None
        if kind[0] == "class":
            return ("object", kind[1])
        return self.named(kind[1].rpartition("->")[2]) if kind[0] == "method" else None

    def named(self, text: str) -> Kind | None:
        name = re.split(r"::|\.", text.strip())[-1]
        name = _ALIASES.get(name, name)
        return ("object", name) if name in self.api.get("tensorrt", {}) else None

    @staticmethod
    def element(kind: Kind | None) -> Kind | None:
        return kind[1] if kind is not None and kind[0] == "many" else None

    def place(self, node: ast.AST) -> str:
        return f"{self.file}:{getattr(node, 'lineno', 0)}"


def annotated(node: ast.expr | None) -> Kind | None:
    """What a name of names.py stands for."""
    name = node.id if isinstance(node, ast.Name) else None
    if name in MODULES:
        return ("module", MODULES[name])
    return ("object", name) if name in _names() else None


def _names() -> set[str]:
    tree = ast.parse((SOURCE / "names.py").read_text(encoding="utf-8"))
    return {
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def used(api: Api) -> list[Use]:
    """Every attribute of the libraries' objects in runtime/tensorrt, given what the bindings have."""
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.glob("*.py"))}
    attributes: dict[str, Kind] = {}
    functions: dict[str, Kind] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
                if (kind := annotated(node.annotation)) is not None:
                    attributes[node.target.attr] = kind
            elif isinstance(node, ast.FunctionDef) and (kind := annotated(node.returns)) is not None:
                is_property = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
                (attributes if is_property else functions)[node.name] = kind
    found: list[Use] = []
    for name, tree in trees.items():
        reader = _Reader(api, attributes, functions, name)
        reader.block(tree.body, {})
        found += reader.uses
    return found
