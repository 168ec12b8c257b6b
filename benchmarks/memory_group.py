"""A memory control group (version 1 or 2) for one measured process. Needs the right to make one."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from slimpath.runtime.cpus import group_folders

_FILES = {
    1: {
        "limit": "memory.limit_in_bytes",
        "usage": "memory.usage_in_bytes",
        "peak": "memory.max_usage_in_bytes",
    },
    2: {"limit": "memory.max", "usage": "memory.current", "peak": "memory.peak"},
}


class Group:
    """A group of that name at the root of the tree; made when it is entered."""

    def __init__(self, name: str) -> None:
        self._version, root = self._root()
        self._folder = root / name

    @staticmethod
    def _root() -> tuple[int, Path]:
        """The last of our groups is the root of its tree."""
        found = [(version, folder) for version, folder in group_folders("memory") if folder.is_dir()]
        trees = {
            version: folder for version, folder in found if version == 1 or (folder / "cgroup.controllers").exists()
        }
        if not trees:
            raise OSError("this system has no memory control groups")
        version = min(trees)  # where both are mounted, memory belongs to version 1
        return version, trees[version]

    @classmethod
    def available(cls) -> bool:
        """Whether one can be made here."""
        try:
            group = cls(f"slimpath-try-{os.getpid()}")
            group._folder.mkdir()
            usable = (group._folder / _FILES[group._version]["limit"]).exists()
            group.remove()
        except OSError:
            return False
        return usable

    def enter(self) -> None:
        """Put this process into it; what it holds already stays with its former group."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def limit(self, most_bytes: int) -> None:
        """From now on the group cannot hold more: pages of files go, then the kernel kills."""
        (self._folder / _FILES[self._version]["limit"]).write_text(str(most_bytes))

    def usage(self) -> int:
        return self._read("usage")

    def peak(self) -> int:
        return self._read("peak")

    def most(self) -> int:
        return self._read("limit")

    def remove(self) -> None:
        """After its process has ended; the kernel may need a moment."""
        for _ in range(20):
            with contextlib.suppress(FileNotFoundError):
                try:
                    self._folder.rmdir()
                except OSError:
                    time.sleep(0.05)
                    continue
            return

    def _read(self, what: str) -> int:
        return int((self._folder / _FILES[self._version][what]).read_text())
