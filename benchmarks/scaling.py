"""How latency follows width, and what experts cost over a dense encoder: `python benchmarks/scaling.py`.

Width: the encoder of `m3vit_small` at each width beside a dense ViT cut to the same heads and hidden units, written as
a plain module and exported alone (`plain.py`), in the same kind of session. The dense one has the same active FLOPs.
Targets: width 0.25 at most 0.36 of full, and at every width latency <= 1.10 x dense x (full-width MoE / dense).

Experts: `m3vit_small` (16 experts, top-4) beside `vit_small`, both slimpath's, for batches of images of one task.
Targets: at most 1.25 x dense, from a batch of 4 on 1.1 x.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from graphs import encoder_feeds, load, random_bundle, runner, small_bundle
from method import Timing, in_turn, interval, table, verdict, with_interval
from page import Section, keep
from peers import export_plain, subject

from slimpath.runtime import Bundle
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundled import bundled_path

NARROW_TARGET, DENSE_TARGET = 0.36, 1.10
TAX_TARGETS = {1: 1.25, 4: 1.10, 8: 1.10}


def widths(sparse: Bundle, dense: Bundle, folder: Path, repeats: int, runs: int) -> Section:
    """Every width of the sparse encoder beside the dense one cut to it."""
    task, shares = sparse.manifest.task_names[:1], sparse.manifest.widths
    feeds = encoder_feeds(sparse, list(task))
    calls: dict[str, Callable[[], object]] = {}
    for share in shares:
        calls[f"MoE {share:g}"] = runner(load(sparse, "encoder", share), feeds)
        its = subject(dense, share)
        session = OrtBackend().load(export_plain(its, "loop", folder).read_bytes(), folder)
        plain = {session.inputs[0]: its.feeds["image"]}
        calls[f"dense {share:g}"] = runner(session, plain)
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows = [_width_row(timing, share) for share in shares]
    head = ["width", "ms", "/ full", f"<= {NARROW_TARGET}", "dense cut to it, ms", "/ (dense x full-width tax)"]
    title = f"Width: `{sparse.manifest.name}` beside a dense ViT cut to the same heads and hidden units (encoder)"
    return title, table([*head, f"<= {DENSE_TARGET:g}"], rows), {"ms": dict(timing.repeats_ms)}


def _width_row(timing: Timing, share: float) -> list[str]:
    sparse, dense = f"MoE {share:g}", f"dense {share:g}"
    of_full = timing.ratio(sparse, "MoE 1")
    times = {name: np.array(values) for name, values in timing.repeats_ms.items()}
    beside = interval(times[sparse] / times[dense] / (times["MoE 1"] / times["dense 1"]))
    return [
        f"{share:g}",
        f"{timing.median_ms(sparse):.1f}",
        with_interval(of_full),
        verdict(of_full, NARROW_TARGET) if share == 0.25 else "",
        f"{timing.median_ms(dense):.1f}",
        with_interval(beside),
        verdict(beside, DENSE_TARGET) if share != 1 else "",
    ]


def tax(sparse: Bundle, dense: Bundle, repeats: int, runs: int) -> Section:
    """MoE over dense for several batches."""
    rows, raw = [], {}
    for batch, target in TAX_TARGETS.items():
        calls = {}
        for bundle in (sparse, dense):
            tasks = [bundle.manifest.task_names[0]] * batch
            calls[bundle.manifest.name] = runner(
                load(bundle, "encoder", 1.0), encoder_feeds(bundle, tasks, copies=True)
            )
        timing = in_turn(calls, repeats=repeats, runs=max(3, runs // batch))
        raw[str(batch)] = dict(timing.repeats_ms)
        ratio = timing.ratio(sparse.manifest.name, dense.manifest.name)
        ms = [f"{timing.median_ms(bundle.manifest.name):.1f}" for bundle in (sparse, dense)]
        rows.append([str(batch), *ms, with_interval(ratio), f"{target:g}", verdict(ratio, target)])
    head = ["images", f"`{sparse.manifest.name}`, ms", f"`{dense.manifest.name}`, ms", "MoE / dense", "<=", ""]
    return "Experts: MoE encoder over the dense one of the same active FLOPs (fp32, full width)", table(head, rows), raw


def sections(repeats: int, runs: int, folder: Path, small: Path | None = None) -> list[Section]:
    """Both tables for `m3vit_small`, and the widths of the bundled model."""
    sparse, dense = small_bundle(small or folder / "m3vit_small_all"), random_bundle("vit_small", folder)
    nano, vit_nano = Bundle.open(bundled_path()), random_bundle("vit_nano", folder)
    return [
        widths(sparse, dense, folder, repeats, runs),
        widths(nano, vit_nano, folder, repeats, runs),
        tax(sparse, dense, repeats, runs),
        tax(nano, vit_nano, repeats, runs),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--cache", type=Path, help="where exports are kept from one run to the next")
    parser.add_argument("--small", type=Path, help="m3vit_small with random weights; exported if missing")
    arguments = parser.parse_args()
    repeats, runs = (2, 5) if arguments.quick else (10, 50)
    with tempfile.TemporaryDirectory(prefix="slimpath-bench-") as scratch:
        folder = arguments.cache or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = sections(repeats, runs, folder, arguments.small)
    for title, text, _ in found:
        print(f"\n## {title}\n\n{text}", flush=True)
    if not arguments.quick:
        keep("scaling", found)


if __name__ == "__main__":
    main()
