"""`slimpath run`: tasks of images, as pictures and arrays."""

from __future__ import annotations

import io
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    BAD_INPUT,
    BackendName,
    Budget,
    BundlePath,
    Debug,
    Json,
    Packs,
    Precision,
    Tasks,
    describe,
    is_expected,
    load_engine,
    say,
    verb,
)
from .files import ImageInput, find_images, write_together
from .output import human_flops, percent, print_json, progress_bar

if TYPE_CHECKING:
    import numpy as np

    from ..runtime import Engine, Plan, Result


class OutputSize(str, Enum):
    network = "network"
    original = "original"


class Raw(str, Enum):
    none = "none"
    npz = "npz"


@verb
def run(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help='Files, folders, or patterns such as "*.jpg".')
    ],
    bundle: BundlePath = None,
    tasks: Tasks = None,
    budget: Budget = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")] = Path("slimpath-out"),
    raw: Annotated[Raw, typer.Option("--raw", help="Also write the arrays, one .npz per image.")] = Raw.none,
    output_size: Annotated[
        OutputSize, typer.Option("--output-size", help="Size of the arrays: the network's plane or the original image.")
    ] = OutputSize.network,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a budget that nothing fits, instead of running the smallest.")
    ] = False,
    panel: Annotated[
        bool, typer.Option("--panel/--no-panel", help="Also write one picture with all tasks side by side.")
    ] = True,
    backend: BackendName = "onnxruntime",
    precision: Precision = "fp32",
    pack: Packs = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run tasks on images; write one picture per task and a panel.

    One image that cannot be read does not stop the others; the exit code is then 2.

    \b
    Examples:
      slimpath run room.jpg
      slimpath run photos/ --tasks depth,edge --budget 0.5 --out pictures
      slimpath run "*.png" --budget 300MFLOPs --raw npz --no-panel --json
      slimpath run room.jpg --pack layout.pack --tasks layout,depth
    """
    inputs = find_images(images, out)
    reports: list[dict[str, Any]] = []
    with (
        load_engine(bundle, backend=backend, precision=precision, packs=pack) as engine,
        progress_bar("running", len(inputs), shown=not json) as progress,
    ):
        plan = engine.plan(tasks, budget, strict=strict)
        engine(_grey(plan.size_hw), budget=plan)  # loads the graphs, which is no part of what an image takes
        for entry in inputs:
            try:
                reports.append(
                    _run_one(engine, entry, plan, out, output_size is OutputSize.original, raw is Raw.npz, panel)
                )
            except Exception as error:  # a bad image; anything else is a defect and stops the run
                if not is_expected(error):
                    raise
                reports.append({"image": str(entry.path), "error": describe(error)})
                say(
                    f"slimpath: {entry.path}: {describe(error)}"
                    if str(entry.path) not in describe(error)
                    else f"slimpath: {describe(error)}"
                )
            progress.advance(progress.task_ids[0])
    failed = sum("error" in report for report in reports)
    if json:
        print_json({"bundle": str(engine.bundle.path), "plan": plan.to_json(), "images": reports, "failed": failed})
    else:
        _print_summary(reports, plan, out, failed)
    if failed:
        raise typer.Exit(BAD_INPUT)


def _grey(size_hw: tuple[int, int]) -> np.ndarray:
    import numpy as np

    return np.full((*size_hw, 3), 128, np.uint8)


def _run_one(
    engine: Engine, entry: ImageInput, plan: Plan, out: Path, original: bool, raw: bool, with_panel: bool
) -> dict[str, Any]:
    """Run one image and write its files; the report says what was made."""
    from ..runtime import load_image
    from ..runtime.imaging.pictures import SINGLE_PX, panel, png_bytes, single, task_cells

    # Decoded twice, as a large JPEG is scaled down meanwhile: to draw on for a screen, for the network further. Of the
    # picture to draw on, answers would differ from those of `engine(path)`, and timings would lack the decoding.
    image = load_image(entry.path, plane_hw=(SINGLE_PX[1], SINGLE_PX[1])).rgb
    result = engine(entry.path, budget=plan, output_size="original" if original else "network")
    base = out / entry.stem
    files: dict[Path, bytes] = {}
    for name, cell in task_cells(result, image).items():
        files[base.with_name(f"{base.name}.{name}.png")] = png_bytes(single(cell))
    if with_panel:
        page = panel(result, image, title=entry.path.name, subtitle=caption(result))
        files[base.with_name(f"{base.name}.panel.png")] = png_bytes(page)
    if raw:
        files[base.with_name(f"{base.name}.npz")] = npz_bytes(dict(result))
    write_together(files)
    return {
        "image": str(entry.path),
        "size_hw": list(result.image_size_hw),
        "labels": labels(result),
        "timings_ms": result.timings_ms,
        "files": [str(path) for path in files],
    }


def labels(result: Result) -> dict[str, dict[str, Any]]:
    """The best class of every image-level task, with its probability."""
    named = {name: result.label(name) for name in result if result.specs[name].kind == "image_classes"}
    return {name: {"label": label, "probability": probability} for name, (label, probability) in named.items()}


def caption(result: Result) -> str:
    """What was run and what it took, in one line."""
    plan = result.plan
    experts = f", top-{plan.top_k}" if plan.top_k else ""
    cost = f"{human_flops(plan.flops)} ({percent(plan.share)} of full)"
    return f"width {plan.encoder_width:g}{experts}, {cost}, {result.timings_ms['total']:.1f} ms"


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as a compressed .npz file, one entry per task."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]  # its stub knows no names
    return buffer.getvalue()


def _print_summary(reports: list[dict[str, Any]], plan: Plan, out: Path, failed: int) -> None:
    for report in reports:
        if "error" in report:
            continue
        named = "".join(
            f"  {task}: {best['label']} {best['probability']:.0%}" for task, best in report["labels"].items()
        )
        print(f"{report['image']}  {report['timings_ms']['total']:.1f} ms{named}  -> {report['files'][-1]}")
    done = len(reports) - failed
    print(
        f"{done} of {len(reports)} images at width {plan.encoder_width:g}, {human_flops(plan.flops)} "
        f"({percent(plan.share)} of full); pictures in {out}"
    )
