"""What was tried to make encoders faster, beside what is: `python benchmarks/tried.py`.

Session settings, graphs rewritten with ONNX Runtime's fused operators (`fusions.py`), another lowering of the experts:
each against the encoder as it is, at a quarter of the width and at full width, one image; and at full width four
images, there beside the dense encoder of the same active FLOPs, too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fusions import REWRITES
from graphs import by_operator, encoder_feeds, load, random_bundle, runner
from method import in_turn, table, with_interval
from page import Section, keep

from slimpath.export import lowering
from slimpath.runtime import Bundle
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundled import bundled_path

Call = Callable[[], object]
BASE, DENSE = "as it is", "`vit_small`"
WIDTHS, IMAGES = (0.25, 1.0), 4
SETTINGS: dict[str, dict[str, str]] = {
    "no spinning": {"session.intra_op.allow_spinning": "0"},
    "spinning for 300 us": {"session.intra_op.spin_duration_us": "300"},
    "dynamic blocks (4)": {"session.dynamic_block_base": "4"},
    "denormals as zero": {"session.set_denormal_as_zero": "1"},
}


def plain_session(bundle: Bundle, data: bytes, entries: dict[str, str], feeds: dict[str, Any]) -> Call:
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


def ways(bundle: Bundle, width: float, feeds: dict[str, Any], together: Bundle | None) -> dict[str, Call]:
    """One encoder in every way.

    Args:
        together: the same model with its experts' tokens gathered by one node and split.
    """
    graph = bundle.graph("encoder", bundle.manifest.sizes[0], width)
    data = bundle.graph_bytes(graph)
    calls = {BASE: plain_session(bundle, data, {}, feeds), f"{BASE}, again": plain_session(bundle, data, {}, feeds)}
    calls["one thread"] = runner(OrtBackend(threads=1).load(data, bundle.path), feeds)
    calls["no memory pattern"] = plain_session(bundle, data, {"patterns": "0"}, feeds)
    calls |= {name: plain_session(bundle, data, entries, feeds) for name, entries in SETTINGS.items()}
    calls |= {name: plain_session(bundle, rewrite(data), {}, feeds) for name, rewrite in REWRITES.items()}
    if together is not None:
        calls["tokens gathered together, then split"] = runner(load(together, "encoder", width), feeds)
    return calls


def measure(
    bundle: Bundle, width: float, together: Bundle | None, repeats: int, runs: int, *, every: bool = False
) -> Section:
    """One image, one task or every."""
    feeds = encoder_feeds(bundle, list(bundle.manifest.task_names[: None if every else 1]))
    calls = ways(bundle, width, feeds, together)
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows = [[name, f"{timing.median_ms(name):.2f}", with_interval(timing.ratio(name, BASE))] for name in calls]
    text = table(["way", "ms", "/ as it is"], rows)
    title = f"`{bundle.manifest.name}`, width {width:g}, {'every task of an image' if every else 'one task'}"
    return title, text, {"ms": dict(timing.repeats_ms)}


def batch(sparse: Bundle, together: Bundle, dense: Bundle, repeats: int, runs: int) -> Section:
    """Four images of one task, beside the dense encoder."""
    feeds = {one: encoder_feeds(one, [one.manifest.task_names[0]] * IMAGES, copies=True) for one in (sparse, dense)}
    calls = ways(sparse, 1.0, feeds[sparse], together)
    calls["two halves at once, a thread each"] = halves(sparse, feeds[sparse])
    calls[DENSE] = runner(load(dense, "encoder", 1.0), feeds[dense])
    calls[f"{DENSE}, two halves at once, a thread each"] = halves(dense, feeds[dense])
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows = [
        [name, f"{timing.median_ms(name):.1f}", *(with_interval(timing.ratio(name, other)) for other in (BASE, DENSE))]
        for name in calls
    ]
    title = f"`{sparse.manifest.name}`, full width, {IMAGES} images of one task"
    return title, table(["way", "ms", "/ as it is", f"/ {DENSE}"], rows), {"ms": dict(timing.repeats_ms)}


def halves(bundle: Bundle, feeds: dict[str, Any]) -> Call:
    """Half of the images in a session of one thread, the others in another, at the same time."""
    graph = bundle.graph("encoder", bundle.manifest.sizes[0], 1.0)
    parts = []
    for half in range(2):
        kept = slice(half * IMAGES // 2, (half + 1) * IMAGES // 2)
        part = {name: value[kept] for name, value in feeds.items()} | {"image_index": np.arange(IMAGES // 2)}
        parts.append(runner(OrtBackend(threads=1).load(bundle.graph_bytes(graph), bundle.path), part))
    pool = ThreadPoolExecutor(2)
    return lambda: list(pool.map(lambda part: part(), parts))


def gathered_together(folder: Path) -> Bundle:
    """`m3vit_small` as narrower models are exported."""
    usual, lowering.GATHER_APART = lowering.GATHER_APART, 1 << 30
    try:
        return random_bundle("m3vit_small", folder / "together", widths=WIDTHS)
    finally:
        lowering.GATHER_APART = usual


def profile(bundle: Bundle, folder: Path, runs: int) -> Section:
    """Where the time goes, narrow and wide."""
    columns = {
        f"width {width:g}": by_operator(
            bundle, bundle.graph("encoder", bundle.manifest.sizes[0], width), folder, max(runs, 20)
        )
        for width in WIDTHS
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
    parser.add_argument("--cache", type=Path, help="where exports are kept from one run to the next")
    parser.add_argument("--quick", action="store_true", help="few repeats, nothing kept")
    arguments = parser.parse_args()
    repeats, runs = (2, 5) if arguments.quick else (10, 25)
    with tempfile.TemporaryDirectory(prefix="slimpath-bench-") as scratch:
        folder = arguments.cache or Path(scratch)
        nano, small = Bundle.open(bundled_path()), random_bundle("m3vit_small", folder, widths=WIDTHS)
        together, dense = gathered_together(folder), random_bundle("vit_small", folder)
        found = [measure(nano, width, None, repeats, runs) for width in WIDTHS]
        found.append(measure(nano, 0.25, None, repeats, runs, every=True))
        found += [measure(small, width, together, repeats, runs) for width in WIDTHS]
        found.append(batch(small, together, dense, repeats, max(3, runs // IMAGES)))
        found += [profile(bundle, Path(scratch), runs) for bundle in (nano, small)]
    for title, text, _ in found:
        print(f"\n## {title}\n\n{text}", flush=True)
    if not arguments.quick:
        keep("tried", found)


if __name__ == "__main__":
    main()
