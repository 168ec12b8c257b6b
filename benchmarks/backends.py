"""The table backend x {weights on disk, in RAM, load time, top_k, latency}: `python benchmarks/backends.py`.

Each backend works in a process of its own, so that memory can be told apart; they wait for each other, and are timed in
turn (A B A B ...). Memory is the proportional set size over that after importing the library, once every loaded graph
has run on the same eight pictures (which weights are touched depends on the routing). Latency is that of the encoder,
one row, on those pictures in turn: a backend that prepares itself for shapes pays for new ones, as it does in use.

Writes docs/backends.json, and the table into docs/backends.md; with --quick it only prints.
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
from method import machine, table

from slimpath.runtime import Bundle
from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends.base import Tier
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.errors import SlimpathError
from slimpath.runtime.footprint.memory import memory_use
from slimpath.runtime.profiling.parity import check_backend
from slimpath.runtime.profiling.parity_cases import example_plane
from slimpath.runtime.running.routing import Routers

DOCS = Path(__file__).resolve().parent.parent / "docs"
BACKENDS = ("onnxruntime", "onnxruntime mapped", "openvino", "openvino-bf16", "torch", "torch-bf16")
WIDTHS = (1.0, 0.5)
PICTURES = 8
BEGIN, END = "<!-- measured: benchmarks/backends.py -->", "<!-- end of measured -->"


class Worker:
    """The backend's side: one process, told what to do line by line on stdin, answering in JSON lines on stdout."""

    def __init__(self, name: str, bundle: Path) -> None:
        self.bundle = Bundle.open(bundle)
        base, _, tier = name.partition(" ")
        self.backend = make_backend(base)
        self.tier: Tier = "mapped" if tier == "mapped" else "packed"
        size_hw = self.bundle.manifest.sizes[0]
        self.planes = [example_plane(size_hw, seed)[None] for seed in range(PICTURES)]
        self.routers = Routers(self.bundle).stack(self.bundle.manifest.task_names[:1])
        # A small head, so that the library is there before memory is counted.
        head = min((g for g in self.bundle.manifest.graphs if g.kind == "head"), key=lambda g: g.weight_bytes)
        self.backend.load(self.bundle.graph_bytes(head), self.bundle.path).close()
        self.before = self._memory()
        self.sessions: dict[float, Any] = {}

    def load(self, width: float) -> dict[str, float]:
        """Load the encoder of a width, run it on every picture; milliseconds, and megabytes more than before."""
        graph = self.bundle.graph("encoder", self.bundle.manifest.sizes[0], width)
        started = time.perf_counter()
        session = self.backend.load(self.bundle.graph_bytes(graph), self.bundle.path, tier=self.tier)
        loaded = time.perf_counter()
        self.sessions[width] = session
        session.run(self._feeds(0))
        first_run = time.perf_counter()
        for picture in range(1, PICTURES):
            session.run(self._feeds(picture))
        private, mapped = (now - then for now, then in zip(self._memory(), self.before))
        return {
            "load_ms": (loaded - started) * 1e3,
            "first_run_ms": (first_run - loaded) * 1e3,
            "private_mb": private,
            "mapped_mb": mapped,
        }

    def time(self, width: float, top_k: int, runs: int) -> dict[str, float]:
        """Median latency over the pictures."""
        session, samples = self.sessions[width], []
        for run in range(runs):
            feeds = self._feeds(run % PICTURES, top_k)
            started = time.perf_counter()
            session.run(feeds)
            samples.append((time.perf_counter() - started) * 1e3)
        return {"ms": statistics.median(samples)}

    def parity(self) -> dict[str, Any]:
        """The gate, for the widest and narrowest graphs."""
        result = check_backend(self.bundle, self.backend)
        return {"passed": result.passed, "failures": result.failures(), "routing_equal": result.routing_equal}

    def _feeds(self, picture: int, top_k: int | None = None) -> dict[str, np.ndarray]:
        feeds = {"image": self.planes[picture], "image_index": np.zeros(1, np.int64)}
        if self.bundle.manifest.is_moe:
            feeds["top_k"] = np.array([top_k or self.bundle.manifest.encoder.top_k], np.int64)
            feeds["router"], feeds["router_bias"] = self.routers
        return feeds

    def _memory(self) -> tuple[float, float]:
        use = memory_use()
        if use is None:
            raise SystemExit("this kernel does not tell the proportional set size")
        return use.anonymous / 1e6, use.mapped / 1e6


class Remote:
    """The other side of a `Worker`."""

    def __init__(self, name: str, bundle: Path) -> None:
        command = [sys.executable, __file__, "--worker", name, "--bundle", str(bundle)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._read()

    def __call__(self, verb: str, *arguments: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker ended with code {self._process.wait()}")
        return json.loads(line)


def work(name: str, bundle: Path) -> None:
    """What a worker's process does."""
    try:
        worker = Worker(name, bundle)
    except SlimpathError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"version": worker.backend.version, "threads": worker.backend.threads}), flush=True)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, verb)(*arguments)), flush=True)


def measure(bundle: Path, repeats: int, runs: int) -> dict[str, Any]:
    """Every backend on one bundle: what it loads and holds, how fast it is, and whether it answers rightly."""
    remotes: dict[str, Remote] = {}
    figures: dict[str, dict[str, Any]] = {}
    for name in BACKENDS:
        remote = Remote(name, bundle)
        figures[name] = remote.facts
        if "error" in remote.facts:
            continue
        remotes[name] = remote
        figures[name]["loads"] = [remote("load", width) for width in WIDTHS]
    most = Bundle.open(bundle).manifest.encoder.top_k
    for top_k in sorted({most, 1}, reverse=True):
        times: dict[str, list[float]] = {name: [] for name in remotes}
        for _ in range(repeats):
            for name, remote in remotes.items():
                times[name].append(remote("time", WIDTHS[0], top_k, runs)["ms"])
        for name in remotes:
            figures[name][f"top_k {top_k}, ms"] = times[name]
    for name, remote in remotes.items():
        figures[name]["parity"] = remote("parity")
        remote.close()
    return figures


def as_table(bundle: Bundle, figures: dict[str, Any]) -> str:
    """One line per backend; MB = 1e6 bytes."""
    most = bundle.manifest.encoder.top_k
    fastest = statistics.median(figures["onnxruntime"][f"top_k {most}, ms"])
    rows = []
    for name, found in figures.items():
        if "error" in found:
            rows.append([name, *["–"] * 6, found["error"]])
            continue
        first, second = found["loads"]
        more = {key: second[key] - first[key] for key in ("private_mb", "mapped_mb")}
        ms = statistics.median(found[f"top_k {most}, ms"])
        one = statistics.median(found["top_k 1, ms"])
        equal = found["parity"]["routing_equal"]
        gate = "passes" if found["parity"]["passed"] else f"fails: {found['parity']['failures'][0]}"
        rows.append(
            [
                f"{name} {found['version']}",
                f"{bundle.manifest.weights.bytes / 1e6:.0f}",
                f"{first['private_mb']:.0f} + {first['mapped_mb']:.0f}",
                f"{more['private_mb']:.0f} + {more['mapped_mb']:.0f}",
                f"{first['load_ms']:.0f} + {first['first_run_ms']:.0f}",
                f"{ms:.1f} ({ms / fastest:.2f})",
                f"{one:.1f}",
                gate + ("" if equal is None else f", {100 * equal:.2f} % routed alike"),
            ]
        )
    head = ["backend", "weights on disk, MB", "RAM for width 1, private + mapped MB", f"more for width {WIDTHS[1]:g}"]
    head += ["load + first run, ms", f"encoder, top_k {most}, ms (/ onnxruntime)", "top_k 1, ms", "parity gate"]
    return table(head, rows)


def random_bundle(preset: str, folder: Path) -> Path:
    """A bundle of a named model with random weights: neither speed nor memory depends on them."""
    import torch

    from slimpath.export import export_model
    from slimpath.models import HeadConfig, build_preset

    torch.manual_seed(0)
    model = build_preset(preset, (HeadConfig("depth", "depth", 1), HeadConfig("edge", "probability", 1)))
    export_model(model, {}, folder / preset, widths=sorted(WIDTHS), check=False, name=preset)
    return folder / preset


def main() -> None:
    """Measure, print, and write the documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help="this bundle only; by default the bundled model and m3vit_small")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing written")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.bundle)
        return
    repeats, runs = (2, 8) if arguments.quick else (10, 24)
    sections, raw = [], {}
    with tempfile.TemporaryDirectory(prefix="slimpath-bench-") as scratch:
        small = [] if arguments.bundle else [random_bundle("m3vit_small", Path(scratch))]
        for path in [arguments.bundle or bundled_path(), *small]:
            bundle = Bundle.open(path)
            figures = measure(path, repeats, runs)
            title = f"`{bundle.manifest.name}` at {'x'.join(map(str, bundle.manifest.sizes[0]))}, one row"
            sections.append(f"### {title}\n\n{as_table(bundle, figures)}")
            raw[bundle.manifest.name] = figures
            print(sections[-1], flush=True)
    if arguments.quick:
        return
    facts = machine()
    (DOCS / "backends.json").write_text(json.dumps({"machine": facts, "figures": raw}, indent=1) + "\n")
    page = DOCS / "backends.md"
    before, _, rest = page.read_text().partition(BEGIN)
    words = f"{facts['processor']}; {facts['system']}; {repeats} repeats of {runs} runs in turn, medians."
    page.write_text(f"{before}{BEGIN}\n\n{words}\n\n" + "\n".join(sections) + f"\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
