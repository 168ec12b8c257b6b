"""A film that nobody has to download: a camera that pans and zooms over photographs, with the noise of a sensor.

`python benchmarks/film.py film.mp4 --seconds 30`
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

ROOM = Path(__file__).resolve().parent.parent / "assets" / "synthrooms_scene.npz"
SCENE_S = 6.0
FADE_S = 0.5


def photographs() -> list[np.ndarray]:
    """uint8 RGB: those of scikit-image's wheel, and the bundled room."""
    from skimage import data

    with np.load(ROOM) as room:
        return [data.stereo_motorcycle()[0], data.coffee(), room["image"], data.astronaut(), data.chelsea()]


def frames(seconds: float, fps: float, size_hw: tuple[int, int], seed: int = 0) -> Iterator[np.ndarray]:
    """uint8 BGR frames; each photograph is filmed for six seconds, and fades into the next."""
    rng = np.random.default_rng(seed)
    scenes = photographs()
    noise = rng.normal(0, 2, (4, *size_hw, 3)).astype(np.int8)  # four fields in turn: enough to look alive
    for number in range(round(seconds * fps)):
        at_s = number / fps
        scene, inside_s = int(at_s // SCENE_S), at_s % SCENE_S
        picture = _view(scenes[scene % len(scenes)], inside_s / SCENE_S, scene, size_hw)
        if inside_s > SCENE_S - FADE_S:
            share = (inside_s - SCENE_S + FADE_S) / FADE_S
            following = _view(scenes[(scene + 1) % len(scenes)], 0.0, scene + 1, size_hw)
            picture = cv2.addWeighted(following, share, picture, 1 - share, 0)
        grain = noise[number % len(noise)]
        yield cv2.cvtColor(cv2.add(picture, grain, dtype=cv2.CV_8U), cv2.COLOR_RGB2BGR)


def _view(photo_HWC: np.ndarray, share: float, scene: int, size_hw: tuple[int, int]) -> np.ndarray:
    """What the camera sees of a photograph after `share` of its scene: a smooth path, a slow zoom, a shaking hand."""
    height, width = photo_HWC.shape[:2]
    smooth = share * share * (3 - 2 * share)
    zoom = 0.80 + 0.18 * (smooth if scene % 2 else 1 - smooth)
    scale = zoom * min(width / size_hw[1], height / size_hw[0])
    seen_w, seen_h = scale * size_hw[1], scale * size_hw[0]
    across = smooth if scene % 3 else 1 - smooth
    x = (width - seen_w) * (0.1 + 0.8 * across) + 2 * np.sin(17 * share)
    y = (height - seen_h) * (0.5 + 0.3 * np.sin(3 * share + scene)) + 2 * np.cos(23 * share)
    matrix = np.array([[1 / scale, 0, -x / scale], [0, 1 / scale, -y / scale]], np.float64)
    return cv2.warpAffine(photo_HWC, matrix, size_hw[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def write_film(path: Path, seconds: float = 30.0, fps: float = 30.0, size_hw: tuple[int, int] = (480, 640)) -> None:
    """Write the film as MP4."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size_hw[::-1])
    assert writer.isOpened(), path
    for frame in frames(seconds, fps, size_hw):
        writer.write(frame)
    writer.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--fps", type=float, default=30.0)
    arguments = parser.parse_args()
    write_film(arguments.out, arguments.seconds, arguments.fps)
