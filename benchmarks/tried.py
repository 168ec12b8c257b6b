"""What was tried to make narrow encoders faster, beside what is: `python benchmarks/tried.py`.

Session settings, and graphs rewritten with ONNX Runtime's fused operators (`fusions.py`), each against the encoder as
it is, at a quarter of the width and at full width.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusions import REWRITES
from graphs import by_operator, encoder_feeds, runner, small_bundle
from method import in_turn, table, with_interval
from page import Section, keep

from slimpath.runtime import Bundle
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundled import bundled_path

BASE = "as it is"
SETTINGS: dict[str, dict[str, str]] = {
    "no spinning": {"session.intra_op.allow_spinning": "0"},
    "spinning for 300 us": {"session.intra_op.spin_duration_us": "300"},
    "dynamic blocks (4)": {"session.dynamic_block_base": "4"},
    "denormals as zero": {"session.set_denormal_as_zero": "1"},
}


def plain_session(bundle: Bundle, data: bytes, entries: dict[str, str], feeds: dict[str, Any]) -> Callable[[], object]:
    """The packed tier's session with some settings changed."""
    import onnxruntime as ort

    ort.set_default_logger_severity(3)  # a setting given twice warns
    options = OrtBackend()._cpu_options(ort, bundle.path, "packed")
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    if "patterns" in entries:
        options.enable_mem_pattern = False
    session: Any = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def measure(bundle: Bundle, width: float, repeats: int, runs: int) -> Section:
    """One encoder in every way."""
    graph = bundle.graph("encoder", bundle.manifest.sizes[0], width)
    data, feeds = bundle.graph_bytes(graph), encoder_feeds(bundle, list(bundle.manifest.task_names[:1]))
    calls = {BASE: plain_session(bundle, data, {}, feeds), f"{BASE}, again": plain_session(bundle, data, {}, feeds)}
    calls["one thread"] = runner(OrtBackend(threads=1).load(data, bundle.path), feeds)
    calls["no memory pattern"] = plain_session(bundle, data, {"patterns": "0"}, feeds)
    calls |= {name: plain_session(bundle, data, entries, feeds) for name, entries in SETTINGS.items()}
    calls |= {name: plain_session(bundle, rewrite(data), {}, feeds) for name, rewrite in REWRITES.items()}
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows = [[name, f"{timing.median_ms(name):.2f}", with_interval(timing.ratio(name, BASE))] for name in calls]
    text = table(["way", "ms", "/ as it is"], rows)
    return f"`{bundle.manifest.name}`, width {width:g}", text, {"ms": dict(timing.repeats_ms)}


def profile(bundle: Bundle, folder: Path, runs: int) -> Section:
    """Where the time goes, narrow and wide."""
    columns = {
        f"width {width:g}": by_operator(
            bundle, bundle.graph("encoder", bundle.manifest.sizes[0], width), folder, max(runs, 20)
        )
        for width in (0.25, 1.0)
    }
    narrow, wide = columns.values()
    rows = [[name, f"{narrow.get(name, 0):.2f}", f"{wide[name]:.2f}"] for name in wide if wide[name] >= 0.1]
    rows.append(["all", *(f"{sum(column.values()):.2f}" for column in columns.values())])
    words = "\nONNX Runtime's own profile, which adds some microseconds to every node; below 0.1 ms left out.\n"
    title = f"`{bundle.manifest.name}`: where the time goes, ms by operator"
    return title, table(["operator", *columns], rows) + words, columns


def main() -> None:
    """Measure and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path, help="m3vit_small with random weights; exported if missing")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing kept")
    arguments = parser.parse_args()
    repeats, runs = (2, 5) if arguments.quick else (10, 25)
    with tempfile.TemporaryDirectory(prefix="slimpath-bench-") as scratch:
        bundles = [Bundle.open(bundled_path()), small_bundle(arguments.small or Path(scratch) / "m3vit_small")]
        found = [measure(bundle, width, repeats, runs) for bundle in bundles for width in (0.25, 1.0)]
        found += [profile(bundle, Path(scratch), runs) for bundle in bundles]
    for title, text, _ in found:
        print(f"\n## {title}\n\n{text}", flush=True)
    if not arguments.quick:
        keep("tried", found)


if __name__ == "__main__":
    main()
