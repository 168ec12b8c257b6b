"""Which names and signatures NVIDIA's bindings really have, of those that runtime/tensorrt uses.

    python tests/tools/extract_bindings.py WHEEL... --date 2026-11-21

Wheels: `pip download --no-deps` of tensorrt-cu12-bindings, tensorrt-cu13-bindings, cuda-bindings and cuda-pathfinder.
The bindings of TensorRT are loaded beside empty libraries of the names that they want (made here with `cc`): nothing
can be built or run with them, but every class, method and enumeration is there, with the signatures that pybind11
writes into docstrings. The result is tests/runtime/tensorrt/bindings.json: facts about the interface, nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from slimpath.runtime.tensorrt.cuda import _HINTS
from slimpath.tests.runtime.tensorrt.used_names import used

OUT = Path(__file__).parent.parent / "runtime" / "tensorrt" / "bindings.json"

# Runs in a Python of its own, where only the wheel can be imported; prints all that there is.
_DUMP_TENSORRT = r"""
import json, re, tensorrt_bindings as trt

def clean(text):
    text = re.sub(r"tensorrt_bindings\.tensorrt\.|typing_extensions\.|typing\.|collections\.abc\.", "", text)
    return re.sub(r"<(\w+(\.\w+)*): -?\d+>", r"\1", text)

def signatures(value):
    lines = (value.__doc__ or "").split("\n")
    if "*args, **kwargs" in lines[0]:
        lines = [re.sub(r"^\d+\. ", "", line) for line in lines if re.match(r"^\d+\. ", line)]
    else:
        lines = lines[:1]
    return [clean(line[line.index("("):]) for line in lines if "(" in line]

def describe(owner):
    found = {}
    members = getattr(owner, "__members__", {})
    for name in dir(owner):
        value = getattr(owner, name)
        if name in members:
            found[name] = {"kind": "member", "value": int(value)}
        elif name.startswith("_") and name != "__init__":
            continue
        elif isinstance(value, property):
            told = clean((value.fget.__doc__ or "").split("\n")[0]) if value.fget else ""
            found[name] = {"kind": "property", "type": told.rpartition("-> ")[2], "settable": value.fset is not None}
        elif callable(value) and "wrapper" not in type(value).__name__:
            found[name] = {"kind": "method", "signatures": signatures(value)}
        else:
            found[name] = {"kind": "member", "value": None}
    return found

api = {"": {"__version__": {"kind": "value"}}}
for name in dir(trt):
    value = getattr(trt, name)
    if isinstance(value, type) and not name.startswith("_"):
        api[""][name] = {"kind": "class"}
        api[name] = describe(value)
print(json.dumps({"version": trt.__version__, "api": api}))
"""
_DUMP_CUDA = r"""
import inspect, json
from importlib import metadata
from cuda.bindings import runtime

api = {"": {}}
for name in dir(runtime):
    value = getattr(runtime, name)
    if name.startswith("cuda") and hasattr(value, "__members__"):
        api[""][name] = {"kind": "class"}
        api[name] = {member: {"kind": "member", "value": int(item)} for member, item in value.__members__.items()}
    elif name.startswith("cuda") and callable(value) and not isinstance(value, type):
        api[""][name] = {"kind": "method", "signatures": ["(" + ", ".join(inspect.signature(value).parameters) + ")"]}
    elif name.startswith("cuda") and isinstance(value, int):
        api[""][name] = {"kind": "value", "value": value}
api["cudaDeviceProp"] = {name: {"kind": "property"} for name in dir(runtime.cudaDeviceProp) if name[0] != "_"}
print(json.dumps({"version": metadata.version("cuda-bindings"), "api": api}))
"""


def main() -> None:
    """Read the wheels and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--date", required=True, help="of the download")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    wheels: list[Path] = asked.wheels
    beside = [wheel for wheel in wheels if wheel.name.startswith("cuda_pathfinder")]
    dumps: dict[str, dict[str, Any]] = {"tensorrt": {}, "cuda": {}}
    sources: dict[str, str] = {}
    for wheel in wheels:
        kind = "tensorrt" if wheel.name.startswith("tensorrt") else "cuda"
        if wheel in beside:
            continue
        with tempfile.TemporaryDirectory() as folder:
            dump = _dump(kind, wheel, beside, Path(folder))
        dumps[kind][dump["version"]] = dump["api"]
        sources[wheel.name] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    table = {"date": asked.date, "wheels": sources, **_reduce(dumps)}
    asked.out.write_text(_written(table), encoding="utf-8")
    print(f"{asked.out}: {sum(len(names) for names in table['tensorrt']['names'].values())} names of TensorRT")


def _dump(kind: str, wheel: Path, beside: list[Path], folder: Path) -> dict[str, Any]:
    for archive in (wheel, *(beside if kind == "cuda" else [])):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    if kind == "tensorrt":
        environment["LD_LIBRARY_PATH"] = str(_empty_libraries(folder / "tensorrt_bindings" / "tensorrt.so"))
    code = _DUMP_TENSORRT if kind == "tensorrt" else _DUMP_CUDA
    answer = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def _empty_libraries(module: Path) -> Path:
    """Libraries of the names that the module wants, with its functions, each of which returns a null pointer."""
    folder = module.parent / "empty"
    folder.mkdir()
    told = subprocess.run(["nm", "-D", "--undefined-only", str(module)], check=True, capture_output=True, text=True)
    wanted = re.findall(
        r" U ((?:create|get|init)\w*(?:_INTERNAL|Registry|Plugins|Version))$", told.stdout, re.MULTILINE
    )
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in wanted), encoding="utf-8")
    needed = subprocess.run(["readelf", "-d", str(module)], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"\[(libnv\S+)\]", needed):
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source)]
        subprocess.run(command, check=True)
    return folder


def _reduce(dumps: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of all that there is, what the code uses: module -> {"versions", "names": class -> name -> [[versions, entry]]}.

    Versions that have the very same entry stand together; one that is nowhere is an entry of no version.
    """
    newest = {kind: list(found.values())[-1] for kind, found in dumps.items()}
    uses: set[tuple[str, str, str]] = set()
    for use in used({"tensorrt": newest["tensorrt"], "cuda": newest["cuda"]}):
        uses.add((use.module, use.owner, use.name))
        if use.module == "tensorrt" and not use.owner and use.call is not None:
            uses.add((use.module, use.name, "__init__"))
    uses |= {("cuda", "cudaDeviceProp", name) for name in ("name", "major", "minor", "integrated")}
    uses |= {("cuda", "cudaError_t", name) for name in (*_HINTS, "cudaErrorStreamCaptureUnsupported")}
    table: dict[str, Any] = {}
    for kind, found in dumps.items():
        names: dict[str, Any] = {}
        for module, owner, name in sorted(uses):
            if module == kind:
                grouped: list[tuple[list[str], Any]] = []
                for version, api in found.items():
                    entry = api.get(owner, {}).get(name)
                    same = next((versions for versions, known in grouped if known == entry), None)
                    if entry is not None and same is None:
                        grouped.append(([version], entry))
                    elif same is not None:
                        same.append(version)
                names.setdefault(owner, {})[name] = grouped
        table[kind] = {"versions": list(found), "names": names}
    return table


def _written(table: dict[str, Any]) -> str:
    """JSON with a line for every name."""
    lines = ["{", f' "date": {json.dumps(table["date"])},', f' "wheels": {json.dumps(table["wheels"], indent=2)},']
    for kind in ("tensorrt", "cuda"):
        lines += [f' "{kind}": {{', f'  "versions": {json.dumps(table[kind]["versions"])},', '  "names": {']
        for owner, names in table[kind]["names"].items():
            entries = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in names.items()]
            lines += [f"   {json.dumps(owner)}: {{", ",\n".join(entries), "   },"]
        lines[-1] = "   }"
        lines += ["  }", " }" if kind == "cuda" else " },"]
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    main()
