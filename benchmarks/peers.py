"""slimpath beside what one would do by hand: `python benchmarks/peers.py` keeps a table each.

The peers run the same encoder written as a plain torch module (`plain.py`) for one task and one width: exported alone
to ONNX and run by ONNX Runtime as it comes, without spinning, and by OpenVINO; by eager torch; by torch.compile. All
work in one process, in turn with slimpath's encoder graph. Each answer is first held against eager torch on an image
whose routing is clear: within 1e-4 * max(1, max |reference|), or the table says how far off it is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from graphs import random_bundle
from method import Timing, in_turn, table, with_interval
from page import Section, keep
from plain import Experts, PlainEncoder

from slimpath.export.graphs import quiet
from slimpath.export.parity import encoder_case
from slimpath.export.reload import model_from_bundle
from slimpath.models import MultiTaskModel
from slimpath.runtime import Bundle
from slimpath.runtime.backends import make_backend
from slimpath.runtime.backends.base import Session
from slimpath.runtime.bundles.bundled import bundled_path
from slimpath.runtime.cpus import usable_cpus
from slimpath.runtime.errors import SlimpathError

Call = Callable[[], list[np.ndarray]]
OURS = "slimpath"
GATE = 1e-4


@dataclass(frozen=True)
class Subject:
    """One encoder at one width, with the inputs and answers that all candidates are given and held to."""

    bundle: Bundle
    model: MultiTaskModel
    width: float
    feeds: dict[str, np.ndarray]
    reference: list[np.ndarray]

    @property
    def task(self) -> str:
        return self.bundle.manifest.task_names[0]

    @property
    def is_moe(self) -> bool:
        return self.bundle.manifest.is_moe


def subject(bundle: Bundle, width: float) -> Subject:
    """One row of the first task at full top_k, on an image whose routing is clear."""
    model, _ = model_from_bundle(bundle)
    case = encoder_case(model, width, [(bundle.manifest.task_names[0], bundle.manifest.encoder.top_k or 1)])
    answers = [case.features.tokens_BND, case.features.detail_ICHW]
    feeds = {name: value.detach().numpy() for name, value in case.inputs.items()}
    return Subject(bundle, model, width, feeds, [answer.numpy() for answer in answers if answer is not None])


def ours(its: Subject, backend: str = "onnxruntime") -> Call:
    """The bundle's own graph in the packed tier."""
    graph = its.bundle.graph("encoder", its.bundle.manifest.sizes[0], its.width)
    chosen = make_backend(backend, bundle=its.bundle)
    session: Session = chosen.load(its.bundle.graph_bytes(graph), its.bundle.path, tier="packed")
    return lambda: list(session.run(its.feeds).values())


def export_plain(its: Subject, ways: Experts, folder: Path) -> Path:
    """The plain module, exported alone: weights inside, one image of one size."""
    path = folder / f"{its.bundle.manifest.name}-{its.width:g}-{ways}.onnx"
    if not path.exists():
        module = PlainEncoder(its.model, its.width, its.task, ways)
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, (torch.from_numpy(its.feeds["image"]),), dynamo=True, opset_version=20, verbose=False
            )
            assert program is not None
            program.save(str(path), external_data=False)
    return path


def onnxruntime_plain(path: Path, its: Subject, *, spin: bool, load: bool = True) -> Call:
    """ONNX Runtime as it comes, or with its threads told not to spin."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not spin:
        options.intra_op_num_threads = usable_cpus()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: its.feeds["image"]})


def openvino_plain(path: Path, its: Subject, precision: str) -> Call:
    """OpenVINO on the same file, tuned for latency."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()

    def call() -> list[np.ndarray]:
        found = request.infer([its.feeds["image"]], share_inputs=True, share_outputs=True)
        return [found[output] for output in compiled.outputs]

    return call


def torch_plain(its: Subject, ways: Experts, *, compiled: bool) -> Call:
    module: Any = PlainEncoder(its.model, its.width, its.task, ways)
    run = torch.compile(module) if compiled else module
    image = torch.from_numpy(its.feeds["image"])

    def call() -> list[np.ndarray]:
        with torch.inference_mode():
            return [answer.numpy() for answer in run(image)]

    return call


def peers_of(its: Subject, folder: Path) -> dict[str, Callable[[], Call]]:
    """Names and makers; making one may fail, and the table then says why."""
    ways: list[Experts] = ["loop", "all"] if its.is_moe else ["loop"]
    words = {"loop": ", loop over experts" if its.is_moe else "", "all": ", every expert on every token"}
    found: dict[str, Callable[[], Call]] = {}
    for way in ways:
        note = words[way]
        found |= {
            f"ONNX Runtime, plain export{note}, as it comes": lambda way=way: onnxruntime_plain(
                export_plain(its, way, folder), its, spin=True
            ),
            f"ONNX Runtime, plain export{note}, no spinning": lambda way=way: onnxruntime_plain(
                export_plain(its, way, folder), its, spin=False
            ),
            f"OpenVINO fp32, plain export{note}": lambda way=way: openvino_plain(
                export_plain(its, way, folder), its, "f32"
            ),
            f"OpenVINO bf16, plain export{note}": lambda way=way: openvino_plain(
                export_plain(its, way, folder), its, "bf16"
            ),
            f"torch, eager{note}": lambda way=way: torch_plain(its, way, compiled=False),
            f"torch.compile{note}": lambda way=way: torch_plain(its, way, compiled=True),
        }
    return found


def error_of(answers: list[np.ndarray], its: Subject) -> float:
    """Largest error over what the gate allows: 1 is at the gate."""
    pairs = zip(answers, its.reference, strict=True)
    return max(
        float(np.abs(answer.astype(np.float32) - right).max()) / (GATE * max(1.0, float(np.abs(right).max())))
        for answer, right in pairs
    )


def measure(bundle: Bundle, width: float, folder: Path, repeats: int, runs: int) -> Section:
    """One table: slimpath's packed encoder, `--backend auto`, and every peer that can be made."""
    its = subject(bundle, width)
    makers: dict[str, Callable[[], Call]] = {
        OURS: lambda: ours(its),
        "slimpath again": lambda: ours(its),
        "slimpath, auto": lambda: ours(its, "auto"),
        **peers_of(its, folder),
    }
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    for name, make in makers.items():
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                calls[name] = make()
                errors[name] = error_of(calls[name](), its)
        except (SlimpathError, Exception) as error:  # a peer's own failure is a result
            calls.pop(name, None)
            failures[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:90]}"
    timing = in_turn(calls, repeats=repeats, runs=runs)
    rows = [_row(name, timing, errors) for name in calls]
    rows += [[name, "–", "–", f"cannot be made ({why})"] for name, why in failures.items()]
    text = table(["encoder, one row", "ms", "/ slimpath", "largest error / gate"], rows)
    raw = {"ms": dict(timing.repeats_ms), "errors": errors, "failures": failures}
    return f"Peers: `{bundle.manifest.name}`, width {width:g}", text, raw


def _row(name: str, timing: Timing, errors: dict[str, float]) -> list[str]:
    error = errors[name]
    gate = f"{error:.2f}" if error <= 1 else f"{error:.0f}: fails" if error >= 10 else f"{error:.1f}: fails"
    return [name, f"{timing.median_ms(name):.1f}", with_interval(timing.ratio(name, OURS)), gate]


def sections(repeats: int, runs: int, folder: Path) -> Iterator[Section]:
    """The bundled model and the small ones, at full and quarter width."""
    for name in (None, "m3vit_small", "vit_small"):
        bundle = Bundle.open(bundled_path()) if name is None else random_bundle(name, folder, widths=(0.25, 1.0))
        for width in (1.0, 0.25):
            yield measure(bundle, width, folder, repeats, runs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--cache", type=Path, help="where exports are kept from one run to the next")
    arguments = parser.parse_args()
    repeats, runs = (2, 5) if arguments.quick else (10, 30)
    with tempfile.TemporaryDirectory(prefix="slimpath-bench-") as scratch:
        folder = arguments.cache or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found: list[Section] = []
        for section in sections(repeats, runs, folder):
            found.append(section)
            print(f"\n## {section[0]}\n\n{section[1]}", flush=True)
            if not arguments.quick:
                keep("peers", found)  # after each: it takes long


if __name__ == "__main__":
    main()
