"""A window on the desktop, where OpenCV has one."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import Any

import numpy as np

from .capture import quiet_capture
from .errors import OutputError

TITLE = "slimpath stream"
_KEYS_THAT_END = (27, ord("q"))


def window_system(build_information: str) -> str | None:
    """The one that this OpenCV was built with, by its own account; None for the headless builds."""
    named = re.search(r"^\s*GUI:[ \t]*(\S+)", build_information, re.MULTILINE)
    if named is not None:
        return None if named[1] == "NONE" else named[1]
    listed = re.search(r"^\s*(QT\d*|GTK\+|Win32 UI|Cocoa):\s*YES", build_information, re.MULTILINE)  # OpenCV < 4.6
    return None if listed is None else listed[1]


class Window:
    """An output that keeps the newest picture; `refresh` shows it and must be called by the main thread.

    Raises:
        OutputError: this OpenCV has no windows, or there is no desktop.
    """

    def __init__(self) -> None:
        cv2 = quiet_capture()
        if window_system(cv2.getBuildInformation()) is None:
            raise OutputError(
                "this OpenCV is built without windows",
                hint="leave --show out and use --serve, or install opencv-python in place of opencv-python-headless",
            )
        # Qt ends the whole program where it finds no desktop, so it must not be asked.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("there is no desktop to show a window on", hint="use --serve, and a browser elsewhere")
        self._cv2: Any = cv2
        self._picture: np.ndarray | None = None
        self._lock = threading.Lock()
        self._shown = False

    def show(self, picture_HWC: np.ndarray, tick: int) -> None:
        with self._lock:
            self._picture = picture_HWC

    def refresh(self) -> bool:
        """Show the newest picture and look at the keyboard; True where the reader closed the window or pressed q."""
        with self._lock:
            picture, self._picture = self._picture, None
        if picture is not None:
            self._cv2.imshow(TITLE, self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR))
            self._shown = True
        if not self._shown:
            return False
        pressed = self._cv2.waitKey(1) & 0xFF
        return pressed in _KEYS_THAT_END or self._cv2.getWindowProperty(TITLE, self._cv2.WND_PROP_VISIBLE) < 1

    def close(self) -> None:
        if self._shown:
            self._shown = False
            self._cv2.destroyAllWindows()
