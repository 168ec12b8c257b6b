"""The bundled model on photographs: `python benchmarks/photographs.py --write`.

None of these photographs was trained on. Writes into docs/photographs.md how often depth orders two places of
scikit-image's motorcycle rightly (a stereo pair tells the truth), and a contact sheet of every colour photograph of
scikit-image, scikit-learn and matplotlib that shows a scene (scikit-learn is no dependency: install it beside).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from method import machine, table
from page import put_figures
from small_jpeg import jpeg

from slimpath.cli.demo_sheets import Subject, contact_sheet
from slimpath.runtime import Engine, Result, bundled_path
from slimpath.runtime.imaging.images import load_image
from slimpath.runtime.imaging.pictures import display_image, task_cell
from slimpath.runtime.imaging.pictures_layout import Cell, flow, sheet
from slimpath.runtime.tasks import TaskSpec
from slimpath.training.depth_order import BASELINES, MIN_RATIO, ROWS_APART, draw_pairs, order_share

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, KEPT, IMAGES = DOCS / "photographs.md", DOCS / "measured" / "photographs.json", DOCS / "images"
PAIRS, SEEDS = 200_000, (0, 1, 2)
GOALS = {"random": 0.80, "row": 0.76}
PHOTOGRAPHS = {
    "skimage": ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn": ("china.jpg", "flower.jpg"),
    "matplotlib": ("grace_hopper.jpg",),
}
LEFT_OUT = {
    "motorcycle_right": "the same scene once more, the other picture of the stereo pair",
    "hubble_deep_field": "galaxies, with no surface that has a depth or a direction",
    "ihc": "stained tissue under a microscope",
    "retina": "the inside of an eye",
}
"""Colour photographs that come with scikit-image and are not shown, and why."""
FOLDERS = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}


def photographs() -> tuple[dict[str, np.ndarray], list[str]]:
    """uint8 RGB by name, and the names of those whose package is not installed."""
    found: dict[str, np.ndarray] = {}
    absent: list[str] = []
    for package, files in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
        for file in files:
            path = next((p for place in places if (p := place / FOLDERS[package] / file).is_file()), None)
            if path is None:
                absent.append(f"{package}'s {file}")
            else:
                found[path.stem.removesuffix("_left")] = load_image(path).rgb
    return found, absent


def disparity() -> np.ndarray:
    """Of scikit-image's motorcycle, in pixels of its left picture; inf where unknown."""
    from skimage import data

    return data.stereo_motorcycle()[2]


def depth_of(engine: Engine, image_HWC: np.ndarray, width: float) -> np.ndarray:
    """Metres at the size of the picture."""
    return engine(image_HWC, ["depth"], f"width={width}", output_size="original")["depth"]


def candidates_of(engine: Engine, image_HWC: np.ndarray, size_hw: tuple[int, int]) -> dict[str, np.ndarray]:
    """What orders -> metres or any other number that grows with them."""
    candidates = {name: baseline(size_hw) for name, baseline in BASELINES.items()}
    for width in sorted(engine.bundle.manifest.widths, reverse=True):
        candidates[f"depth at width {width:g}"] = depth_of(engine, image_HWC, width)
    return candidates


def ways_of(engine: Engine, image_HWC: np.ndarray) -> dict[str, np.ndarray]:
    """What several answers to one photograph come to, taken together: means of log metres."""
    widths = sorted(engine.bundle.manifest.widths)

    def both(width: float) -> np.ndarray:
        mirrored = np.ascontiguousarray(image_HWC[:, ::-1])
        return _mean([depth_of(engine, image_HWC, width), depth_of(engine, mirrored, width)[:, ::-1]])

    return {
        "with its mirror image": both(widths[-1]),
        "all widths": _mean([depth_of(engine, image_HWC, width) for width in widths]),
        "all widths, with mirror images": _mean([both(width) for width in widths]),
        "the whole, and nine parts of two thirds": _with_parts(engine, image_HWC, widths[-1]),
    }


def _mean(depths: Sequence[np.ndarray]) -> np.ndarray:
    return np.exp(np.mean(np.log(np.stack(depths)), axis=0))


def _with_parts(engine: Engine, image_HWC: np.ndarray, width: float) -> np.ndarray:
    """Each part is brought to the scale of the whole; details are seen larger in it."""
    whole = np.log(depth_of(engine, image_HWC, width))
    total, count = whole.copy(), np.ones_like(whole)
    high, wide = (2 * side // 3 for side in whole.shape)
    for top in (0, (whole.shape[0] - high) // 2, whole.shape[0] - high):
        for left in (0, (whole.shape[1] - wide) // 2, whole.shape[1] - wide):
            place = slice(top, top + high), slice(left, left + wide)
            part = np.log(depth_of(engine, np.ascontiguousarray(image_HWC[place]), width))
            total[place] += part + np.median(whole[place] - part)
            count[place] += 1
    return np.exp(total / count)


def order_shares(candidates: Mapping[str, np.ndarray], true_HW: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """Candidate -> set of pairs -> share ordered rightly, of every seed."""
    found: dict[str, dict[str, list[float]]] = {name: {"random": [], "row": []} for name in candidates}
    for seed in SEEDS:
        for kind in GOALS:
            pairs = draw_pairs(true_HW, PAIRS, same_row=kind == "row", seed=seed)
            for name, candidate in candidates.items():
                found[name][kind].append(order_share(candidate, true_HW, pairs))
    return found


def order_sheet(engine: Engine, image_HWC: np.ndarray, true_HW: np.ndarray) -> np.ndarray:
    """The photograph, true and predicted nearness, each in the range of its own values."""
    shown = display_image(image_HWC, 640)
    spec = TaskSpec("depth", "depth", 1)
    known = np.isfinite(true_HW)
    # Only the order is true of it: the inverse of disparity, the unknown as far as the farthest.
    inverse = np.where(known, 1 / np.where(known, true_HW, 1), 1 / true_HW[known].min()).astype(np.float32)
    cells = [Cell(shown, "photograph"), _depth_cell(spec, inverse, shown, "true order (stereo)")]
    widths = engine.bundle.manifest.widths
    for width in (max(widths), min(widths)):
        depth = depth_of(engine, image_HWC, width)
        cells.append(_depth_cell(spec, depth, shown, f"depth at width {width:g}"))
    return sheet(flow(cells, 380, 2), "Motorcycle: what is near", "near is bright")


def _depth_cell(spec: TaskSpec, values: np.ndarray, shown: np.ndarray, title: str) -> Cell:
    return Cell(task_cell(spec, values, shown).picture_HWC, title)


def page_text(measured: dict[str, Any]) -> str:
    """What stands between the marks."""
    rows = []
    for name, shares in measured["shares"].items():
        cells = [_share(shares[kind]) for kind in GOALS]
        if name.startswith("depth"):
            cells = [
                f"{cell}, {'reached' if min(shares[kind]) >= goal else 'missed'}"
                for cell, (kind, goal) in zip(cells, GOALS.items(), strict=True)
            ]
        rows.append([name, *cells])
    tried = [[name, *(_share(shares[kind]) for kind in GOALS)] for name, shares in measured["ways"].items()]
    head = ["what orders", f"random pairs (goal {GOALS['random']:.0%})", f"same row (goal {GOALS['row']:.0%})"]
    made = measured["machine"]
    left_out = "; ".join(f"{name} ({reason})" for name, reason in LEFT_OUT.items())
    absent = f" Not installed, and left out: {', '.join(measured['absent'])}." if measured["absent"] else ""
    return f"""\
`python benchmarks/photographs.py --write`, {made["processor"]}, {made["system"]}, {made["versions"]}.
Bundle `{measured["bundle"]}`, weights SHA-256 `{measured["weights_sha256"][:16]}...`. {PAIRS:,} pairs of each set, \
mean of {len(SEEDS)} seeds with the least and the most.

{table(head, rows)}
Same row: at most {ROWS_APART} rows apart, one disparity more than {MIN_RATIO:g} times the other.

Tried on top, at full width where nothing else is said; none of it is built in, as each costs several answers:

{table(["several answers taken together", "random pairs", "same row"], tried)}

![The motorcycle: photograph, true order, predicted depth at two widths](images/photographs-motorcycle.jpg)

## Contact sheet

{len(measured["photographs"])} photographs: {", ".join(measured["photographs"])}.{absent}
Of the colour photographs that come with the three packages these are left out: {left_out}. \
What is no photograph, or grey, is not among them.

![Every photograph with every task at full width](images/photographs.jpg)"""


def _share(shares: list[float]) -> str:
    return f"{np.mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=bundled_path(), help="another one, to compare with")
    parser.add_argument("--write", action="store_true", help="into docs/, with the pictures")
    arguments = parser.parse_args()
    found, absent = photographs()
    if "motorcycle" not in found:
        raise SystemExit("expected scikit-image, which has the stereo photograph; install it beside: scikit-image")
    with Engine.load(arguments.bundle, profile=None) as engine:
        true_HW = disparity()
        motorcycle = found["motorcycle"]
        shares = order_shares(candidates_of(engine, motorcycle, true_HW.shape), true_HW)
        ways = order_shares(ways_of(engine, motorcycle), true_HW)
        results: list[Result] = [engine(image) for image in found.values()]
        manifest = engine.bundle.manifest
        measured = {
            "shares": shares,
            "ways": ways,
            "photographs": list(found),
            "absent": absent,
            "bundle": manifest.name,
            "weights_sha256": manifest.weights.sha256,
            "machine": machine(),
        }
        subjects = [Subject(name, image, {}) for name, image in found.items()]
        contact = contact_sheet(
            subjects, results, "Photographs", f"{manifest.name} at full width; nothing of them was trained on"
        )
        ordered = order_sheet(engine, motorcycle, true_HW)
    print(page_text(measured))
    if arguments.write:
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
        (IMAGES / "photographs.jpg").write_bytes(jpeg(contact))
        (IMAGES / "photographs-motorcycle.jpg").write_bytes(jpeg(ordered))
        put_figures(PAGE, Path(__file__).name, page_text(measured))


if __name__ == "__main__":
    main()
