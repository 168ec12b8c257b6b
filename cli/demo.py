"""`slimpath demo`: real photographs, and a rendered room beside its ground truth, at several widths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import BackendName, BundlePath, Debug, Json, Precision, load_engine, need, parse_numbers, verb
from .errors import InputError
from .files import write_together
from .output import human_flops, percent, print_json, print_table, progress_bar
from .run import caption, labels

if TYPE_CHECKING:
    import numpy as np

    from ..runtime import Engine, Result
    from .demo_sheets import Subject

# Those of scikit-image's photographs that lie in its wheel (the others are downloaded on first use).
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "motorcycle")
_LOADERS = {"motorcycle": "stereo_motorcycle"}  # a garage; the left one of two views
ROOM = "synthrooms"
ROOM_FILE = Path(__file__).resolve().parent.parent / "assets" / "synthrooms_scene.npz"


@verb
def demo(
    bundle: BundlePath = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")] = Path("slimpath-demo"),
    widths: Annotated[
        str, typer.Option("--widths", metavar="LIST", help="Widths to compare, one row each.")
    ] = "1,0.5,0.25",
    backend: BackendName = "onnxruntime",
    precision: Precision = "fp32",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show all tasks of real photographs at several widths: what the knob costs and what it gives.

    Writes one sheet per photograph (rows: widths, columns: tasks, with milliseconds and FLOPs), one of a rendered room
    beside its ground truth, and a contact sheet of everything at the largest width.

    \b
    Examples:
      slimpath demo
      slimpath demo --widths 1,0.25 --out pictures
    """
    need(("skimage",), "demo", "`slimpath demo`")
    chosen = parse_numbers(widths, "--widths", 0, 1)
    from ..runtime.imaging.pictures import png_bytes
    from .demo_sheets import contact_sheet, knob_sheet

    subjects = load_subjects()
    reports: list[dict[str, Any]] = []
    widest: list[Result] = []
    contact = out / "contact-sheet.png"
    with (
        load_engine(bundle, backend=backend, precision=precision) as engine,
        progress_bar("drawing", len(subjects), shown=not json) as progress,
    ):
        for subject in subjects:
            results = [run_timed(engine, subject.image_HWC, width) for width in chosen]
            path = out / f"{subject.name}.png"
            page = knob_sheet(subject, results, f"{subject.name}: one model, {len(chosen)} widths")
            write_together({path: png_bytes(page)})
            widest.append(results[0])
            reports.append(_report(subject.name, path, results))
            progress.advance(progress.task_ids[0])
        page = contact_sheet(subjects, widest, engine.bundle.manifest.name, caption(widest[0]))
        write_together({contact: png_bytes(page)})
    if json:
        print_json({"bundle": str(engine.bundle.path), "photographs": reports, "contact_sheet": str(contact)})
        return
    rows = [
        (report["name"], f"{run['width']:g}", human_flops(run["flops"]), percent(run["share"]), f"{run['ms']:.1f} ms")
        for report in reports
        for run in report["runs"]
    ]
    print_table("", ("photograph", "width", "cost", "of full", "time"), rows, numeric=(1, 2, 3, 4))
    print(f"{len(reports) + 1} pictures in {out}; start with {contact}")


def load_subjects() -> list[Subject]:
    """The photographs that scikit-image brings along, then the bundled room with its ground truth.

    Raises:
        InputError: scikit-image has none of them, or the room is damaged.
    """
    from .demo_sheets import Subject

    subjects = [Subject(name, image, {}) for name in PHOTOGRAPHS if (image := _photograph(name)) is not None]
    if not subjects:
        raise InputError("scikit-image brings none of its photographs along", hint='pip install "slimpath[demo]"')
    return [*subjects, load_room()]


def _photograph(name: str) -> np.ndarray | None:
    """One of scikit-image's photographs, or None where this version of it would have to download it."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    loader = _LOADERS.get(name, name)
    if not any(folder.glob(f"{name}*.png")) or not hasattr(skimage.data, loader):
        return None
    loaded = getattr(skimage.data, loader)()
    return (loaded[0] if isinstance(loaded, tuple) else loaded)[..., :3]


def load_room(path: Path = ROOM_FILE) -> Subject:
    """The rendered room that comes with slimpath, and its ground truth.

    Raises:
        InputError: the file is missing or is not such a room.
    """
    import numpy as np

    from .demo_sheets import Subject

    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        image = arrays.pop("image")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a rendered room: {error}", hint="install slimpath again") from None
    return Subject(ROOM, image, arrays)


def run_timed(engine: Engine, image_HWC: np.ndarray, width: float, repeats: int = 3) -> Result:
    """The run of median time out of `repeats`, after one that loads the graphs."""
    top_k = engine.bundle.manifest.encoder.top_k
    budget = f"width={width:g}" + (f",top_k={top_k}" if engine.bundle.manifest.is_moe else "")
    engine(image_HWC, budget=budget)
    results = [engine(image_HWC, budget=budget) for _ in range(repeats)]
    return sorted(results, key=lambda result: result.timings_ms["total"])[repeats // 2]


def _report(name: str, path: Path, results: list[Result]) -> dict[str, Any]:
    runs = [
        {
            "width": result.plan.encoder_width,
            "top_k": result.plan.top_k,
            "flops": result.plan.flops,
            "share": result.plan.share,
            "ms": result.timings_ms["total"],
            "labels": labels(result),
        }
        for result in results
    ]
    return {"name": name, "picture": str(path), "runs": runs}
