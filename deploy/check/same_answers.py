"""Do two machines answer alike? `aarch64.sh` runs both halves.

    same_answers.py pictures DIR     writes the pictures that both are to answer
    same_answers.py compare A B      compares what `slimpath run --raw npz` wrote in two folders; exit code 1 if unlike

Floats may differ by 1e-4 * max(1, largest value): other instructions, another order of sums. Where two classes tie in
the last bits, the chosen id may differ: in at most 1 pixel of 1,000. The plans must be the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4
DIFFERING_PIXELS = 1e-3


def write_pictures(folder: Path) -> None:
    """The bundled rendered room and a photograph of scikit-image, as PNG: decoders agree on that to the bit."""
    import cv2
    import skimage.data

    import slimpath

    with np.load(Path(slimpath.__file__).parent / "assets" / "synthrooms_scene.npz") as scene:
        pictures = {"room": scene["image"], "astronaut": skimage.data.astronaut()}
    folder.mkdir(parents=True)
    for name, image_HW3 in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), image_HW3[..., ::-1])


def compare(here: Path, there: Path) -> bool:
    """Print a line for each array of each file; is all of it alike?"""
    files = sorted(path.relative_to(here) for path in here.rglob("*.npz"))
    others = sorted(path.relative_to(there) for path in there.rglob("*.npz"))
    if not files or files != others:
        print(f"the folders hold different files: {len(files)} and {len(others)}")
        return False
    alike = True
    worst: dict[str, float] = {}
    for file in files:
        with np.load(here / file) as ours, np.load(there / file) as theirs:
            if set(ours) != set(theirs):
                print(f"{file}: tasks differ, {sorted(ours)} and {sorted(theirs)}")
                return False
            for task in sorted(ours):
                difference, fits = difference_of(ours[task], theirs[task])
                worst[task] = max(worst.get(task, 0.0), difference)
                if not fits:
                    print(f"{file}: {task} differs by {difference:.2e}")
                    alike = False
    for task, difference in worst.items():
        print(f"{task:>12}  largest difference {difference:.1e}")
    print(f"{len(files)} files: {'alike' if alike else 'UNLIKE'} within {TOLERANCE:g} * max(1, largest value)")
    return alike


def difference_of(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, bool]:
    """How far two arrays are apart (class ids: share of other pixels), and whether that is within tolerance."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf"), False
    if ours.dtype.kind != "f":
        share = float(np.mean(ours != theirs))
        return share, share <= DIFFERING_PIXELS
    difference = float(np.max(np.abs(ours - theirs), initial=0.0))
    return difference, difference <= TOLERANCE * max(1.0, float(np.max(np.abs(ours), initial=0.0)))


def main(arguments: list[str]) -> int:
    """Exit code of one of the two forms above."""
    if len(arguments) == 2 and arguments[0] == "pictures":
        write_pictures(Path(arguments[1]))
        return 0
    if len(arguments) == 3 and arguments[0] == "compare":
        return 0 if compare(Path(arguments[1]), Path(arguments[2])) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
