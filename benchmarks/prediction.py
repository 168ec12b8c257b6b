"""How near predictions come: `python benchmarks/prediction.py` writes docs/prediction.json and docs/prediction.md.

Each profile is measured by `slimpath calibrate` in a process of its own. Then this process draws random configurations
(other ones than calibration drew): tasks, widths, top_k, input sizes, pictures of sizes that calibration never saw.
It times them in turn, in rounds, and holds the medians against what the profiles say. The two halves of the rounds
against each other (A/A) show how much of an error is the measurement's own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from method import machine, table

from slimpath.runtime import Bundle, Engine, bundled_path
from slimpath.runtime.profiling.calibrate_bench import default_pictures, resized
from slimpath.runtime.profiling.calibrate_calls import CallSpec, draw_calls
from slimpath.runtime.profiling.calibrate_rounds import Probe, evaluate_rounds, run_rounds, time_once
from slimpath.runtime.profiling.profile import Profile, conditions_of
from slimpath.runtime.profiling.profile_data import ProfileData, read_profile

DOCS = Path(__file__).resolve().parent.parent / "docs"
IMAGE_SIZES_HW = ((224, 224), (375, 500), (480, 640), (600, 800), (768, 1024), (1080, 1920), (1500, 2000))
SEED = 1  # calibration draws with 0


@dataclass(frozen=True)
class Measured:
    """One configuration: medians of all rounds and of each half of them, in ms."""

    spec: CallSpec
    median_ms: float
    halves_ms: tuple[float, float]


def calibrate(bundle: Path, seconds: float, backend: str, cache: Path) -> ProfileData:
    """A profile, measured by the command in its own process, as a user would."""
    command = [sys.executable, "-m", "slimpath", "calibrate", str(bundle), "--time", f"{seconds}s", "--json"]
    environment = {**os.environ, "SLIMPATH_CACHE": str(cache)}
    done = subprocess.run(
        [*command, "--backend", backend, "--no-parity"], env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    return read_profile(Path(json.loads(done.stdout)["path"]))


def draw(engine: Engine, count: int) -> list[CallSpec]:
    """Random configurations with random pictures."""
    files = {graph.file for graph in engine.bundle.manifest.graphs}
    rng = random.Random(SEED)
    return [
        CallSpec(spec.plan, rng.choice(IMAGE_SIZES_HW), fitted=False)
        for spec in draw_calls(engine, files, count, seed=SEED)
    ]


def measure(engine: Engine, specs: Sequence[CallSpec], seconds: float) -> list[Measured]:
    """Time every configuration in turn for so long."""
    pictures = [resized(default_pictures()[0], image_hw) for image_hw in IMAGE_SIZES_HW]
    by_size = dict(zip(IMAGE_SIZES_HW, pictures))
    probes: list[Probe[CallSpec]] = []
    for spec in specs:

        def run(spec: CallSpec = spec) -> object:
            return engine(by_size[spec.image_hw], budget=spec.plan)

        run()
        probes.append(Probe(spec, run, expected_ms=time_once(run, time.perf_counter)))
    rounds = run_rounds(probes, until_s=time.perf_counter() + seconds, seed=SEED)
    whole = evaluate_rounds(probes)
    halves = []
    for part in (slice(0, rounds // 2), slice(rounds // 2, None)):
        cut = [Probe(p.subject, p.run, p.expected_ms, p.blocks_ms[part]) for p in probes]
        halves.append(evaluate_rounds(cut))
    return [
        Measured(probe.subject, all_.median_ms, (first.median_ms, second.median_ms))
        for probe, all_, first, second in zip(probes, whole.timings, halves[0].timings, halves[1].timings)
    ]


def errors(profile: Profile, measured: Sequence[Measured]) -> np.ndarray:
    """[N], predicted over measured - 1."""
    points = [item.spec.as_point(item.median_ms, item.median_ms, 1) for item in measured]
    predicted = np.array([profile.configuration_ms(point) for point in points])
    return predicted / np.array([item.median_ms for item in measured]) - 1


def summary(found: np.ndarray) -> dict[str, float]:
    """What matters of relative errors; `unbiased` is with their common factor taken off, as the controller does."""
    factor = float(np.median(1 + found))
    unbiased = np.abs((1 + found) / factor - 1)
    size = np.abs(found)
    return {
        "median": float(np.median(size)),
        "p90": float(np.percentile(size, 90)),
        "worst": float(size.max()),
        "common_factor": factor,
        "median_unbiased": float(np.median(unbiased)),
        "p90_unbiased": float(np.percentile(unbiased, 90)),
    }


def main() -> None:
    """Calibrate, measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=None, help="a bundle (default: the bundled model)")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--times", default="10,30,60", help="seconds of calibration, one profile each")
    parser.add_argument("--count", type=int, default=240, help="random configurations")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to time them")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of prediction.json and prediction.md")
    arguments = parser.parse_args()
    path = arguments.bundle or bundled_path()
    with tempfile.TemporaryDirectory(prefix="slimpath-prediction-") as cache:
        profiles = {}
        for text in arguments.times.split(","):
            print(f"calibrating for {text} s", flush=True)
            profiles[text] = calibrate(path, float(text), arguments.backend, Path(cache) / text)
    bundle = Bundle.open(path)
    print(f"timing {arguments.count} random configurations for {arguments.seconds:.0f} s", flush=True)
    with Engine.load(bundle, backend=arguments.backend, tier="packed", profile=None) as engine:
        measured = measure(engine, draw(engine, arguments.count), arguments.seconds)
        now = conditions_of(bundle, engine.backend, engine.tier)
    document = report(bundle, {name: Profile(data, bundle.manifest) for name, data in profiles.items()}, measured)
    document["machine"] = machine()
    document["conditions"] = {"backend": now.backend, "version": now.backend_version, "threads": now.threads}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "prediction.json").write_text(json.dumps(document, indent=1) + "\n")
    text = as_markdown(document)
    (arguments.out / "prediction.md").write_text(text)
    print(text)


def report(bundle: Bundle, profiles: dict[str, Profile], measured: Sequence[Measured]) -> dict[str, Any]:
    """All figures."""
    halves = np.array([item.halves_ms for item in measured])
    rows = {}
    for name, profile in profiles.items():
        found = errors(profile, measured)
        groups = {
            "tasks": {
                str(n): _group(found, [len(m.spec.plan.decoder_widths) == n for m in measured]) for n in range(1, 16)
            },
            "encoder width": {
                f"{w:g}": _group(found, [m.spec.plan.encoder_width == w for m in measured])
                for w in bundle.manifest.widths
            },
            "picture": {
                f"{w}x{h}": _group(found, [m.spec.image_hw == (h, w) for m in measured]) for h, w in IMAGE_SIZES_HW
            },
        }
        quality = profile.data.quality
        rows[name] = {
            "errors": summary(found),
            "measured_points": len(profile.data.graphs),
            "possible_points": quality.points_possible,
            "held_out_median": quality.median_error,
            "headroom": profile.headroom,
            "others_busy": quality.others_busy,
            "groups": {title: {k: v for k, v in group.items() if v is not None} for title, group in groups.items()},
        }
    return {
        "bundle": bundle.manifest.name,
        "configurations": len(measured),
        "latency_ms": {
            "least": min(m.median_ms for m in measured),
            "median": float(np.median([m.median_ms for m in measured])),
            "most": max(m.median_ms for m in measured),
        },
        "aa_median": float(np.median(np.abs(halves[:, 0] / halves[:, 1] - 1))),
        "profiles": rows,
    }


def _group(found: np.ndarray, chosen: list[bool]) -> float | None:
    return float(np.median(np.abs(found[chosen]))) if any(chosen) else None


def as_markdown(document: dict[str, Any]) -> str:
    """The page."""
    latency, where = document["latency_ms"], document["conditions"]
    rows = [
        [
            f"{name} s",
            f"{row['measured_points']} of {row['possible_points']}",
            _percent(row["errors"]["median"]),
            _percent(row["errors"]["p90"]),
            f"{row['errors']['common_factor']:.3f}",
            _percent(row["errors"]["median_unbiased"]),
            _percent(row["errors"]["p90_unbiased"]),
            f"{row['headroom']:.2f}",
        ]
        for name, row in document["profiles"].items()
    ]
    head = ["calibrated for", "points measured", "median error", "90 % within", "common factor", "median without it",
            "90 % within, without it", "p95 / median"]  # fmt: skip
    last = list(document["profiles"].values())[-1]
    groups = [
        [title, name, _percent(value)] for title, group in last["groups"].items() for name, value in group.items()
    ]
    lines = [
        "# Predicted against measured latency",
        "",
        "Written by `python benchmarks/prediction.py`; its first lines say how it is done.",
        "",
        *(f"- {name}: {value}" for name, value in document["machine"].items()),
        f"- {document['bundle']}, {where['backend']} {where['version']}, {where['threads']} threads, packed",
        f"- {document['configurations']} random configurations, {latency['least']:.1f} to {latency['most']:.1f} ms, "
        f"median {latency['median']:.1f} ms",
        f"- the first half of the timings against the second (A/A): {_percent(document['aa_median'])} apart (median)",
        "",
        table(head, rows),
        "The common factor is what all predictions are off by alike: processes differ, and the engine's controller "
        "takes it off while it runs.",
        "",
        "Median error by kind of configuration, longest calibration:",
        "",
        table(["by", "", "median error"], groups),
    ]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
