"""A photograph for tests: made up, always the same, with edges and grain, so that it compresses as real ones do."""

from __future__ import annotations

SIZE_HW = (480, 640)
QUALITY = 90


def made_up_photograph(size_hw: tuple[int, int] = SIZE_HW, *, seed: int = 0) -> bytes:
    """A JPEG file, some 100 kB at 640 x 480."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    height, width = size_hw
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.stack([128 + 60 * np.sin(x / width * 5 + c) + 40 * np.cos(y / height * 4 - c) for c in range(3)], -1)
    for _ in range(40):
        corner = rng.integers(0, (width, height))
        size = rng.integers(8, max(width // 4, 9), 2)
        colour = tuple(float(value) for value in rng.integers(0, 256, 3))
        cv2.rectangle(picture, corner.tolist(), (corner + size).tolist(), colour, -1)
    picture += rng.normal(0, 6, picture.shape)
    done, data = cv2.imencode(".jpg", np.clip(picture, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise OSError("OpenCV could not encode a JPEG")
    return data.tobytes()
