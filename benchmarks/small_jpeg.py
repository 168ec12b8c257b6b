"""Pictures of the docs: JPEG files that a repository can hold."""

from __future__ import annotations

import cv2
import numpy as np

MAX_BYTES = 290_000
LONGEST_PX = 1600


def jpeg(picture_HWC: np.ndarray) -> bytes:
    """As good a JPEG of an RGB picture as stays small; larger ones are scaled down first."""
    bgr = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)
    scale = LONGEST_PX / max(bgr.shape[:2])
    if scale < 1:
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    data = b""
    for quality in (90, 80, 70, 60, 50):
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= MAX_BYTES:
            break
    return data
