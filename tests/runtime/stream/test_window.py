"""A window only where there is one."""

from __future__ import annotations

import cv2
import pytest

from slimpath.runtime.stream.errors import OutputError
from slimpath.runtime.stream.window import Window, window_system
from slimpath.tests.runtime.stream.conftest import numbered

HEADLESS = "  GUI:                           NONE\n    VTK support:                 NO\n"
QT = "  GUI:                           QT5\n    QT:                          YES (ver 5.15.2)\n"
OLD_GTK = "  GUI: \n    GTK+:                        YES (ver 3.24.20)\n"


def test_build_says_whether_it_has_windows() -> None:
    assert [window_system(text) for text in (HEADLESS, QT, OLD_GTK, "")] == [None, "QT5", "GTK+", None]


def test_headless_build_and_missing_desktop_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: HEADLESS)
    with pytest.raises(OutputError, match=r"built without windows.*--serve"):
        Window()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: QT)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="no desktop"):
        Window()


def test_newest_picture_is_shown_by_the_main_thread_and_q_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    keys = iter([255, ord("q"), 255])
    visible = [1.0]
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: QT)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(float(picture.mean())), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda ms: next(keys), raising=False)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *a: visible[0], raising=False)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: shown.append(-1), raising=False)
    window = Window()
    assert window.refresh() is False  # nothing to show yet
    window.show(numbered(10), 0)
    window.show(numbered(20), 1)
    assert shown == []
    assert window.refresh() is False and shown == [20]
    assert window.refresh() is True and shown == [20]
    visible[0] = 0.0
    assert window.refresh() is True  # closed by its button
    window.close()
    window.close()
    assert shown == [20, -1]
