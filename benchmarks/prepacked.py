"""Tried for the packed tier: weights packed once into a file that sessions map. `python benchmarks/prepacked.py`.

ONNX Runtime can save an optimised graph with its weights already rearranged
(`session.save_external_prepacked_constant_initializers`), and sessions that share initialisers
(`add_initializer`). Here the encoders of all widths are loaded in each way, in a process each: seconds to load, what is
private and what is mapped, and the widest one's latency. docs/sessions.md says what was kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from graphs import encoder_feeds
from method import table
from page import keep

from slimpath.runtime import Bundle
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.footprint.memory import memory_use

WAYS = ("mapped", "packed", "packed file, mapped", "shared initialisers, packed")
RUNS = 60


def options(bundle: Bundle, tier: str) -> Any:
    import onnxruntime as ort

    return OrtBackend()._cpu_options(ort, bundle.path, tier)  # type: ignore[arg-type]  # the same settings but one


def save_packed(bundle: Bundle, width: float, folder: Path) -> Path:
    """The optimised graph with packed weights beside it."""
    import onnxruntime as ort

    graph = bundle.graph("encoder", bundle.manifest.sizes[0], width)
    path = folder / f"packed-{width:g}.onnx"
    if not path.exists():
        its = options(bundle, "packed")
        its.optimized_model_filepath = str(path)
        its.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        its.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{path.name}.bin")
        its.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        ort.InferenceSession(bundle.graph_bytes(graph), its, providers=["CPUExecutionProvider"])
    return path


def load(bundle: Bundle, width: float, way: str, folder: Path, shared: dict[str, Any]) -> Any:
    """A session in one of the ways."""
    import onnxruntime as ort

    providers = ["CPUExecutionProvider"]
    if way == "packed file, mapped":
        its = options(bundle, "packed")
        its.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        path = save_packed(bundle, width, folder)
        its.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        return ort.InferenceSession(str(path), its, providers=providers)
    its = options(bundle, "mapped" if way == "mapped" else "packed")
    if way.startswith("shared"):
        for name, value in _weights(bundle, width, shared).items():
            its.add_initializer(name, value)
    graph = bundle.graph("encoder", bundle.manifest.sizes[0], width)
    return ort.InferenceSession(bundle.graph_bytes(graph), its, providers=providers)


def _weights(bundle: Bundle, width: float, shared: dict[str, Any]) -> dict[str, Any]:
    """The external weights of a graph as values that several sessions hold together: prefixes of one mapped file."""
    import onnxruntime as ort

    from slimpath.runtime.bundles.onnx_edit import external_weights_as_inputs

    graph = bundle.graph("encoder", bundle.manifest.sizes[0], width)
    _, weights = external_weights_as_inputs(bundle.graph_bytes(graph))
    file = shared.setdefault("file", np.memmap(bundle.path / bundle.manifest.weights.file, np.uint8, "r"))
    found = {}
    for weight in weights:
        count = int(np.prod(weight.shape)) * weight.dtype.itemsize
        array = file[weight.offset : weight.offset + count].view(weight.dtype).reshape(weight.shape)
        found[weight.name] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
    shared.setdefault("kept", []).append(found)
    return found


def work(bundle: Bundle, way: str, folder: Path) -> dict[str, Any]:
    """One process: load every width, run each, time the widest."""
    import onnxruntime  # noqa: F401  memory is counted from here

    feeds = encoder_feeds(bundle, list(bundle.manifest.task_names[:1]))
    if way == "packed file, mapped":
        for width in bundle.manifest.widths:
            subprocess.run([*_command(bundle, way, folder), "--save", str(width)], check=True)
    before, shared, sessions, seconds = memory_use(), {}, {}, []
    assert before is not None
    for width in reversed(bundle.manifest.widths):
        started = time.perf_counter()
        sessions[width] = load(bundle, width, way, folder, shared)
        seconds.append(time.perf_counter() - started)
        sessions[width].run(None, feeds)
    after = memory_use()
    assert after is not None
    took = []
    for _ in range(RUNS):
        started = time.perf_counter()
        sessions[1.0].run(None, feeds)
        took.append((time.perf_counter() - started) * 1e3)
    return {
        "load_ms": [second * 1e3 for second in seconds],
        "private_mb": (after.anonymous - before.anonymous) / 1e6,
        "mapped_mb": (after.mapped - before.mapped) / 1e6,
        "ms": statistics.median(took),
    }


def _command(bundle: Bundle, way: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, "--way", way, "--bundle", str(bundle.path), "--folder", str(folder)]


def main() -> None:
    """Measure each way in turn, three times, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=bundled_path())
    parser.add_argument("--quick", action="store_true", help="once, nothing kept")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--save", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    if arguments.save:
        save_packed(bundle, arguments.save, arguments.folder)
        return
    if arguments.way:
        print(json.dumps(work(bundle, arguments.way, arguments.folder)))
        return
    rows, raw = [], {}
    with tempfile.TemporaryDirectory(prefix="slimpath-prepacked-") as folder:
        for way in WAYS:
            command = _command(bundle, way, Path(folder))
            runs = [json.loads(subprocess.check_output(command)) for _ in range(1 if arguments.quick else 3)]
            raw[way] = runs
            load_ms = statistics.median(ms for run in runs for ms in run["load_ms"])
            cells = [statistics.median(run[key] for run in runs) for key in ("private_mb", "mapped_mb", "ms")]
            rows.append([way, f"{load_ms:.0f}", *(f"{cell:.1f}" for cell in cells)])
    head = ["way", "load of a width, ms", "all widths, private MB", "mapped MB", "widest, ms"]
    text = table(head, rows)
    print(text)
    if not arguments.quick:
        keep("prepacked", [(f"`{bundle.manifest.name}`: encoders of all widths", text, raw)])


if __name__ == "__main__":
    main()
