"""From one thread to the next: the newest thing only, so that nobody ever works on what is out of date."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """Holds at most one thing.

    Args:
        lossless: `put` waits until the last thing was taken; otherwise the new one replaces it.
    """

    def __init__(self, *, lossless: bool = False) -> None:
        self._lossless = lossless
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Offer a thing. True where it replaced one that nobody had taken. Does nothing after `close`."""
        with self._changed:
            while self._lossless and self._item is not None and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            replaced = self._item is not None
            self._item = item
            self._changed.notify_all()
            return replaced

    def take(self) -> T | None:
        """The newest thing, once; waits for it. None when closed and empty."""
        with self._changed:
            while self._item is None and not self._closed:
                self._changed.wait()
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more will be put. What lies here is still taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
